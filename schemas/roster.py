"""The roster as the tap reads and writes it for us (tap protocol T8, C3)."""

from __future__ import annotations

from aioxmpp import xso

from schemas.namespaces import MIX_ROSTER, ROSTER, TAP

QUERY_TAG = f"{{{ROSTER}}}query"
ITEM_TAG = f"{{{ROSTER}}}item"
ANNOTATE_TAG = f"{{{MIX_ROSTER}}}annotate"
PAGE_TAG = f"{{{TAP}}}page"
CHANNEL_TAG = f"{{{MIX_ROSTER}}}channel"


class Item(xso.XSO):
    """One roster item; name and groups are the user's and pass us by."""

    TAG = (ROSTER, "item")
    UNKNOWN_CHILD_POLICY = xso.UnknownChildPolicy.DROP
    UNKNOWN_ATTR_POLICY = xso.UnknownAttrPolicy.DROP

    jid = xso.Attr("jid")
    subscription = xso.Attr("subscription", default="none")

    def __init__(self, jid: str, subscription: str) -> None:
        super().__init__()
        self.jid = jid
        self.subscription = subscription


class Query(xso.XSO):
    """A roster, a change to it, or the request for it."""

    TAG = (ROSTER, "query")
    UNKNOWN_CHILD_POLICY = xso.UnknownChildPolicy.DROP
    UNKNOWN_ATTR_POLICY = xso.UnknownAttrPolicy.DROP

    items = xso.ChildList([Item])

    def __init__(self, *items: Item) -> None:
        super().__init__()
        self.items.extend(items)
