"""What a lost link told is forgotten before anything else is learnt, whoever calls when.

The sessions are forgotten in steps, between which others have their turn. The kind: what comes
before the last step, a new link, its stanzas, or what another process has stored since.
"""

from collections.abc import Callable

import pytest
from driver import ANNA, COVEN, PHONE, Play
from scenes import comes_online

from component.core import machine
from component.core.effects import DropShown
from component.core.presence.announce import UNKNOWN
from component.wire.framing import Frame
from schemas import jid
from schemas.records import JournalRecord, MembershipRecord

OTHERS = [f"user{number}@example.org" for number in range(5)]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Give a core with a device whose link is lost, and the first step of forgetting done."""
    monkeypatch.setattr(machine, "ROWS_AT_ONCE", 1)
    play = Play()
    for user in OTHERS:
        play.core.load_memberships(user, [MembershipRecord(channel=COVEN, participant_id="9")])
    comes_online(play)
    play.core.link_lost(play.now)
    next(play.core.forget_sessions())
    assert is_online(play)
    return play


def is_online(play: Play) -> bool:
    """Tell whether the device is still believed to be there."""
    row = play.core.mirror.find(jid.parse(ANNA))
    return row is not None and row.is_online


STRAY = Frame(f"<message from='{PHONE}' to='{COVEN}'/>".encode())

INPUTS: dict[str, Callable[[Play], object]] = {
    "a new link": lambda play: play.core.link_up(play.now),
    "a stanza": lambda play: play.core.take(STRAY, play.now),
    "a stanza whose turn it is": lambda play: play.core.receive(STRAY, play.now),
    "memberships": lambda play: play.core.load_memberships(ANNA, []),
    "a journal entry": lambda play: play.core.load_journal(
        ANNA, JournalRecord(kind="leave", channel=COVEN, step="ask", member=True)
    ),
    "a shown device": lambda play: play.core.load_shown(ANNA, "laptop", "digest"),
    "a removed record": lambda play: play.core.forget(DropShown(ANNA, "laptop")),
    "all anew": lambda play: play.core.start_over(),
}


@pytest.mark.parametrize("which", INPUTS)
def test_what_comes_before_the_last_step_does_the_rest(play: Play, which: str) -> None:
    INPUTS[which](play)
    assert not is_online(play)
    assert list(play.core.forget_sessions()) == []


def test_what_is_stored_since_is_not_doubted(play: Play) -> None:
    """What another process has shown a channel is certain: only our own may be lost."""
    play.core.load_shown(ANNA, "phone", "digest")
    for _ in play.core.forget_sessions():
        pass
    row = play.core.mirror.find(jid.parse(ANNA))
    assert row is not None
    assert row.shown["phone"] == "digest" != UNKNOWN


def test_step_by_step_all_is_forgotten(play: Play) -> None:
    assert len(list(play.core.forget_sessions())) > 1
    assert not is_online(play)


def test_one_link_after_another(play: Play) -> None:
    """A second link may be lost while the first is still being forgotten."""
    play.core.link_lost(play.now)
    for _ in play.core.forget_sessions():
        pass
    assert not is_online(play)
