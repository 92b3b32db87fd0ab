"""What one event sets off in thousands of domains addresses a few of them a second.

Of the kind: presence of one device, and the roll call, towards domains that have gone; a user who
is in many, and users who together are; domains that the server has lost; and those that are
connected, which wait for nobody. A pause is never so short that it is none.
"""

import pytest
from driver import ANNA, OWN, SERVER, Play, Stored
from scenes import comes_online

from component.core.presence.participants import PRESENCE_NODE
from component.core.reach import BURST, MOST_UP, RATE, SHORTEST, TOTAL_BURST, TOTAL_RATE, Reach
from schemas import codec
from schemas.records import MembershipRecord

USERS, EACH = 50, 50


@pytest.mark.abuse(14)
def test_one_user_and_all_users_have_a_budget() -> None:
    reach = Reach()
    one = [reach.pause(b"a", f"a{number}", 0.0) for number in range(100)]
    assert one.count(0.0) == BURST
    every = [reach.pause(b"%d" % number, f"b{number}", 0.0) for number in range(100)]
    assert every.count(0.0) == TOTAL_BURST - BURST
    assert all(seconds >= SHORTEST for seconds in one + every if seconds)


def test_what_was_addressed_costs_nothing_until_it_is_lost() -> None:
    reach = Reach()
    assert not any(reach.pause(b"a", "one", 0.0) for _ in range(1_000))
    lost = 0
    while not reach.pause(b"a", "one", 0.0):
        reach.lost("one")
        lost += 1
    assert lost == BURST


@pytest.mark.abuse(14)
def test_a_domain_that_is_connected_waits_for_nobody() -> None:
    reach = Reach()
    reach.found("live")
    for number in range(1_000):
        reach.pause(b"%d" % number, f"dead{number}", 0.0)
    assert reach.pause(b"a", "other", 0.0)
    assert not reach.pause(b"a", "live", 0.0)
    reach.lost("live")
    assert reach.pause(b"a", "live", 0.0)


def test_of_too_many_that_are_connected_the_oldest_costs_something() -> None:
    reach = Reach()
    for number in range(MOST_UP + 1):
        reach.found(f"live{number}")
    for number in range(100):
        reach.pause(b"a", f"dead{number}", 0.0)
    assert reach.pause(b"a", "live0", 0.0)
    assert not reach.pause(b"a", "live1", 0.0)


@pytest.mark.abuse(14)
def test_the_roll_call_of_domains_that_are_gone_takes_its_time() -> None:
    stored = Stored()
    for number in range(USERS * EACH):
        user, channel = f"u{number // EACH}@{SERVER}", f"c@n{number}.example"
        stored.memberships[user, channel] = MembershipRecord(channel=channel, participant_id="1")
    play = Play(stored)
    for event in ("<hello version='1'", "<replayed"):
        play.says(f"<message from='{SERVER}' to='{OWN}'>{event} xmlns='mixpam:tap:1'/></message>")
    asked = set()
    seconds = 5
    for _ in range(seconds * 10):
        for raw in play.hears_all():
            request = codec.read(raw)
            to, sender = request.get("to", ""), request.get("from", "")
            if not request.tag.endswith("iq") or sender == OWN:
                continue
            asked.add(to)
            play.says(
                f"<iq type='error' from='{to}' to='{sender}' id='{request.get('id')}'>"
                "<error type='cancel'><remote-server-not-found "
                "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
            )
        play.waits(0.1)
    assert 0 < len(asked) <= BURST + RATE * seconds + TOTAL_RATE


def in_many_domains(*, channels: int, shares: bool, nodes: tuple[str, ...] = ()) -> Play:
    stored = Stored()
    for number in range(channels):
        channel = f"c@n{number}.example"
        stored.memberships[ANNA, channel] = MembershipRecord(
            channel=channel, participant_id="1", nodes=list(nodes), shares_presence=shares
        )
    play = Play(stored)
    play.says(
        f"<message from='{SERVER}' to='{OWN}'><hello version='1' xmlns='mixpam:tap:1'/></message>"
    )
    play.hears_all()
    return play


def domains(heard: list[bytes]) -> list[str]:
    """Return the domains in which channels were sent presence, in order."""
    stanzas = [codec.read(each) for each in heard]
    return [
        each.get("to", "").partition("@")[2]
        for each in stanzas
        if each.tag.endswith("presence") and each.get("to", "").startswith("c@")
    ]


@pytest.mark.abuse(14)
def test_a_presence_reaches_domains_at_a_rate_and_each_of_them_once() -> None:
    play = in_many_domains(channels=60, shares=True)
    comes_online(play)
    first = domains(play.hears_all())
    assert len(first) == BURST
    play.waits(1)
    soon = domains(play.hears_all())
    assert 0 < len(soon) <= RATE + 1
    play.waits(10)
    rest = domains(play.hears_all())
    assert sorted(first + soon + rest) == sorted(f"n{number}.example" for number in range(60))
    assert play.stored.shown[ANNA, "phone"]


@pytest.mark.abuse(14)
def test_participants_are_asked_for_at_a_rate() -> None:
    play = in_many_domains(channels=60, shares=False, nodes=(PRESENCE_NODE,))
    comes_online(play)
    asked: list[str] = []
    for _ in range(20):
        asked += domains(play.hears_all())
        play.waits(0.1)
    assert len(set(asked)) <= BURST + 2 * RATE + 1
    play.waits(20)
    asked += domains(play.hears_all())
    assert len(set(asked)) == 60
