"""Records in Redis: versioned, one JSON document each.

A record is validated on every read; the store sets an invalid one aside.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas import jid, mix
from schemas.mix import MAX_PARTICIPANT_ID


# Many users are in the same few channels.
@lru_cache(maxsize=2_000)
def _bare(text: str) -> str:
    parsed = jid.parse(text)
    if not parsed.is_bare_user or str(parsed) != text:
        raise ValueError("not a canonical bare JID")
    return text


BareJid = Annotated[str, AfterValidator(_bare)]


def _bounded_nick(nick: str | None) -> str | None:
    if nick is None or len(nick) <= mix.MAX_NICK // 4:  # at most four bytes each
        return nick
    return mix.bounded(mix.Join(None, nick, ())).nick


def _bounded_nodes(nodes: list[str]) -> list[str]:
    if len(nodes) <= mix.MAX_NODES and sum(map(len, nodes)) <= mix.MAX_NODES_BYTES // 4:
        return nodes
    return list(mix.bounded(mix.Join(None, None, tuple(nodes))).nodes)


CoreVersion = Literal[0, 1]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, cache_strings="keys")

    v: Literal[1] = 1


class MembershipRecord(_Record):
    """A user is a participant of a channel.

    Older versions wrote nicks and nodes beyond the bounds of `schemas.mix`; only the part within
    them is read.
    """

    channel: BareJid
    participant_id: Annotated[str, Field(min_length=1, max_length=MAX_PARTICIPANT_ID)]
    nick: Annotated[str | None, AfterValidator(_bounded_nick)] = None
    nodes: Annotated[list[str], AfterValidator(_bounded_nodes)] = []
    core: CoreVersion = 1
    shares_presence: bool = True


class JournalRecord(_Record):
    """A change of membership that is under way.

    `ask`: the channel has been asked, or is about to be. `roster`: the membership is written and
    the roster has to follow. `member` tells whether the user was a participant before.
    """

    kind: Literal["join", "leave"]
    channel: BareJid
    step: Literal["ask", "roster"]
    core: CoreVersion = 1
    member: bool = False
    shares_presence: bool = True


class CapabilityRecord(_Record):
    """The relevant features of a verified capabilities hash."""

    features: list[str]
