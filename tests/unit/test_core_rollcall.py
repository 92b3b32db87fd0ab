"""Kicks that nobody heard: found out by asking the channels.

What one service says, or does not say, must not keep the others' kicks from being found: it
may say that all are gone, say nothing, refuse, or list more than anybody reads.
"""

import sys
import xml.etree.ElementTree as ET

import pytest
from driver import ANNA, COVEN, OWN, SERVER, Play, Stored
from scenes import roll_is_called, roster_is_set, tap_is_up

from component.core.checks import participant_audit
from component.core.checks.participant_audit import AT_ONCE, DELAY, SILENT, TOGETHER
from component.core.checks.roster_audit import FEW
from schemas.namespaces import PUBSUB
from schemas.participants import MOST_LISTED
from schemas.records import MembershipRecord

NODE = "urn:xmpp:mix:nodes:participants"
BEN = f"ben@{SERVER}"


def starts(*users: str) -> Play:
    """Start with members of the coven from the store, and let their rosters agree."""
    stored = Stored()
    for number, name in enumerate(users):
        stored.memberships[name, COVEN] = MembershipRecord(
            channel=COVEN, participant_id=f"p{number}"
        )
    play = Play(stored)
    begins(play, len(users))
    return play


def begins(play: Play, users: int, wait: float = DELAY) -> None:
    tap_is_up(play, services="mix.example")
    play.says(f"<message from='{SERVER}' to='{OWN}'><replayed xmlns='mixpam:tap:1'/></message>")
    for _ in range(users):
        request = play.hears(
            f"<iq type='get' from='{OWN}' to='*' id='*'><query xmlns='jabber:iq:roster'/></iq>"
        )
        play.says(
            f"<iq type='result' from='{request.get('to')}' to='{OWN}' id='{request.get('id')}'>"
            f"<query xmlns='jabber:iq:roster'><item jid='{COVEN}'/></query></iq>"
        )
    play.silence()
    play.waits(wait)


def tells(play: Play, id_: str, *ids: str, to: str = ANNA, by: str = COVEN) -> None:
    items = "".join(
        f"<item id='{each}'><participant xmlns='urn:xmpp:mix:core:1'/></item>" for each in ids
    )
    play.says(
        f"<iq type='result' from='{by}' to='{to}' id='{id_}'><pubsub xmlns='{PUBSUB}'>"
        f"<items node='{NODE}'>{items}</items></pubsub></iq>"
    )


