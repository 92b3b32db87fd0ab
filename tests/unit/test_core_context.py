"""The core's desk: deadlines that can be called off, and what cannot be written."""

import xml.etree.ElementTree as ET

import pytest
from driver import OWN, Play

from component.core.context import ROWS_AT_ONCE, Context
from component.core.deadlines import Deadlines
from component.core.effects import Report, Send
from component.core.limits import Limits
from schemas import codec, jid
from schemas.stanza import Stanza


def run(deadlines: Deadlines, now: float) -> None:
    """Do what is due."""
    for action in deadlines.due(now):
        action()


@pytest.mark.abuse(30)
def test_deadlines_come_in_order_and_only_when_due() -> None:
    """The core knows only the time it is given, and it is given the loop's, not the clock's."""
    deadlines, done = Deadlines(), []
    for moment in (3.0, 1.0, 2.0, 1.0):
        deadlines.at(moment, lambda moment=moment: done.append(moment))  # type: ignore[misc]
    run(deadlines, 0.5)
    assert done == []
    run(deadlines, 2.0)
    assert done == [1.0, 1.0, 2.0]
    assert deadlines.next == 3.0


def test_a_deadline_that_is_called_off_does_not_come() -> None:
    deadlines, done = Deadlines(), []
    first = deadlines.at(1.0, lambda: done.append(1))
    deadlines.at(2.0, lambda: done.append(2))
    deadlines.off(first)
    assert deadlines.next == 2.0
    run(deadlines, 5.0)
    assert done == [2]
    assert deadlines.next is None


def test_a_deadline_may_plan_and_call_off_others() -> None:
    deadlines, done = Deadlines(), []
    second = deadlines.at(2.0, lambda: done.append("never"))

    def first() -> None:
        deadlines.off(second)
        deadlines.at(1.5, lambda: done.append("planned"))

    deadlines.at(1.0, first)
    run(deadlines, 3.0)
    assert done == ["planned"]


@pytest.mark.abuse(8)
def test_deadlines_called_off_do_not_pile_up() -> None:
    deadlines = Deadlines()
    deadlines.at(1.0, lambda: None)
    for _ in range(50_000):
        deadlines.off(deadlines.at(1_000.0, lambda: None))
    assert len(deadlines._heap) < 5_000
    assert len(deadlines._actions) < 5_000
    assert deadlines.next == 1.0


@pytest.mark.abuse(19)
def test_what_cannot_be_written_is_reported_and_not_sent_in_part() -> None:
    context = Context(jid.parse(OWN), frozenset(), Limits(), lambda: "id")
    bad = ET.Element("{jabber:client}message")
    bad.text = "\ufffe"
    context.send(bad)
    context.send(ET.Element("{jabber:client}message"))
    report, sent = context.effects
    assert isinstance(report, Report)
    assert report.event == "stanza-unsendable"
    assert sent == Send(b"<message/>")


def test_without_anything_to_do_there_is_no_deadline() -> None:
    play = Play()
    assert play.core.next_deadline is None
    play.waits(1_000)
    play.silence()


def desk() -> Context:
    return Context(jid.parse(OWN), frozenset(), Limits(), lambda: "id")


def test_many_things_are_done_some_at_a_time_and_end_with_the_link() -> None:
    context = desk()
    done: list[int] = []
    for cut in (False, True):
        done.clear()
        context.each(range(5), done.append, lambda: done.append(-1), at_once=2)
        assert done == [0, 1]
        if cut:
            context.no_more_answers()
        run(context.deadlines, 1.0)
        assert done == ([0, 1] if cut else [0, 1, 2, 3, 4, -1])


def test_a_row_that_went_meanwhile_is_not_looked_at() -> None:
    context = desk()
    users = [jid.parse(f"u{number}@example.org") for number in range(ROWS_AT_ONCE + 1)]
    for user in users:
        context.mirror.row(user)
    seen: list[bytes] = []
    context.each_row(lambda row: seen.append(row.key))
    context.mirror.rows.pop(users[-1].key)
    run(context.deadlines, 1.0)
    assert seen == [user.key for user in users[:-1]]


def test_an_answer_that_cannot_be_read_is_given_again_unread() -> None:
    context = desk()
    taken: list[Stanza | None] = []

    def answer(reply: Stanza | None) -> None:
        taken.append(reply)
        if reply is not None and not reply.unread:
            raise codec.MalformedStanza("odd")

    asked, asker = jid.parse("mix.example"), jid.parse(OWN)
    context.expect((asked, asker, "i"), 10, answer)
    reply = ET.Element("{jabber:client}iq", {"type": "result", "id": "i"})
    assert context.answered(Stanza("iq", "result", "i", asked, asker, reply))
    first, second = taken
    assert first is not None
    assert second is not None
    assert (first.unread, second.unread) == ("", "odd")
