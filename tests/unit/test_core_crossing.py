"""Requests, answers and ends of a membership that cross each other on their way.

The kind: something else happens between what is asked, or written, and what comes of it: a kick,
an end, a second request, a device. What is true in the end is what the channel has done; nobody
who got an error stays in a channel, and outdated presence is not announced.
"""

import pytest
from driver import ANNA, COVEN, LAPTOP, MIX, OWN, PHONE, Play, Stored
from scenes import (
    asked_to_join,
    asked_to_leave,
    asks_to_join,
    channel_answers,
    client_join,
    client_leave,
    comes_online,
    error,
    granted,
    in_the_coven,
    joined,
    kick,
    refused,
    removed,
    roster_is_set,
    tap_is_up,
)

from component.core.membership.background_leaves import AT_ONCE, HELD
from component.core.presence.participants import PRESENCE_NODE
from component.core.presence.portions import STEPS
from schemas import codec
from schemas.records import JournalRecord, MembershipRecord

NO_ANSWER = f"{MIX} did not answer"

PREFERENCE = (
    "<user-preference xmlns='urn:xmpp:mix:anon:0'><x xmlns='jabber:x:data'>"
    "<field var='Presence'><value>{}</value></field></x></user-preference>"
)


def channel(number: int) -> str:
    return f"c{number}@{MIX}"


def member_of(channels: int, **record: object) -> Stored:
    stored = Stored()
    for number in range(channels):
        stored.memberships[ANNA, channel(number)] = MembershipRecord(
            channel=channel(number), participant_id="123", **record
        )
    return stored


def is_asked_to_leave(play: Play, *, id_: str) -> None:
    """Let the coven hear a client's leave."""
    play.hears(f"<iq type='set' from='{ANNA}' to='{COVEN}' id='{id_}'>*</iq>")


def leaves_without_answer(play: Play, id_: str) -> None:
    """Have a member of the coven leave, which the coven does not answer in time."""
    in_the_coven(play)
    play.says(client_leave(id_=id_))
    is_asked_to_leave(play, id_=id_)
    play.waits(31)
    play.hears(refused("remote-server-timeout", "wait", NO_ANSWER, id_=id_))


def has_left(play: Play, id_: str) -> None:
    roster_is_set(play, "remove")
    play.hears(f"<iq type='result' from='{ANNA}' to='{PHONE}' id='{id_}'>*</iq>")
    play.silence()
    assert not play.members()


def leaves(play: Play) -> list[str]:
    """Take all that was written; give the channels that were asked to let Anna leave."""
    return [codec.read(raw).get("to", "") for raw in play.hears_all() if b"<leave xmlns" in raw]


# -- a second request -----------------------------------------------------------------------------


@pytest.mark.req("L4", "J7")
def test_who_is_kicked_and_taken_in_again_is_in() -> None:
    play = Play()
    in_the_coven(play)
    play.says(client_join(id_="j2"))
    asked_to_join(play, id_="j2")
    play.says(kick())
    play.says(channel_answers(granted("456"), id_="j2"))
    roster_is_set(play)
    play.hears(joined(id_="j2", participant_id="456"))
    play.silence()
    assert play.members() == {COVEN: "456"}
    assert not play.stored.journal


@pytest.mark.req("L2", "J5")
def test_a_leave_that_a_channel_did_late_is_the_next_ones_result() -> None:
    play = Play()
    leaves_without_answer(play, "l1")
    play.says(client_leave(id_="l2"))
    is_asked_to_leave(play, id_="l2")
    play.says(channel_answers("", id_="l1"))
    play.silence()
    play.waits(31)
    has_left(play, "l2")
    play.says(channel_answers(error("item-not-found"), id_="l2", type_="error"))
    play.silence()
    assert not play.stored.journal


@pytest.mark.req("J5", "J7")
def test_a_join_again_is_undone_if_its_answer_is_unusable_and_a_leave_is_late() -> None:
    play = Play()
    leaves_without_answer(play, "l1")
    play.says(client_join(id_="j2"))
    asked_to_join(play, id_="j2")
    play.says(channel_answers("", id_="j2"))
    play.hears(f"<iq type='error' from='{ANNA}' to='{PHONE}' id='j2'>*</iq>")
    id_ = asked_to_leave(play)
    play.says(channel_answers("", id_=id_))
    roster_is_set(play, "remove")
    play.silence()
    assert not play.members()
    assert not play.stored.journal


# -- ends that wait for their turn, or for the store ----------------------------------------------


@pytest.mark.abuse(24)
@pytest.mark.req("L4")
def test_who_is_kicked_before_a_leave_is_taken_up_is_not_left_again() -> None:
    last = AT_ONCE
    stored = member_of(last + 1)
    for _, address in stored.memberships:
        stored.journal[ANNA, address] = JournalRecord(
            channel=address, kind="leave", step="ask", member=True
        )
    play = Play(stored)
    tap_is_up(play, services=MIX)
    assert leaves(play) == [channel(number) for number in range(last)]
    play.says(kick(sender=channel(last)))
    roster_is_set(play, "remove", channel=channel(last))
    play.waits(2 * HELD)
    assert leaves(play) == []
    assert (ANNA, channel(last)) not in play.stored.journal


