"""Users' rosters: read and written through the tap, and annotated for MIX clients."""
