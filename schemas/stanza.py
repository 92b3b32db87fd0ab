"""One stanza of the control lane: its canonical addresses and its tree."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import NamedTuple

from schemas import codec, jid
from schemas.jid import Jid
from schemas.namespaces import CLIENT, STANZAS

MESSAGE = f"{{{CLIENT}}}message"
PRESENCE = f"{{{CLIENT}}}presence"
IQ = f"{{{CLIENT}}}iq"
ERROR = f"{{{CLIENT}}}error"

_DEFAULT_TYPE: Mapping[str, str] = {MESSAGE: "normal", PRESENCE: "available", IQ: ""}


class Stanza(NamedTuple):
    """A message, presence or iq with canonical addresses.

    `type` is the effective one: "normal" for a message and "available" for a presence
    without the attribute. `unread` is the reason why its content could not be read, in words for
    its sender; the element is then empty.
    """

    kind: str
    type: str
    id: str | None
    sender: Jid
    to: Jid
    element: ET.Element
    unread: str = ""

    @property
    def payload(self) -> ET.Element | None:
        """The first child other than `<error/>`, or None."""
        for child in self.element:
            if child.tag != ERROR:
                return child
        return None

    @property
    def error(self) -> ET.Element | None:
        """The `<error/>` child, or None."""
        return self.element.find(ERROR)


def has_condition(reply: Stanza, condition: str) -> bool:
    """Tell whether an error has the given defined condition."""
    return reply.error is not None and reply.error.find(f"{{{STANZAS}}}{condition}") is not None


_BLOCKED = "{urn:xmpp:blocking:errors}blocked"


def is_blocked(reply: Stanza) -> bool:
    """Tell whether an error means that the sender has blocked the addressee (XEP-0191 §3.3)."""
    return reply.error is not None and reply.error.find(_BLOCKED) is not None


def parse(data: bytes) -> Stanza:
    """Read a stanza as cut from the stream.

    Raises schemas.codec.MalformedStanza if it is not a stanza with two usable addresses.
    """
    element = codec.read(data)
    get = element.get
    sender, to = get("from", ""), get("to", "")
    return _addressed(element.tag, get("type"), get("id"), (sender, to), element)


def head(name: bytes, type_: bytes, id_: bytes, sender: bytes, to: bytes, *, why: str) -> Stanza:
    """Make a stanza from the start tag of one that cannot be read, and from the reason.

    Values are as on the wire, empty if absent. Raises MalformedStanza as `parse` does.
    """
    kind = f"{{{CLIENT}}}{name.decode(errors='replace')}"
    type_text, id_text = _text(type_) or None, _text(id_) or None
    element = ET.Element(kind)
    found = _addressed(kind, type_text, id_text, (_text(sender), _text(to)), element)
    return unread(found, why)


def unread(stanza: Stanza, why: str) -> Stanza:
    """Give a stanza without its content, which cannot be read; an error stays an error."""
    element = ET.Element(stanza.kind)
    if stanza.type == "error":
        element.append(error("cancel", "undefined-condition", f"the error cannot be read: {why}"))
    return stanza._replace(element=element, unread=why)


def _addressed(
    kind: str, type_: str | None, id_: str | None, addresses: tuple[str, str], element: ET.Element
) -> Stanza:
    default_type = _DEFAULT_TYPE.get(kind)
    if default_type is None:
        raise codec.MalformedStanza("not a message, presence or iq")
    try:
        sender, to = addresses
        return Stanza(kind, type_ or default_type, id_, jid.parse(sender), jid.parse(to), element)
    except ValueError as why:
        raise codec.MalformedStanza(f"unusable address: {why}") from None


_REFERENCE = re.compile(r"&(?:#x([0-9A-Fa-f]{1,6})|#([0-9]{1,7})|(amp|lt|gt|apos|quot));")
_NAMED: Mapping[str, str] = {"amp": "&", "lt": "<", "gt": ">", "apos": "'", "quot": '"'}


def _text(raw: bytes) -> str:
    """Read an attribute's value as it stands on the wire. Raises MalformedStanza."""
    try:
        return _REFERENCE.sub(_referred, raw.decode())
    except (ValueError, OverflowError):
        raise codec.MalformedStanza("an attribute that is not well-formed") from None


def _referred(found: re.Match[str]) -> str:
    by_hex, by_number, name = found.groups()
    return _NAMED[name] if name else chr(int(by_hex, 16) if by_hex else int(by_number))


def make(
    kind: str, type_: str | None, sender: Jid, to: Jid, id_: str | None, *children: ET.Element
) -> ET.Element:
    """Build a stanza around children; attributes that are None are left out."""
    attributes = {} if type_ is None else {"type": type_}
    attributes["from"], attributes["to"] = sender.text, to.text
    if id_ is not None:
        attributes["id"] = id_
    element = ET.Element(kind, attributes)
    element.extend(children)
    return element


def error(type_: str, condition: str, text: str | None = None) -> ET.Element:
    """Build the `<error/>` of a stanza error (RFC 6120 §8.3)."""
    element = ET.Element(ERROR, {"type": type_})
    ET.SubElement(element, f"{{{STANZAS}}}{condition}")
    if text:
        ET.SubElement(element, f"{{{STANZAS}}}text").text = text
    return element


def blocked() -> ET.Element:
    """Build the error for a request to a blocked address (XEP-0191 §3.3)."""
    element = error("cancel", "not-acceptable", "You have blocked this address")
    ET.SubElement(element, _BLOCKED)
    return element
