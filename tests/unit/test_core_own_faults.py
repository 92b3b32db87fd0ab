"""A fault of ours costs what it was about to say, and nothing else.

The kind: whatever fails inside, at any input (a stanza, something left out, a moment that has
come, an outcome of the store, an operator's wish, the loss of the link), what was half done
is not said with the next input, what was to be written is written, other users' turns come,
and who has asked for something is told.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from driver import ANNA, BEN, COVEN, OWN, PHONE, SERVER, Play
from scenes import (
    asks_to_join,
    channel_answers,
    client_join,
    comes_online,
    error,
    granted,
    in_the_coven,
    service_is_asked,
    tap_is_up,
)

from component.core.effects import Fault, Send, Write
from component.core.membership import answers
from component.core.membership.change import Op
from component.core.presence.portions import Portions
from schemas import codec, jid
from schemas.records import MembershipRecord
from schemas.stanza import Stanza


class Broken(Exception):  # noqa: N818 - of a play
    """What goes wrong in these plays."""


def fails(play: Play) -> Callable[..., None]:
    """Give a function that says something, and then fails."""

    def half_way(*_: object, **__: object) -> None:
        message = ET.Element("{jabber:client}message", {"from": OWN, "to": PHONE})
        play.core.context.send(message)
        play.core.context.report("half-way")
        play.core.context.write()
        raise Broken

    return half_way


@pytest.fixture
def play() -> Play:
    made = Play()
    tap_is_up(made)
    made.may_fail = True
    return made


FAULT = error("internal-server-error", "wait", "a fault of mixpam; its log has more")


def test_a_request_that_fails_is_answered(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play.core.parts.memberships, "request", fails(play))
    play.says(client_join())
    play.hears(f"<iq type='error' from='{ANNA}' to='{PHONE}' id='j1'>{FAULT}</iq>")
    play.silence()
    assert [type(each) for each in play.faults] == [Broken]
    monkeypatch.undo()
    play.says(client_join(id_="j2"))
    service_is_asked(play)


def test_a_stanza_that_fails_as_it_is_read_is_answered(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play.core.delivery, "take", fails(play))
    play.says(client_join())
    play.hears(f"<iq type='error' from='{ANNA}' to='{PHONE}' id='j1'>{FAULT}</iq>")
    play.silence()


def test_a_change_that_fails_before_the_channel_is_asked_ends(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play.core.parts.services, "check", fails(play))
    play.says(client_join())
    text = "mixpam failed; this has been reported"
    failed = error("internal-server-error", "wait", text)
    play.hears(f"<iq type='error' from='{ANNA}' to='{PHONE}' id='j1'>{failed}</iq>")
    play.silence()
    assert play.core.mirror.find(jid.parse(ANNA)) is None


def test_an_answer_over_which_a_change_stumbles_is_given_again_unread(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = answers.granted

    def stumbles(op: Op, reply: Stanza, *, shared: bool | None) -> MembershipRecord | None:
        if not reply.unread:
            raise codec.MalformedStanza("no id")
        return read(op, reply, shared=shared)

    asks_to_join(play)
    monkeypatch.setattr("component.core.membership.steps.answers.granted", stumbles)
    play.says(channel_answers(granted()))
    assert not play.faults
    assert not play.members()


def test_nobody_else_is_answered(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play.core.delivery, "settle", fails(play))
    play.says(f"<message type='groupchat' from='{COVEN}' to='{ANNA}' id='m'/>")
    play.says(f"<presence from='{COVEN}' to='{ANNA}'/>")
    play.silence()
    assert len(play.faults) == play.dropped("fault") == 2


def test_a_roster_that_fails_goes_on_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play()
    in_the_coven(play, PHONE)
    play.may_fail = True
    monkeypatch.setattr("component.core.roster.annotate.codec.escape", fails(play))
    roster = (
        f"<iq type='result' from='{ANNA}' to='{PHONE}' id='r'><query xmlns='jabber:iq:roster'>"
        f"%s<item jid='{COVEN}'/></query></iq>"
    )
    play.says(roster % "<annotate xmlns='urn:xmpp:mix:roster:0'/>")
    play.hears(roster % "")
    play.silence()
    assert play.faults


def test_what_was_to_be_written_is(play: Play) -> None:
    written: list[bool] = []

    def half_way() -> None:
        play.core.context.write(then=written.append)
        fails(play)()

    effects = play.core.operate(half_way, play.now)
    assert [type(each) for each in effects if isinstance(each, Send | Write | Fault)] == [
        Write, Write, Fault
    ]  # fmt: skip
    token = next(each.token for each in effects if isinstance(each, Write))
    assert token is not None
    play.core.written(token, play.now, done=True)
    assert written == [True]


def test_what_fails_at_its_moment_keeps_nothing_else_from_its_own(play: Play) -> None:
    context, done = play.core.context, []
    context.now = play.now
    context.after(1, fails(play))
    context.after(1, lambda: done.append(1))
    context.after(1, lambda: context.drop("done"))
    play.waits(1)
    assert (done, play.dropped("done"), len(play.faults)) == ([1], 1, 1)
    play.silence()


def test_what_fails_for_one_user_is_done_for_the_others(play: Play) -> None:
    comes_online(play, PHONE)
    comes_online(play, f"{BEN}/r")
    seen: list[bytes] = []

    def look(key: bytes) -> None:
        if key == ANNA.encode():
            raise Broken
        seen.append(key)

    effects = play.core.operate(
        lambda: play.core.context.each_row(lambda row: look(row.key), lambda: seen.append(b"all")),
        play.now,
    )
    assert [each for each in effects if isinstance(each, Fault)]
    assert seen == [BEN.encode(), b"all"]


def test_a_job_in_portions_that_fails_keeps_no_other_of_its_user_from_its_turn(play: Play) -> None:
    portions, done = Portions(play.core.context), []

    def job(*, fails: bool) -> Iterator[int]:
        yield 1
        if fails:
            raise Broken
        done.append("works")

    faults: list[Exception] = []
    for fails in (True, False):
        effects = play.core.operate(
            partial(portions.begin, ANNA.encode(), fails, job(fails=fails)), play.now
        )
        faults += [each.error for each in effects if isinstance(each, Fault)]
    play.waits(1)
    assert [type(each) for each in faults] == [Broken]
    assert done == ["works"]


@pytest.mark.parametrize("part", ["audit", "services", "participants"])
def test_a_link_that_ends_is_forgotten_by_all(
    play: Play, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    comes_online(play)
    name = "forget_asked" if part == "services" else "link_lost"
    monkeypatch.setattr(type(getattr(play.core.parts, part)), name, fails(play))
    play.link_is_cut()
    monkeypatch.undo()
    assert len(play.faults) == 1
    play.silence()
    assert not play.core.context.taps
    tap_is_up(play)
    comes_online(play)
    play.silence()


def test_an_event_that_fails_is_not_half_said(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play.core.parts.departures, "account_removed", fails(play))
    play.says(
        f"<message from='{SERVER}' to='{OWN}'>"
        f"<user-removed xmlns='mixpam:tap:1' jid='{ANNA}'/></message>"
    )
    play.silence()
    assert play.reported("half-way")
