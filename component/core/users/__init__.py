"""Who is in which channel, and which devices are online: rows for look-ups, kept small."""