def refuses(play: Play, id_: str, condition: str = "forbidden", *, to: str = ANNA) -> None:
    play.says(
        f"<iq type='error' from='{COVEN}' to='{to}' id='{id_}'><error type='auth'>"
        f"<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )


def counts(play: Play, *, by: str = ANNA) -> str:
    """Hear a user asking for the number of messages; give the id of the question."""
    request = play.hears(
        f"<iq type='set' from='{by}' to='{COVEN}' id='*'><query xmlns='urn:xmpp:mam:2'>"
        "<set xmlns='http://jabber.org/protocol/rsm'><max>0</max></set></query></iq>"
    )
    return request.get("id", "")


@pytest.mark.req("L4")
def test_who_is_missing_was_kicked() -> None:
    play = starts(ANNA, BEN)
    tells(play, roll_is_called(play, "p0", "p1"), "p0", "someone-else")
    roster_is_set(play, "remove", user=BEN)
    play.silence()
    assert play.reported("kicked")
    assert play.members() == {COVEN: "p0"}
    assert play.members(BEN) == {}
    assert not play.stored.journal


def test_who_is_there_stays() -> None:
    play = starts(ANNA)
    tells(play, roll_is_called(play, "p0"), "p0")
    play.silence()
    assert play.members() == {COVEN: "p0"}


@pytest.mark.req("L4")
def test_a_kicked_one_may_not_ask() -> None:
    play = starts(ANNA, BEN)
    refuses(play, roll_is_called(play, "p0", "p1"))
    tells(play, roll_is_called(play, "p0", "p1", by=BEN), "p1", to=BEN)
    roster_is_set(play, "remove")
    play.silence()
    assert play.members() == {}
    assert play.members(BEN) == {COVEN: "p1"}


@pytest.mark.req("L4")
def test_where_nobody_may_ask_each_counts_messages() -> None:
    play = starts(ANNA, BEN)
    refuses(play, roll_is_called(play, "p0", "p1"))
    refuses(play, roll_is_called(play, "p0", "p1", by=BEN), to=BEN)
    refuses(play, counts(play))
    refuses(play, roll_is_called(play, "p1", by=BEN), to=BEN)
    roster_is_set(play, "remove")
    play.says(f"<iq type='result' from='{COVEN}' to='{BEN}' id='{counts(play, by=BEN)}'/>")
    play.silence()
    assert play.members() == {}
    assert play.members(BEN) == {COVEN: "p1"}


def test_a_channel_may_hide_who_is_in_it() -> None:
    play = starts(ANNA, BEN)
    refuses(play, roll_is_called(play, "p0", "p1"))
    refuses(play, roll_is_called(play, "p0", "p1", by=BEN), to=BEN)
    play.says(f"<iq type='result' from='{COVEN}' to='{ANNA}' id='{counts(play)}'/>")
    play.silence()
    assert play.members() == {COVEN: "p0"}
    assert play.members(BEN) == {COVEN: "p1"}


@pytest.mark.parametrize(
    "answer", ["item-not-found", "feature-not-implemented", "empty", "part", "silence"]
)
def test_what_tells_nothing_changes_nothing(answer: str) -> None:
    play = starts(ANNA)
    id_ = roll_is_called(play, "p0")
    if answer == "empty":
        play.says(f"<iq type='result' from='{COVEN}' to='{ANNA}' id='{id_}'/>")
    elif answer == "part":
        rsm = "<set xmlns='http://jabber.org/protocol/rsm'/>"
        play.says(
            f"<iq type='result' from='{COVEN}' to='{ANNA}' id='{id_}'><pubsub xmlns='{PUBSUB}'>"
            f"<items node='{NODE}'/>{rsm}</pubsub></iq>"
        )
    elif answer == "silence":
        play.waits(60)
    else:
        refuses(play, id_, answer)
    play.silence()
    assert play.members() == {COVEN: "p0"}


def test_a_list_that_is_not_understood_changes_nothing() -> None:
    play = starts(ANNA)
    id_ = roll_is_called(play, "p0")
    play.says(
        f"<iq type='result' from='{COVEN}' to='{ANNA}' id='{id_}'><pubsub xmlns='{PUBSUB}'>"
        f"<items node='{NODE}'><item id='x'><member xmlns='urn:example'/></item></items>"
        "</pubsub></iq>"
    )
    play.silence()
    assert play.members() == {COVEN: "p0"}


def test_who_is_there_by_another_id_stays() -> None:
    play = starts(ANNA)
    id_ = roll_is_called(play, "p0")
    play.says(
        f"<iq type='result' from='{COVEN}' to='{ANNA}' id='{id_}'><pubsub xmlns='{PUBSUB}'>"
        f"<items node='{NODE}'><item id='x'><participant xmlns='urn:xmpp:mix:core:1'>"
        f"<jid>{ANNA}</jid></participant></item></items></pubsub></iq>"
    )
    play.silence()
    assert play.members() == {COVEN: "p0"}


def test_many_are_asked_for_together() -> None:
    users = [f"u{number}@{SERVER}" for number in range(TOGETHER + 1)]
    play = starts(*users)
    ids = [f"p{number}" for number in range(TOGETHER + 1)]
    first = roll_is_called(play, *ids[:TOGETHER], by=users[0])
    second = roll_is_called(play, ids[-1], by=users[-1])
    tells(play, first, *ids, to=users[0])
    tells(play, second, ids[-1], to=users[-1])
    play.silence()
    assert all(play.members(user) for user in users)


@pytest.mark.abuse(25)
def test_a_service_without_a_memory_is_not_believed() -> None:
    users = [f"u{number}@{SERVER}" for number in range(FEW + 1)]
    play = starts(*users)
    tells(
        play,
        roll_is_called(play, *(f"p{number}" for number in range(FEW + 1)), by=users[0]),
        to=users[0],
    )
    play.silence()
    assert all(play.members(user) for user in users)
    assert play.reported("roll-call-stopped")


def test_a_channel_that_may_have_broken_the_link_is_not_asked_again() -> None:
    play = starts(ANNA)
    roll_is_called(play, "p0")
    play.link_is_cut()
    begins(play, 1)
    play.silence()
    assert play.members() == {COVEN: "p0"}


def test_a_link_that_breaks_at_once_asks_nothing() -> None:
    play = starts(ANNA)
    tells(play, roll_is_called(play, "p0"), "p0")
    begins(play, 1, wait=0)
    play.link_is_cut()
    play.waits(10 * DELAY)
    play.silence()


def test_when_very_many_are_avoided_links_break_for_other_reasons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(participant_audit, "MOST_AVOIDED", 0)
    play = starts(ANNA)
    roll_is_called(play, "p0")
    play.link_is_cut()
    begins(play, 1)
    roll_is_called(play, "p0")


def is_deleted(play: Play, user: str) -> None:
    """Have an account end, and hear nothing of what follows."""
    play.says(
        f"<message from='{SERVER}' to='{OWN}'>"
        f"<user-removed xmlns='mixpam:tap:1' jid='{user}'/></message>"
    )
    play.hears_all()


def test_who_is_gone_before_or_after_the_question_is_not_kicked() -> None:
    play = starts(ANNA, BEN)
    id_ = roll_is_called(play, "p0", "p1")
    is_deleted(play, BEN)
    tells(play, id_, "p0")
    play.silence()
    assert not play.reported("kicked")
    play.says(
        f"<message from='{SERVER}' to='{OWN}'><unblocked xmlns='mixpam:tap:1' jid='{ANNA}'"
        f" address='{COVEN}'/></message>"
    )
    is_deleted(play, ANNA)
    play.waits(DELAY)
    assert not questions(play)


def test_one_alone_to_whom_nothing_gets_through_or_who_counts_messages() -> None:
    play = starts(ANNA)
    play.says(
        f"<iq type='error' from='{COVEN}' to='{ANNA}' id='{roll_is_called(play, 'p0')}'>"
        "<error type='cancel'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        "<blocked xmlns='urn:xmpp:blocking:errors'/></error></iq>"
    )
    play.silence()
    for silent in (True, False):
        play.link_is_cut()
        begins(play, 1)
        refuses(play, roll_is_called(play, "p0"))
        id_ = counts(play)
        if silent:
            play.waits(60)
            assert play.members() == {COVEN: "p0"}
        else:
            refuses(play, id_)
            assert play.members() == {}


# -- somebody else's service --------------------------------------------------------------

OTHER = "club@other.example"


def of_two_services(users: int, channels: int = 1) -> Play:
    """Start with members of a service's channels and, each, of the other's one."""
    stored = Stored()
    for number in range(users):
        for channel in (*(f"c{each}@mix.example" for each in range(channels)), OTHER):
            stored.memberships[f"u{number}@{SERVER}", channel] = MembershipRecord(
                channel=channel, participant_id=f"p{number}"
            )
    play = Play(stored)
    tap_is_up(play, services="mix.example other.example")
    play.says(f"<message from='{SERVER}' to='{OWN}'><replayed xmlns='mixpam:tap:1'/></message>")
    play.hears_all()
    play.waits(DELAY)
    return play


def questions(play: Play) -> list[ET.Element]:
    heard = []
    while play.has_written:
        heard.append(play.hears_anything())
    return [each for each in heard if each.find(f"{{{PUBSUB}}}pubsub") is not None]


def tells_nobody(play: Play, question: ET.Element) -> None:
    play.says(
        f"<iq type='result' from='{question.get('to')}' to='{question.get('from')}'"
        f" id='{question.get('id')}'><pubsub xmlns='{PUBSUB}'><items node='{NODE}'/></pubsub></iq>"
    )


@pytest.mark.abuse(25)
def test_a_service_that_says_wrong_things_stops_only_its_own_roll_call() -> None:
    play = of_two_services(FEW + 1, channels=20)
    asked = questions(play)
    assert len(asked) == AT_ONCE + 1
    for question in asked:
        if not str(question.get("to")).endswith("other.example"):
            tells_nobody(play, question)
    (report,) = [each for each in play.reports if each.event == "roll-call-stopped"]
    assert report.facts["service"] == "mix.example"
    assert not questions(play)
    (other,) = [each for each in asked if each.get("to") == OTHER]
    there = "".join(
        f"<item id='p{number}'><participant xmlns='urn:xmpp:mix:core:1'/></item>"
        for number in range(FEW)
    )
    play.says(
        f"<iq type='result' from='{OTHER}' to='{other.get('from')}' id='{other.get('id')}'>"
        f"<pubsub xmlns='{PUBSUB}'><items node='{NODE}'>{there}</items></pubsub></iq>"
    )
    kicked = [each.facts["channel"] for each in play.reports if each.event == "kicked"]
    assert kicked == [OTHER]


@pytest.mark.abuse(25)
def test_a_silent_service_is_given_up_and_keeps_nobody_waiting() -> None:
    play = of_two_services(1, channels=50)
    asked = questions(play)
    assert OTHER in [each.get("to") for each in asked]
    play.waits(60)
    assert len(questions(play)) < AT_ONCE + SILENT
    play.waits(600)
    assert not questions(play)


def may_kick(play: Play, user: str, channel: str = COVEN) -> None:
    """Send what may have been a kick, of which only the start tag is known."""
    play.leaves_out(f"<message from='{channel}' to='{user}' id='m'/>")
    play.waits(DELAY)


def test_a_service_that_is_not_believed_may_still_kick() -> None:
    users = [f"u{number}@{SERVER}" for number in range(FEW + 2)]
    play = starts(*users)
    pids = [f"p{number}" for number in range(FEW + 2)]
    tells(play, roll_is_called(play, *pids, by=users[0]), to=users[0])
    assert play.reported("roll-call-stopped")
    for user, pid in zip(users, pids, strict=True):
        may_kick(play, user)
        tells(play, roll_is_called(play, pid, by=user), to=user)
        roster_is_set(play, "remove", user=user)
        assert not play.members(user)
    play.silence()


@pytest.mark.abuse(25)
@pytest.mark.parametrize("silence", [0, 60])
def test_questions_that_nobody_answers_hold_up_no_kick(silence: int) -> None:
    play = of_two_services(1, channels=50)
    play.waits(silence)
    assert len(questions(play)) > AT_ONCE
    channel, user = "c49@mix.example", f"u0@{SERVER}"
    may_kick(play, user, channel)
    (asked,) = questions(play)
    assert asked.get("to") == channel
    tells_nobody(play, asked)
    assert [each.facts["channel"] for each in play.reports if each.event == "kicked"] == [channel]


@pytest.mark.abuse(11)
def test_a_list_longer_than_anybody_reads_changes_nothing_and_takes_no_time() -> None:
    play = starts(ANNA)
    id_ = roll_is_called(play, "p0")
    tells(play, id_, *(f"x{number}" for number in range(MOST_LISTED + 1)))
    play.silence()
    assert play.members() == {COVEN: "p0"}


def calls_of_an_answer(services: int) -> int:
    """Count the calls that one answer costs while a user is in channels of many services."""
    stored = Stored()
    for number in range(services):
        channel = f"c@s{number}.example"
        stored.memberships[ANNA, channel] = MembershipRecord(channel=channel, participant_id="p")
    play = Play(stored)
    tap_is_up(play, services=" ".join(f"s{number}.example" for number in range(services)))
    play.says(f"<message from='{SERVER}' to='{OWN}'><replayed xmlns='mixpam:tap:1'/></message>")
    play.hears_all()
    play.waits(DELAY)
    asked = questions(play)
    calls = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        tells(play, asked[0].get("id", ""), "p", by=asked[0].get("to", ""))
    finally:
        sys.setprofile(None)
    assert questions(play)
    return calls


@pytest.mark.abuse(25)
def test_what_an_answer_costs_does_not_grow_with_the_services() -> None:
    few, many = calls_of_an_answer(10), calls_of_an_answer(300)
    assert many < 2 * few
