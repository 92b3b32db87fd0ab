"""The roster as the tap reads and writes it for the component (tap protocol T8, C3)."""

from __future__ import annotations

from schemas.namespaces import MIX_ROSTER, ROSTER, TAP

QUERY_TAG = f"{{{ROSTER}}}query"
ITEM_TAG = f"{{{ROSTER}}}item"
ANNOTATE_TAG = f"{{{MIX_ROSTER}}}annotate"
PAGE_TAG = f"{{{TAP}}}page"
CHANNEL_TAG = f"{{{MIX_ROSTER}}}channel"
