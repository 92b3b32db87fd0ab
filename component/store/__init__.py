"""The memory: what Redis holds, how it is named, read and written."""
