"""Presence both ways: which devices speak MIX, what channels see of them, and the reverse."""
