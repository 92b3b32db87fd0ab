"""Kills parts of a running system at a chosen step of users' actions; see `__main__`."""
