"""Reads and validates client-join and client-leave (XEP-0405 §5.6, §5.7).

Clients are told in words what to change; a request that passes is safe to act upon.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Literal, NamedTuple

from component.core.context import Context
from component.core.errors import Refusal, bad_request
from schemas import codec, jid, mix, pam
from schemas.jid import Jid
from schemas.namespaces import MIX_CORE, MIX_PAM
from schemas.records import CoreVersion
from schemas.stanza import Stanza

_CORE_OF_PAM: Mapping[str, CoreVersion] = {MIX_PAM[0]: 0, MIX_PAM[1]: 0, MIX_PAM[2]: 1}
"""The version of MIX core that belongs to each version of MIX-PAM."""

MAX_ID = 1024
"""Bytes of a request's id; it goes to the channel and back."""


class Request(NamedTuple):
    """A client's request to join or leave a channel.

    `wrapper` is the tag of `<client-join/>` or `<client-leave/>`, `inner` the tree of
    `<join/>` or `<leave/>` and `core` the version of its namespace.
    """

    kind: Literal["join", "leave"]
    user: Jid
    device: Jid
    id: str
    channel: Jid
    wrapper: str
    inner: ET.Element
    core: CoreVersion
    stanza: Stanza


def read(context: Context, stanza: Stanza) -> Request:
    """Read a request from a user's own session.

    Raises Refusal (feature-not-implemented, bad-request, jid-malformed or forbidden) with
    a text that tells the client's author what to mend.
    """
    payload = stanza.payload
    if payload is None:  # pragma: no cover - such a one is a stray and not read
        raise bad_request("the iq is empty")
    user = stanza.sender.bare
    if not context.is_local(stanza.sender) or user != stanza.to or stanza.sender == user:
        raise Refusal("auth", "forbidden", "only your own session may do this for you")
    if stanza.type != "set":
        raise Refusal("cancel", "feature-not-implemented", "joining and leaving take type='set'")
    if not stanza.id or len(stanza.id.encode()) > MAX_ID:
        raise bad_request("the iq has no usable id")
    if payload.tag in pam.CLIENT_JOIN:
        kind: Literal["join", "leave"] = "join"
        tags = mix.JOIN_TAGS
    elif payload.tag in pam.CLIENT_LEAVE:
        kind = "leave"
        tags = mix.LEAVE_TAGS
    else:
        raise bad_request("neither <client-join/> nor <client-leave/>")
    codec.refuse_text(payload)
    inner = _inner(payload, kind, tags)
    channel = _channel(context, payload.get("channel"))
    core: CoreVersion = 1 if inner.tag == tags[1] else 0
    if kind == "join":
        try:
            mix.refuse_too_much(mix.read_join(inner))
        except codec.MalformedStanza as error:
            raise bad_request(f"<join/> is not as XEP-0369 says: {error}") from None
    return Request(kind, user, stanza.sender, stanza.id, channel, payload.tag, inner, core, stanza)


def _inner(payload: ET.Element, kind: str, tags: tuple[str, ...]) -> ET.Element:
    found = [child for child in payload if child.tag in tags]
    if len(found) != 1:
        raise bad_request(
            f"<client-{kind}/> takes exactly one <{kind}/> in {MIX_CORE[1]} or {MIX_CORE[0]}"
        )
    inner = found[0]
    pam = payload.tag[1:].partition("}")[0]
    if inner.tag != tags[_CORE_OF_PAM[pam]]:
        raise bad_request(f"{pam} goes with {MIX_CORE[_CORE_OF_PAM[pam]]}")
    own = MIX_CORE[tags.index(inner.tag)]
    other = MIX_CORE[1 - tags.index(inner.tag)]
    if any(part.tag.startswith(f"{{{other}}}") for part in inner.iter()):
        raise bad_request(f"<{kind}/> mixes {own} and {other}")
    return inner


def _channel(context: Context, text: str | None) -> Jid:
    if not text:
        raise bad_request("the attribute 'channel' is missing")
    try:
        channel = jid.parse(text)
    except ValueError as error:
        raise Refusal("modify", "jid-malformed", f"channel: {error}") from None
    if not channel.is_bare_user:
        raise Refusal("modify", "jid-malformed", "channel must look like name@service")
    if channel.domain in context.domains or channel.domain == context.own.domain:
        raise Refusal("cancel", "item-not-found", f"{channel.domain} is no MIX service")
    return channel
