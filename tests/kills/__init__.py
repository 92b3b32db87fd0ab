"""Kills parts of a running system at a chosen step of what users do; see `__main__`."""
