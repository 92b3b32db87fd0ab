"""From a channel to its participants' devices: the hot lane, and what must wait or is refused."""
