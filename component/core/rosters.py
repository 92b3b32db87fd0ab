"""The users' rosters: read and written through the tap (tap protocol C3).

Channels are in the roster because the XEP makes the roster the record of membership
(XEP-0405 §5.8): subscription `from` where presence is shared, `none` where not.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable

from component.core.context import Answer, Context
from component.core.errors import Refusal, wait
from schemas import jid, roster
from schemas.jid import Jid
from schemas.stanza import Stanza

Refused = Callable[[ET.Element | Refusal | None], None]
"""Gets None when done, else why not."""


class Rosters:
    """Writes and reads roster items in the user's name."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def set(self, user: Jid, channel: Jid, subscription: str, then: Refused) -> None:
        """Set a channel's item to `from` or `none`, or `remove` it."""
        query = ET.Element(roster.QUERY_TAG)
        ET.SubElement(query, roster.ITEM_TAG, {"jid": str(channel), "subscription": subscription})

        def answered(reply: Stanza | None) -> None:
            if reply is None:
                then(wait("internal-server-error", "the roster did not answer"))
            elif reply.type == "error":
                error = reply.error
                then(Refusal("cancel", "internal-server-error") if error is None else error)
            else:
                then(None)

        context = self._context
        request = context.iq("set", context.own, user, query)
        context.ask(request, context.limits.server_timeout, answered)

    def has(self, user: Jid, channel: Jid, then: Callable[[bool | None], None]) -> None:
        """Find out whether a channel is in the roster; None if that cannot be read."""

        def answered(reply: Stanza | None) -> None:
            query = None if reply is None else reply.element.find(roster.QUERY_TAG)
            if reply is None or reply.type != "result" or query is None:
                then(None)
            else:
                then(any(_is_item(item, channel) for item in query.iterfind(roster.ITEM_TAG)))

        self.read(user, answered)

    def read(self, user: Jid, answer: Answer) -> None:
        """Ask for a user's whole roster; `answer` gets what the server says, or None."""
        context = self._context
        query = ET.Element(roster.QUERY_TAG)
        context.ask(
            context.iq("get", context.own, user, query), context.limits.server_timeout, answer
        )


def _canonical(text: str) -> Jid | None:
    try:
        return jid.parse(text)
    except ValueError:
        return None


def _is_item(item: ET.Element, channel: Jid) -> bool:
    return _canonical(item.get("jid", "")) == channel
