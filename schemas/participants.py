"""Reads a channel's participants node (XEP-0369 §5.1, "Participants Node"; XEP-0060 §6.5)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from schemas import jid
from schemas.jid import Jid
from schemas.mix import MAX_PARTICIPANT_ID
from schemas.namespaces import MIX_CORE, MIX_NODES, PUBSUB
from schemas.records import CoreVersion

NODE = f"{MIX_NODES}participants"
MOST_LISTED = 10_000
"""Maximum entries in an answer; a longer list counts as not understood."""

_MOST_ODD = 200
"""JIDs in it that may need preparation, which is slow: services write them prepared."""

_PUBSUB_TAG = f"{{{PUBSUB}}}pubsub"
_ITEMS_TAG = f"{{{PUBSUB}}}items"
_ITEM_TAG = f"{{{PUBSUB}}}item"
_SET_TAG = "{http://jabber.org/protocol/rsm}set"


@dataclass(frozen=True, slots=True)
class Participant:
    """One participant. `jid` is as the channel writes it, None if the channel hides it."""

    id: str
    jid: str | None
    nick: str | None
    core: CoreVersion


@dataclass(frozen=True)
class ParticipantList:
    """A channel's answer about its participants.

    `complete` is False for one page of several: a missing participant may be on another.
    `understood` is False if some entries did not have the expected form.
    """

    participants: tuple[Participant, ...]
    complete: bool
    understood: bool

    def of(self, user: Jid) -> Participant | None:
        """Find a user by bare JID."""
        return self._by_jid.get(str(user))

    def by_id(self, participant_id: str) -> Participant | None:
        """Find a participant by id."""
        return self._by_id.get(participant_id)

    @cached_property
    def _by_jid(self) -> dict[str, Participant]:
        written = [(each.jid, each) for each in self.participants if each.jid is not None]
        odd = ((text, each) for text, each in written if not jid.is_plain(text))
        prepared = [
            (str(bare), each)
            for text, each in islice(odd, _MOST_ODD)
            if (bare := _bare(text)) is not None
        ]
        return dict(prepared) | dict(written)

    @cached_property
    def _by_id(self) -> dict[str, Participant]:
        return {each.id: each for each in self.participants}

    @property
    def hides(self) -> bool:
        """Whether some participants are listed without their JID."""
        return any(each.jid is None for each in self.participants)


def request(ids: Iterable[str] = ()) -> ET.Element:
    """Build the request for all participants, or for those with the `ids` (XEP-0060 §6.5.8).

    Some services, such as ejabberd's, answer with all in either case.
    """
    pubsub = ET.Element(_PUBSUB_TAG)
    items = ET.SubElement(pubsub, _ITEMS_TAG, {"node": NODE})
    for id_ in ids:
        ET.SubElement(items, _ITEM_TAG, {"id": id_})
    return pubsub


def read(stanza: ET.Element) -> ParticipantList | None:
    """Read the answer to `request`; None for anything else."""
    pubsub = stanza.find(_PUBSUB_TAG)
    items = None if pubsub is None else pubsub.find(_ITEMS_TAG)
    if pubsub is None or items is None:
        return None
    listed = list(islice(items.iterfind(_ITEM_TAG), MOST_LISTED + 1))
    if len(listed) > MOST_LISTED:
        return ParticipantList((), complete=False, understood=False)
    read_ = [_participant(item) for item in listed]
    found = tuple(each for each in read_ if each is not None)
    return ParticipantList(found, pubsub.find(_SET_TAG) is None, len(found) == len(listed))


def _participant(item: ET.Element) -> Participant | None:
    id_ = item.get("id", "")
    if not id_ or len(id_.encode()) > MAX_PARTICIPANT_ID or set(id_) & set("#/@"):
        return None
    for core in (1, 0):
        namespace = f"{{{MIX_CORE[core]}}}"
        entry = item.find(f"{namespace}participant")
        if entry is not None:
            return Participant(
                id_,
                # Older services, such as ejabberd 23.01, write attributes.
                _text(entry.findtext(f"{namespace}jid", entry.get("jid"))),
                entry.findtext(f"{namespace}nick", entry.get("nick")),
                1 if core else 0,
            )
    return None


def _text(text: str | None) -> str | None:
    return None if text is None else text.strip().partition("/")[0] or None


def _bare(text: str) -> Jid | None:
    try:
        return jid.parse(text).bare
    except ValueError:
        return None
