"""Do memory, roster and channel still agree? Comparisons, and what follows from them."""
