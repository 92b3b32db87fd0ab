"""One stanza of the control lane: its addressing, canonical, and its tree."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import NamedTuple

from schemas import codec, jid
from schemas.jid import Jid
from schemas.namespaces import CLIENT, STANZAS

MESSAGE = f"{{{CLIENT}}}message"
PRESENCE = f"{{{CLIENT}}}presence"
IQ = f"{{{CLIENT}}}iq"
ERROR = f"{{{CLIENT}}}error"

_DEFAULT_TYPE = {MESSAGE: "normal", PRESENCE: "available", IQ: ""}


class Stanza(NamedTuple):
    """A message, presence or iq with canonical addresses.

    `type` is the effective one: "normal" for a message and "available" for a presence
    without the attribute.
    """

    kind: str
    type: str
    id: str | None
    sender: Jid
    to: Jid
    element: ET.Element

    @property
    def payload(self) -> ET.Element | None:
        """The first child that is no error, or None."""
        return next((child for child in self.element if child.tag != ERROR), None)

    @property
    def error(self) -> ET.Element | None:
        """The `<error/>` child, or None."""
        return self.element.find(ERROR)


def has_condition(reply: Stanza, condition: str) -> bool:
    """Tell whether an error has the given defined condition."""
    return reply.error is not None and reply.error.find(f"{{{STANZAS}}}{condition}") is not None


def parse(data: bytes) -> Stanza:
    """Read a stanza as cut from the stream.

    Raises schemas.codec.MalformedStanza if it is not a stanza with two usable addresses.
    """
    element = codec.read(data)
    default_type = _DEFAULT_TYPE.get(element.tag)
    if default_type is None:
        raise codec.MalformedStanza("not a message, presence or iq")
    try:
        sender = jid.parse(element.get("from", ""))
        to = jid.parse(element.get("to", ""))
    except ValueError as error:
        raise codec.MalformedStanza(f"unusable address: {error}") from None
    return Stanza(
        element.tag, element.get("type") or default_type, element.get("id"), sender, to, element
    )


def make(
    kind: str, type_: str | None, sender: Jid, to: Jid, id_: str | None, *children: ET.Element
) -> ET.Element:
    """Build a stanza around children; attributes that are None are left out."""
    element = ET.Element(kind)
    for key, value in (("type", type_), ("from", str(sender)), ("to", str(to)), ("id", id_)):
        if value is not None:
            element.set(key, value)
    element.extend(children)
    return element


def error(type_: str, condition: str, text: str | None = None) -> ET.Element:
    """Build the `<error/>` of a stanza error (RFC 6120 §8.3)."""
    element = ET.Element(ERROR, {"type": type_})
    ET.SubElement(element, f"{{{STANZAS}}}{condition}")
    if text:
        ET.SubElement(element, f"{{{STANZAS}}}text").text = text
    return element
