"""Memberships and online devices: one small row for each user, for look-ups."""
