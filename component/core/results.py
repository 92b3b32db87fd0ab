"""The channel's answer to a join or leave, as the client gets it (XEP-0405 §5.6, §5.7)."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from component.core.requests import Request
from schemas import codec, mix
from schemas import stanza as stanzas
from schemas.namespaces import MIX_CORE, STANZAS
from schemas.stanza import Stanza


def joined(request: Request, reply: Stanza, participant_id: str) -> ET.Element:
    """Wrap the channel's `<join/>`, with the participant id in both ways it is read.

    Kaidan reads `id`, Siskin and Beagle read `jid='X#channel'`.
    """
    inner = find(reply, mix.JOIN_TAGS)
    if inner is None:  # pragma: no cover - the caller has read it
        inner = codec.from_xso(mix.JOIN[request.core]())
    inner.set("id", participant_id)
    inner.set("jid", f"{participant_id}#{request.channel}")
    return _wrapped(request, inner)


def left(request: Request, reply: Stanza | None) -> ET.Element:
    """Wrap the channel's `<leave/>`, or one of ours where it gave none."""
    inner = None if reply is None else find(reply, mix.LEAVE_TAGS)
    if inner is None:
        inner = codec.from_xso(mix.LEAVE[request.core]())
    return _wrapped(request, inner)


def find(reply: Stanza, tags: tuple[str, ...]) -> ET.Element | None:
    """Find the first child with one of the tags."""
    return next((child for child in reply.element if child.tag in tags), None)


def has_condition(reply: Stanza, condition: str) -> bool:
    """Tell whether an error has the given defined condition."""
    return reply.error is not None and reply.error.find(f"{{{STANZAS}}}{condition}") is not None


def _wrapped(request: Request, inner: ET.Element) -> ET.Element:
    wrapper = ET.Element(request.wrapper)
    _change_core(inner, request.core)
    wrapper.append(inner)
    return stanzas.make(stanzas.IQ, "result", request.user, request.device, request.id, wrapper)


def _change_core(element: ET.Element, core: int) -> None:
    """Put a join or leave into the core namespace that the client asked with."""
    wanted, other = f"{{{MIX_CORE[core]}}}", f"{{{MIX_CORE[1 - core]}}}"
    for part in element.iter():
        if part.tag.startswith(other):
            part.tag = wanted + part.tag.removeprefix(other)
