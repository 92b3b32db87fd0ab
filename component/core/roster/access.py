"""The users' rosters: read and written through the tap (tap protocol C3).

Channels are in the roster because the XEP makes the roster the record of membership
(XEP-0405 §5.8): subscription `from` where presence is shared, `none` where not. One is read
in pages, if its tap has them: it may be larger than any stanza.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from component.core.context import Context
from component.core.errors import Refusal, wait
from schemas import jid, roster
from schemas.jid import Jid
from schemas.stanza import Stanza, has_condition

Refused = Callable[[ET.Element | Refusal | None], None]
"""Gets None when done, else why not."""


Outcome = Literal["read", "no-account", "unreadable"]
"""How reading a roster ended: with all that was wanted, or why not."""

Take = Callable[[ET.Element], bool]
"""Gets one part of a roster after the other, each a `<query/>`; True if that is enough."""


@dataclass(slots=True)
class _Reading:
    """A roster that is being read. `after` is where its next page begins."""

    user: Jid
    take: Take
    then: Callable[[Outcome], None]
    after: str = ""

    def moves_on(self, query: ET.Element) -> bool:
        """Have the next page begin behind this one; False if it goes round in circles."""
        items = query.findall(roster.ITEM_TAG)
        last = items[-1].get("jid", "") if items else ""
        if last.encode() <= self.after.encode():
            return False
        self.after = last
        return True


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
        found = False

        def take(query: ET.Element) -> bool:
            nonlocal found
            found = any(_is_item(item, channel) for item in query.iterfind(roster.ITEM_TAG))
            return found

        def end(outcome: Outcome) -> None:
            then(found if outcome == "read" else None)

        self.read(user, take, end)

    def read(self, user: Jid, take: Take, then: Callable[[Outcome], None]) -> None:
        """Read a user's roster; `take` gets it in parts, `then` how it ended."""
        self._ask(_Reading(user, take, then))

    def _ask(self, reading: _Reading) -> None:
        context = self._context
        query = ET.Element(roster.QUERY_TAG)
        if context.tap(reading.user.domain).pages:
            page = ET.SubElement(query, roster.PAGE_TAG)
            if reading.after:
                page.set("after", reading.after)
        request = context.iq("get", context.own, reading.user, query)
        context.ask(
            request, context.limits.server_timeout, lambda reply: self._told(reading, reply)
        )

    def _told(self, reading: _Reading, reply: Stanza | None) -> None:
        query = None if reply is None else reply.element.find(roster.QUERY_TAG)
        if reply is not None and has_condition(reply, "item-not-found"):
            reading.then("no-account")
        elif reply is None or reply.type != "result" or query is None:
            reading.then("unreadable")
        elif reading.take(query) or not _has_more(query):
            reading.then("read")
        elif reading.moves_on(query):
            self._ask(reading)
        else:
            reading.then("unreadable")


def _has_more(query: ET.Element) -> bool:
    page = query.find(roster.PAGE_TAG)
    return page is not None and page.get("more") in {"true", "1"}


def _canonical(text: str) -> Jid | None:
    try:
        return jid.parse(text)
    except ValueError:
        return None


def _is_item(item: ET.Element, channel: Jid) -> bool:
    return _canonical(item.get("jid", "")) == channel
