"""The join and leave between a participant's server and a channel (XEP-0369 §7.1).

Peers in use today speak `urn:xmpp:mix:core:0` or `:1`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Collection
from typing import NamedTuple

from schemas import codec
from schemas.namespaces import MIX_ANON, MIX_CORE

MAX_PARTICIPANT_ID = 1023
"""Maximum bytes of a participant id; it must fit into a localpart beside the channel's."""


MAX_NICK = 1023
"""Maximum bytes of a nick, the same as for a resource (RFC 7622 §3.4)."""

MAX_NODES = 100
MAX_NODES_BYTES = 4_096
"""Maximum nodes of a membership, and of their bytes together: the XEPs have ten of forty bytes."""

JOIN_TAGS = tuple(f"{{{namespace}}}join" for namespace in MIX_CORE)
LEAVE_TAGS = tuple(f"{{{namespace}}}leave" for namespace in MIX_CORE)


class Join(NamedTuple):
    """The content of a `<join/>`.

    `participant_id` is None if it is missing in both forms, or not usable.
    """

    participant_id: str | None
    nick: str | None
    nodes: tuple[str, ...]


def read_join(join: ET.Element) -> Join:
    """Read a join as an XSO would (tests/harness/xsos.py), in a tenth of the time.

    Raises codec.MalformedStanza where the XSO does not accept it. `bounded` cuts it to what may be
    stored, `refuse_too_much` refuses a join that would be cut.
    """
    namespace = join.tag.removesuffix("join")
    nick: str | None = None
    nodes = []
    subscribe, nick_tag = namespace + "subscribe", namespace + "nick"
    codec.refuse_text(join)
    for child in join:
        if child.tag == subscribe:
            node = child.get("node")
            if node is None:
                raise codec.MalformedStanza("subscribe: the attribute 'node' is missing")
            codec.refuse_text(child)
            nodes.append(node)
        elif child.tag == nick_tag:
            if len(child) or child.attrib:
                raise codec.MalformedStanza("nick: there is more than a text in it")
            nick = child.text or ""
    return Join(_participant_id(join), nick, tuple(nodes))


def bounded(join: Join) -> Join:
    """Remove the part that is too large to be stored: the nick, or the last of the nodes."""
    if is_small(join.nick, join.nodes):
        return join
    nick = join.nick
    if nick is not None and len(nick.encode()) > MAX_NICK:
        nick = None
    size, nodes = 0, []
    for node in join.nodes[:MAX_NODES]:
        size += len(node.encode())
        if size > MAX_NODES_BYTES:
            break
        nodes.append(node)
    return join._replace(nick=nick, nodes=tuple(nodes))


def is_small(nick: str | None, nodes: Collection[str]) -> bool:
    """Tell quickly whether a join is within the bounds; False means only that it may not be.

    A character takes at most four bytes.
    """
    return (
        (nick is None or len(nick) <= MAX_NICK // 4)
        and len(nodes) <= MAX_NODES
        and sum(map(len, nodes)) <= MAX_NODES_BYTES // 4
    )


def refuse_too_much(join: Join) -> None:
    """Refuse a join that `bounded` would cut.

    Raises codec.MalformedStanza.
    """
    if is_small(join.nick, join.nodes):
        return
    kept = bounded(join)
    if kept.nick != join.nick:
        raise codec.MalformedStanza(f"nick: more than {MAX_NICK} bytes")
    if kept.nodes != join.nodes:
        raise codec.MalformedStanza(
            f"subscribe: more than {MAX_NODES} nodes, or {MAX_NODES_BYTES} bytes of them"
        )


def _participant_id(join: ET.Element) -> str | None:
    given = join.get("id")
    if given is None:
        given = join.get("jid", "").partition("#")[0]
    if not given or len(given.encode()) > MAX_PARTICIPANT_ID or not _TROUBLE.isdisjoint(given):
        return None
    return given


_TROUBLE = frozenset("#/@")

USER_PREFERENCE = f"{{{MIX_ANON}}}user-preference"