@pytest.mark.abuse(29)
def test_an_answer_to_an_account_that_is_no_more_changes_nothing() -> None:
    play = Play(member_of(AT_ONCE))
    tap_is_up(play, services=MIX)
    play.says(client_join())
    asked_to_join(play)
    play.waits(31)
    play.hears(refused("remote-server-timeout", "wait", NO_ANSWER))
    play.says(removed())
    assert COVEN not in leaves(play)
    play.says(channel_answers(granted()))
    play.silence()
    play.waits(HELD)
    assert leaves(play) == [COVEN]


@pytest.mark.abuse(22, 29)
def test_who_joins_before_the_ends_are_stored_comes_behind_the_leave() -> None:
    play = Play(member_of(2))
    tap_is_up(play, services=MIX)
    play.store = "sleeps"
    play.says(removed())
    play.says(client_join(channel(1)))
    play.silence()
    play.store_wakes()
    assert sorted(leaves(play)) == [channel(0), channel(1)]
    play.waits(2 * HELD)
    assert leaves(play) == []


@pytest.mark.abuse(22)
def test_a_single_end_is_told_of_while_the_store_is_away() -> None:
    play = Play(member_of(1))
    tap_is_up(play, services=MIX)
    play.store = "fails"
    play.says(
        f"<iq type='set' from='{ANNA}' to='{OWN}' id='r'><query xmlns='jabber:iq:roster'>"
        f"<item jid='{channel(0)}' subscription='remove'/></query></iq>"
    )
    asked_to_leave(play, channel=channel(0))
    play.silence()
    assert not play.members()
    assert set(play.stored.journal) == {(ANNA, channel(0))}


# -- devices and participants ---------------------------------------------------------------------


@pytest.mark.req("P4", "J10")
def test_a_device_that_comes_before_a_joins_result_has_nobody_asked() -> None:
    play = Play()
    tap_is_up(play)
    asks_to_join(play)
    content = f"<subscribe node='{PRESENCE_NODE}'/>{PREFERENCE.format('not share')}"
    play.says(channel_answers(granted(content=content)))
    (roster,) = [codec.read(raw) for raw in play.hears_all()]
    comes_online(play, LAPTOP)
    present = f"<presence from='9#{COVEN}/x' to='%s'/>"
    play.says(present % ANNA)
    play.silence()
    play.says(f"<iq type='result' from='{ANNA}' to='{OWN}' id='{roster.get('id')}'/>")
    play.hears(f"<iq type='result' from='{ANNA}' to='{PHONE}' id='j1'>*</iq>")
    play.hears(present % LAPTOP)
    play.silence()


@pytest.mark.parametrize("channels", [STEPS, STEPS + 1])
@pytest.mark.parametrize("goes", [True, False])
@pytest.mark.req("L4", "P6")
def test_of_a_presence_that_is_being_told_nothing_is_left_when_all_memberships_end(
    channels: int, *, goes: bool
) -> None:
    play = Play(member_of(channels))
    tap_is_up(play, services=MIX)
    comes_online(play)
    assert len(play.hears_all()) == STEPS
    for number in range(channels):
        play.says(kick(sender=channel(number)))
        play.hears(kick(sender=channel(number), to=PHONE))
        roster_is_set(play, "remove", channel=channel(number))
    if goes:
        play.says(f"<presence type='unavailable' from='{PHONE}' to='{OWN}'/>")
    assert bool(play.core.mirror.rows) is not goes
    play.waits(10)
    play.silence()
    assert not play.stored.shown


@pytest.mark.req("P4")
@pytest.mark.abuse(8)
def test_a_participant_who_goes_while_a_device_is_told_of_many_stays_gone() -> None:
    play = Play(member_of(1, nodes=[PRESENCE_NODE], shares_presence=False))
    tap_is_up(play, services=MIX)
    comes_online(play)
    for person in range(STEPS + 2):
        play.says(f"<presence from='{person}#{channel(0)}/x' to='{ANNA}'/>")
    play.hears_all()
    comes_online(play, LAPTOP)
    assert len(play.hears_all()) == STEPS
    gone = f"{STEPS}#{channel(0)}/x"
    play.says(f"<presence type='unavailable' from='{gone}' to='{ANNA}'/>")
    for device in (PHONE, LAPTOP):
        play.hears(f"<presence type='unavailable' from='{gone}' to='{device}'/>")
    play.waits(1)
    play.hears(f"<presence from='{STEPS + 1}#{channel(0)}/x' to='{LAPTOP}'/>")
    play.silence()
