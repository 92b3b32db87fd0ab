"""The one seam where stanza errors are made.

A handler raises `Refusal`; `Context.refuse` answers with the error stanza made here. An error
is never answered with an error (RFC 6120 §8.3.1): what must not be answered is dropped.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from schemas import codec
from schemas import stanza as stanzas
from schemas.namespaces import STANZAS
from schemas.stanza import Stanza

CONDITIONS = frozenset(
    {
        "bad-request", "conflict", "feature-not-implemented", "forbidden", "gone",
        "internal-server-error", "item-not-found", "jid-malformed", "not-acceptable",
        "not-allowed", "not-authorized", "payment-required", "policy-violation",
        "recipient-unavailable", "redirect", "registration-required",
        "remote-server-not-found", "remote-server-timeout", "resource-constraint",
        "service-unavailable", "subscription-required", "undefined-condition",
        "unexpected-request",
    }
)  # fmt: skip
"""The defined conditions of RFC 6120 §8.3.3, and payment-required of RFC 3920."""


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault
    """A request that gets a stanza error: type, condition and a text for its sender."""

    def __init__(self, type_: str, condition: str, text: str | None = None) -> None:
        super().__init__(condition)
        self.type = type_
        self.condition = condition
        self.text = text


def bad_request(text: str) -> Refusal:
    """Refuse a request that does not conform to the XEP."""
    return Refusal("modify", "bad-request", text)


def wait(condition: str, text: str) -> Refusal:
    """Refuse what may work later."""
    return Refusal("wait", condition, text)


def unusable(reply: Stanza) -> Refusal:
    """Refuse a join whose result tells of no participant that there could be."""
    what = f"answer: {reply.unread}" if reply.unread else "participant id"
    return Refusal("cancel", "undefined-condition", f"the channel gave no usable {what}")


def condition_of(why: Refusal | ET.Element) -> str:
    """Name the defined condition of a `Refusal`, or of a received `<error/>`.

    Never anything but such a name, whatever a peer has written there.
    """
    if isinstance(why, Refusal):
        return why.condition
    names = (child.tag[1:].partition("}") for child in why)
    found = (name for space, _, name in names if space == STANZAS and name in CONDITIONS)
    return next(found, "undefined-condition")


def error_for(stanza: Stanza, refusal: Refusal) -> ET.Element | None:
    """Make the error that answers a stanza; None for an error, a result or a presence."""
    answerable = (stanza.kind == stanzas.IQ and stanza.type in {"get", "set"}) or (
        stanza.kind == stanzas.MESSAGE and stanza.type not in {"error", "headline"}
    )
    if not answerable:
        return None
    error = stanzas.error(refusal.type, refusal.condition, _fit(refusal.text))
    return stanzas.make(stanza.kind, "error", stanza.to, stanza.sender, stanza.id, error)


MAX_TEXT = 500
"""Characters of an error's text: part of it may be what a stranger wrote."""


def _fit(text: str | None) -> str | None:
    """Give a text that fits into an error, whatever it quotes."""
    return None if text is None else codec.legal(text[:MAX_TEXT])
