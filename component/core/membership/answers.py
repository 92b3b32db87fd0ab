"""The channel's answer to a join or leave: what it grants, and how the client gets it.

XEP-0405 §5.6, §5.7.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from component.core.membership.change import Op
from component.core.membership.requests import Request
from schemas import codec, mix
from schemas import stanza as stanzas
from schemas.namespaces import MIX_CORE
from schemas.preferences import agreed, shares_presence
from schemas.records import MembershipRecord
from schemas.stanza import Stanza


def granted(op: Op, reply: Stanza, *, shared: bool | None) -> MembershipRecord | None:
    """Read the membership that a channel grants; None if it gives no usable participant id.

    Presence is shared unless client or channel refuses it (XEP-0404). A second join without a
    preference keeps the former one: `shared`, None before the first join. The channel can only
    restrict it.
    """
    join = find(reply, mix.JOIN_TAGS)
    if join is None:
        return None
    try:
        parsed = mix.bounded(mix.read_join(join))
    except codec.MalformedStanza:
        return None
    if parsed.participant_id is None:
        return None
    word = shares_presence(join)
    wish = shared if op.wish is None else op.wish
    return MembershipRecord(
        channel=op.channel.text,
        participant_id=parsed.participant_id,
        nick=parsed.nick,
        nodes=list(parsed.nodes),
        core=op.request.core if op.request is not None else op.core,
        shares_presence=agreed(wish, word),
    )


def joined(request: Request, reply: Stanza, participant_id: str) -> ET.Element:
    """Wrap the channel's `<join/>`, with the participant id in both ways it is read.

    Kaidan reads `id`, Siskin and Beagle read `jid='X#channel'`.
    """
    inner = _inner(request, reply, mix.JOIN_TAGS)
    inner.set("id", participant_id)
    inner.set("jid", f"{participant_id}#{request.channel}")
    return _wrapped(request, inner)


def left(request: Request, reply: Stanza | None) -> ET.Element:
    """Wrap the channel's `<leave/>`, or a new one if it gave none."""
    return _wrapped(request, _inner(request, reply, mix.LEAVE_TAGS))


def find(reply: Stanza, tags: tuple[str, ...]) -> ET.Element | None:
    """Find the first child with one of the tags."""
    for child in reply.element:
        if child.tag in tags:
            return child
    return None


def _inner(request: Request, reply: Stanza | None, tags: tuple[str, ...]) -> ET.Element:
    """Find the channel's `<join/>` or `<leave/>`, or make an empty one."""
    found = None if reply is None else find(reply, tags)
    return ET.Element(tags[request.core]) if found is None else found


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
