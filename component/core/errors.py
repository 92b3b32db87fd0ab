"""The one seam where stanza errors are made.

A handler raises `Refusal`; `answer` turns it into the error stanza. An error is never
answered with an error (RFC 6120 §8.3.1), and what must not be answered is dropped here.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from component.core.context import Context
from schemas import stanza as stanzas
from schemas.namespaces import STANZAS
from schemas.stanza import Stanza


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault
    """A request that gets a stanza error: type, condition and a text for its sender."""

    def __init__(self, type_: str, condition: str, text: str | None = None) -> None:
        super().__init__(condition)
        self.type = type_
        self.condition = condition
        self.text = text


def bad_request(text: str) -> Refusal:
    """Refuse what is not written as the XEP says."""
    return Refusal("modify", "bad-request", text)


def wait(condition: str, text: str) -> Refusal:
    """Refuse what may work later."""
    return Refusal("wait", condition, text)


def condition_of(why: Refusal | ET.Element) -> str:
    """Name the defined condition of a refusal of ours, or of an `<error/>` from elsewhere."""
    if isinstance(why, Refusal):
        return why.condition
    names = (child.tag[1:].partition("}") for child in why)
    return next((name for space, _, name in names if space == STANZAS and name != "text"), "")


def answer(context: Context, stanza: Stanza, refusal: Refusal) -> None:
    """Answer a stanza with an error, unless it is one itself, a result or a presence."""
    answerable = (stanza.kind == stanzas.IQ and stanza.type in {"get", "set"}) or (
        stanza.kind == stanzas.MESSAGE and stanza.type not in {"error", "headline"}
    )
    if not answerable:
        context.drop(refusal.condition)
        return
    context.count("refused", refusal.condition)
    error = stanzas.error(refusal.type, refusal.condition, refusal.text)
    context.send(stanzas.make(stanza.kind, "error", stanza.to, stanza.sender, stanza.id, error))
