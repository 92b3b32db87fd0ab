"""Redis: its keys and records, and how they are read, written and followed."""
