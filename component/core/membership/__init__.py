"""Joining and leaving: from a request, or an end without one, to roster and answer."""
