"""What the store no longer holds is forgotten, as if it had never been loaded."""

import pytest
from driver import ANNA, COVEN, Play

from component.core.effects import (
    Change,
    Drop,
    DropCapability,
    DropJournal,
    DropMembership,
    DropShown,
    PutCapability,
    PutJournal,
    PutMembership,
    PutShown,
)
from schemas.records import CapabilityRecord, JournalRecord, MembershipRecord

pytestmark = pytest.mark.abuse(23)

CELLAR = "cellar@mix.example"
MIX = CapabilityRecord(features=["urn:xmpp:mix:core:1"])


def following() -> Play:
    """Return a core that has loaded two of everything."""
    play = Play()
    members = [MembershipRecord(channel=each, participant_id="1") for each in (COVEN, CELLAR)]
    play.core.load_memberships(ANNA, members)
    for channel in (COVEN, CELLAR):
        entry = JournalRecord(kind="leave", channel=channel, step="ask", member=True)
        play.core.load_journal(ANNA, entry)
    for name in ("one", "two"):
        play.core.load_shown(ANNA, name, "digest")
        play.core.load_capability(name, MIX)
    return play


def held(play: Play) -> list[Change]:
    """Return all that a store is to hold."""
    return play.core.remembered.of_user(ANNA) + play.core.remembered.of_all()


@pytest.mark.parametrize(
    ("gone", "kind"),
    [
        (DropMembership(ANNA, COVEN), PutMembership),
        (DropJournal(ANNA, COVEN), PutJournal),
        (DropShown(ANNA, "one"), PutShown),
        (DropCapability("one"), PutCapability),
    ],
)
def test_one_of_a_kind_goes_and_nothing_else(gone: Drop, kind: type[Change]) -> None:
    play = following()
    before = held(play)
    play.core.forget(gone)
    (lost,) = [each for each in before if each not in held(play)]
    assert isinstance(lost, kind)
    assert len(held(play)) == len(before) - 1
    # Once more, after a load that began before it went, does no harm.
    play.core.forget(gone)
    assert len(held(play)) == len(before) - 1


def test_nothing_stays_of_a_user_who_has_nothing() -> None:
    play = following()
    for channel in (COVEN, CELLAR):
        play.core.forget(DropJournal(ANNA, channel))
        play.core.forget(DropMembership(ANNA, channel))
    for name in ("one", "two"):
        play.core.forget(DropShown(ANNA, name))
        play.core.forget(DropCapability(name))
    assert held(play) == []
    assert play.core.mirror.rows == {}
