"""Roster items that may be channels, and errors that leave open whether a domain has any."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable

from component.core.errors import Refusal
from schemas import jid, roster
from schemas.jid import Jid
from schemas.namespaces import STANZAS

_SILENT = frozenset(
    {
        "remote-server-timeout",
        "remote-server-not-found",
        "internal-server-error",
        "resource-constraint",
    }
)


def channel_like(query: ET.Element) -> Iterable[tuple[Jid, str]]:
    """Give the roster items that could be channels, with their subscriptions."""
    for item in query.iterfind(roster.ITEM_TAG):
        try:
            address = jid.parse(item.get("jid", ""))
        except ValueError:
            continue
        # `id#channel@…` is a participant whom the user has befriended, no channel.
        if address.is_bare_user and "#" not in (address.local or ""):
            yield address, item.get("subscription", "none")


def is_silent(refused: Refusal | ET.Element) -> bool:
    """Tell whether a domain could not be asked, rather than said what it is."""
    if isinstance(refused, Refusal):
        return refused.condition in _SILENT
    return any(refused.find(f"{{{STANZAS}}}{condition}") is not None for condition in _SILENT)
