"""What the component does when a user's blocking list changes, and when it is in the way.

The kind: whatever is said in a user's name is judged as the user's own would be (XEP-0191).
The tap judges; here is what follows: at a block the channel is told that the devices are gone,
at an unblock that they are there, and what a blocked address "answers" (not-acceptable, from
the tap) changes nothing for the user, ends what cannot be said, and hurts nobody else.
"""

import pytest
from driver import ANNA, BEN, CORE_1, COVEN, LAPTOP, MIX, OWN, PHONE, SERVER, STANZAS, Play
from scenes import (
    answers_disco,
    asked_to_join,
    asked_to_leave,
    asks_to_join,
    channel_answers,
    client_join,
    client_leave,
    comes_online,
    error,
    finds_nobody,
    granted,
    in_the_coven,
    joined,
    roll_is_called,
    roster_is_set,
    service_question,
    tap_is_up,
)

from schemas import codec

BLOCKED = (
    f"<error type='cancel'><not-acceptable xmlns='{STANZAS}'/>"
    "<blocked xmlns='urn:xmpp:blocking:errors'/></error>"
)
PARTICIPANT = f"456#{COVEN}"
NODES = (
    "<subscribe node='urn:xmpp:mix:nodes:messages'/><subscribe node='urn:xmpp:mix:nodes:presence'/>"
)


def event(name: str, address: str = COVEN, *, user: str = ANNA, sender: str = SERVER) -> str:
    at = f" address='{address}'" if address else ""
    return (
        f"<message from='{sender}' to='{OWN}'>"
        f"<{name} xmlns='mixpam:tap:1' jid='{user}'{at}/></message>"
    )


def gone(device: str = PHONE, channel: str = COVEN) -> str:
    return (
        f"<presence type='unavailable' from='{device}' to='{channel}'>"
        "<blocked xmlns='mixpam:tap:1'/></presence>"
    )


def here(device: str = PHONE, channel: str = COVEN) -> str:
    return f"<presence from='{device}' to='{channel}'/>"


def told(play: Play) -> None:
    """Hear the channel being asked, after an unblock, who still is a participant."""
    play.waits(2)
    id_ = roll_is_called(play, "123")
    play.says(
        f"<iq type='result' from='{COVEN}' to='{ANNA}' id='{id_}'>"
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'>"
        "<items node='urn:xmpp:mix:nodes:participants'><item id='123'>"
        f"<participant xmlns='{CORE_1}'><jid>{ANNA}</jid></participant></item></items>"
        "</pubsub></iq>"
    )


@pytest.mark.req("K1")
@pytest.mark.parametrize("address", [COVEN, MIX, "Coven@MIX.example"])
def test_a_block_takes_the_devices_back_and_an_unblock_shows_them(address: str) -> None:
    play = Play()
    in_the_coven(play, PHONE, LAPTOP)
    play.says(event("blocked", address))
    play.hears(gone(PHONE))
    play.hears(gone(LAPTOP))
    play.silence()
    play.says(event("unblocked", address))
    play.hears(here(PHONE))
    play.hears(here(LAPTOP))
    told(play)
    play.silence()
    assert play.members() == {COVEN: "123"}


@pytest.mark.req("K1")
def test_an_unblock_of_everything_shows_them_everywhere() -> None:
    play = Play()
    in_the_coven(play, PHONE)
    play.says(event("blocked"))
    play.hears(gone())
    play.says(event("unblocked", ""))
    play.hears(here())
    told(play)
    play.silence()


@pytest.mark.req("K1")
def test_at_an_unblock_the_channel_sees_what_is_true_then() -> None:
    play = Play()
    in_the_coven(play, PHONE)
    play.says(event("blocked"))
    play.hears(gone())
    comes_online(play, LAPTOP)
    play.hears(here(LAPTOP))  # goes nowhere: the tap judges
    play.says(f"<presence type='unavailable' from='{PHONE}' to='{OWN}'/>")
    play.hears(f"<presence type='unavailable' from='{PHONE}' to='{COVEN}'/>")
    play.says(event("unblocked"))
    play.hears(here(LAPTOP))
    told(play)
    play.silence()


@pytest.mark.req("K1", "K2")
@pytest.mark.parametrize("name", ["blocked", "unblocked"])
@pytest.mark.parametrize(
    "change",
    [
        {"address": f"other@{MIX}"},
        {"address": "coven@other.example"},
        {"address": BEN},
        {"address": f"{COVEN}/x"},
        {"address": f"{MIX}/x"},
        {"user": BEN},
        {"sender": "evil.example"},
        {"sender": "example.net"},
        {"user": "anna@example.net"},
    ],
)
def test_what_others_block_or_others_tell_of_changes_nothing(
    name: str, change: dict[str, str]
) -> None:
    play = Play()
    in_the_coven(play, PHONE)
    play.says(event(name, **change))
    heard = play.hears_all()
    assert not [each for each in heard if b"presence" in each[:10]]


@pytest.mark.req("K1", "R6")
def test_of_presence_that_is_not_shared_nothing_is_said() -> None:
    play = Play()
    in_the_coven(play, PHONE)
    play.says(
        f"<iq type='set' from='{ANNA}' to='{OWN}' id='x'><query xmlns='jabber:iq:roster'>"
        f"<item jid='{COVEN}' subscription='none'/></query></iq>"
    )
    play.hears(f"<presence type='unavailable' from='{PHONE}' to='{COVEN}'/>")
    play.says(event("blocked"))
    play.silence()
    play.says(event("unblocked"))
    told(play)
    play.silence()


def in_the_coven_with_presence(play: Play) -> None:
    tap_is_up(play)
    comes_online(play, PHONE)
    play.says(client_join(content=NODES))
    answers_disco(play, MIX, service_question(play), CORE_1, to=ANNA)
    play.hears(f"<message from='{OWN}' to='{SERVER}'>*</message>")
    play.hears(f"<iq type='set' from='{ANNA}' to='{COVEN}' id='j1'>*</iq>")
    play.says(channel_answers(granted(content=NODES)))
    roster_is_set(play)
    play.hears(f"<iq type='result' from='{ANNA}' to='{PHONE}' id='j1'>*</iq>")
    play.hears(here())
    seen = f"<presence from='{PARTICIPANT}/1' to='{{}}'/>"
    play.says(seen.format(ANNA))
    play.hears(seen.format(PHONE))
    play.silence()


@pytest.mark.req("K1", "P4")
@pytest.mark.parametrize("address", [COVEN, MIX, PARTICIPANT, f"{PARTICIPANT}/1"])
def test_no_device_is_told_from_memory_of_who_was_blocked(address: str) -> None:
    play = Play()
    in_the_coven_with_presence(play)
    play.says(event("blocked", address))
    if address in {COVEN, MIX}:
        play.hears(gone())
    play.silence()
    comes_online(play, LAPTOP)
    # Asked, not remembered; the tap keeps it back, or what it brings.
    play.hears(f"<presence from='{ANNA}' to='{COVEN}'/>")
    play.hears(here(LAPTOP))
    play.silence()
    play.says(event("unblocked", address))
    if address in {COVEN, MIX}:
        play.hears(here(PHONE))
        play.hears(here(LAPTOP))
    play.hears(f"<presence from='{ANNA}' to='{COVEN}'/>")
    told(play)
    play.silence()


@pytest.mark.req("K1", "L4")
def test_a_kick_that_was_kept_back_is_found_at_the_unblock() -> None:
    play = Play()
    in_the_coven(play)
    play.says(event("blocked"))
    play.says(event("unblocked"))
    play.waits(2)
    finds_nobody(play, roll_is_called(play, "123"))
    roster_is_set(play, "remove")
    assert not play.members()


# -- lists that change while the component, or its link, is away ----------------------------------

REPLAYED = f"<message from='{SERVER}' to='{OWN}'><replayed xmlns='mixpam:tap:1'/></message>"


def comes_online_again(play: Play, *devices: str, blocked: str = "") -> list[str]:
    """Have a new link begin: what is blocked, which devices there are.

    Gives the presence that gets to the coven by the user's list, in order.
    """
    heard: list[str] = []
    tap_is_up(play, services=MIX)
    for device in devices:
        if blocked:
            play.says(event("blocked", blocked))
        play.says(f"<presence from='{device}' to='{OWN}'/>")
    play.says(REPLAYED)
    for _ in range(3):
        for data in play.hears_all():
            element = codec.read(data)
            if b"disco#info" in data:
                answers_disco(play, element.get("to", ""), element.get("id", ""), CORE_1)
            elif element.tag.endswith("presence") and "/" in element.get("from", ""):
                passes = not blocked or b"mixpam:tap:1" in data
                type_ = element.get("type", "here")
                if passes and element.get("to") == COVEN:
                    heard.append(f"{type_} {element.get('from', '').partition('/')[2]}")
        play.waits(0.2)
    return heard


def away(play: Play, how: str) -> Play:
    """End the process, or the link long after all on it has been carried."""
    play.waits(61)
    play.hears_all()
    if how == "process":
        return play.dies()
    play.link_is_cut()
    return play


@pytest.mark.req("K1", "P6")
@pytest.mark.parametrize("how", ["process", "link"])
@pytest.mark.parametrize("left", [[PHONE, LAPTOP], [LAPTOP], []])
def test_a_block_while_away_takes_all_devices_back_once(how: str, left: list[str]) -> None:
    play = Play()
    in_the_coven(play, PHONE, LAPTOP)
    play = away(play, how)
    heard = comes_online_again(play, *left, blocked=COVEN if left else "")
    gone_ = [each for each in heard if each.startswith("unavailable")]
    assert sorted(gone_) == ["unavailable laptop", "unavailable phone"]
    if left:
        assert heard == gone_  # and nothing more passes


@pytest.mark.req("K1", "P6")
@pytest.mark.parametrize("how", ["process", "link"])
@pytest.mark.parametrize("met", ["linked", "away"])
def test_an_unblock_while_away_shows_them_again(how: str, met: str) -> None:
    play = Play()
    in_the_coven(play, PHONE)
    if met == "linked":
        play.says(event("blocked"))
    else:
        play = away(play, how)
        assert comes_online_again(play, PHONE, blocked=COVEN) == ["unavailable phone"]
    play = away(play, how)
    assert comes_online_again(play, PHONE) == ["here phone"]


@pytest.mark.req("K1", "P6")
def test_an_unblock_while_away_of_who_blocked_without_a_session() -> None:
    """What is blocked is told at a session's begin, too."""
    play = Play()
    in_the_coven(play, PHONE)
    play = away(play, "process")
    comes_online_again(play)
    play.waits(61)
    play.hears_all()
    play.says(event("blocked"))
    comes_online(play, PHONE)
    play = away(play, "process")
    assert comes_online_again(play, PHONE) == ["here phone"]


@pytest.mark.req("K1", "P6")
def test_who_knows_of_the_block_hears_nothing_of_it_again() -> None:
    """Not when another session begins, nor at a new link: who is blocked sees nobody come."""
    play = Play()
    in_the_coven(play, PHONE)
    play.says(event("blocked"))
    play.hears(gone())
    play.says(event("blocked"))
    comes_online(play, LAPTOP)
    play.hears(here(LAPTOP))  # goes nowhere: the tap judges
    play.silence()
    play = away(play, "link")
    assert comes_online_again(play, PHONE, blocked=COVEN) == []


@pytest.mark.req("K1", "P6")
def test_a_block_told_just_before_the_link_broke_is_told_again() -> None:
    play = Play()
    in_the_coven(play, PHONE)
    play.says(event("blocked"))
    play.link_is_cut()
    assert comes_online_again(play, PHONE, blocked=COVEN) == ["unavailable phone"]


@pytest.mark.req("K1")
def test_blocked_unblocked_away_and_blocked_again_is_told() -> None:
    play = Play()
    in_the_coven(play, PHONE)
    play.says(event("blocked"))
    play = away(play, "link")
    assert comes_online_again(play, PHONE) == ["here phone"]
    play.says(event("blocked"))
    play.hears(gone())


# -- what the tap answers for who is blocked ---------------------------------------------------


def refusal(id_: str) -> str:
    return f"<iq type='error' from='{ANNA}' to='{PHONE}' id='{id_}'>{BLOCKED}</iq>"


@pytest.mark.req("K1", "J4", "L2")
@pytest.mark.parametrize("kind", ["join", "leave"])
def test_a_blocked_channel_is_neither_joined_again_nor_left(kind: str) -> None:
    play = Play()
    in_the_coven(play, PHONE)
    play.says(client_join(id_="b1") if kind == "join" else client_leave(id_="b1"))
    play.hears(f"<iq type='set' from='{ANNA}' to='{COVEN}' id='b1'>*</iq>")
    play.says(channel_answers(BLOCKED, id_="b1", type_="error"))
    play.hears(refusal("b1"))
    play.silence()
    assert play.members() == {COVEN: "123"}
    assert not play.stored.journal


@pytest.mark.req("K1", "J4")
def test_a_blocked_channel_is_not_joined() -> None:
    play = Play()
    in_the_coven(play)
    other = f"other@{MIX}"
    play.says(client_join(other, id_="b1"))
    asked_to_join(play, channel=other, id_="b1")
    play.says(channel_answers(BLOCKED, channel=other, id_="b1", type_="error"))
    play.hears(refusal("b1"))
    play.silence()
    assert play.members() == {COVEN: "123"}
    assert not play.stored.journal


@pytest.mark.req("K1", "J4")
def test_a_blocked_domain_is_refused_to_who_blocks_it_and_asked_for_the_next() -> None:
    play = Play()
    tap_is_up(play)
    play.says(client_join(id_="b1"))
    id_ = service_question(play)
    play.says(client_join(device=f"{BEN}/x", id_="j1"))
    play.silence()
    play.says(
        f"<iq type='error' from='{MIX}' to='{ANNA}' id='{id_}'>{BLOCKED}</iq>",
    )
    answers_disco(play, MIX, service_question(play, user=BEN), CORE_1, to=BEN)
    play.hears(refusal("b1"))
    play.hears(f"<message from='{OWN}' to='{SERVER}'>*</message>")
    asked_to_join(play, user=BEN)
    play.silence()
    assert not play.members()


@pytest.mark.req("K1", "L5", "L6")
@pytest.mark.parametrize("way", ["item", "account", "late"])
def test_a_leave_that_is_forced_on_a_blocked_channel_ends_at_once(way: str) -> None:
    play = Play()
    if way == "late":
        tap_is_up(play)
        play.says(client_join())
        answers_disco(play, MIX, service_question(play), CORE_1, to=ANNA)
        play.hears(f"<message from='{OWN}' to='{SERVER}'>*</message>")
        asked_to_join(play)
        play.waits(31)
        play.hears(f"<iq type='error' from='{ANNA}' to='{PHONE}' id='j1'>*</iq>")
        play.says(channel_answers(granted()))
    else:
        in_the_coven(play)
        play.says(
            f"<message from='{SERVER}' to='{OWN}'><user-removed xmlns='mixpam:tap:1'"
            f" jid='{ANNA}'/></message>"
            if way == "account"
            else f"<iq type='set' from='{ANNA}' to='{OWN}' id='x'><query xmlns='jabber:iq:roster'>"
            f"<item jid='{COVEN}' subscription='remove'/></query></iq>"
        )
    id_ = asked_to_leave(play)
    play.says(channel_answers(BLOCKED, id_=id_, type_="error"))
    if way != "late":
        roster_is_set(play, "remove")
    play.silence()
    assert not play.members()
    assert not play.stored.journal
    assert play.core.next_deadline is None
    play.waits(700)
    play.silence()


@pytest.mark.req("K1", "L4")
def test_one_who_blocks_a_channel_keeps_nobody_from_the_roll_call() -> None:
    play = Play()
    in_the_coven(play)
    play.says(client_join(device=f"{BEN}/x"))
    asked_to_join(play, user=BEN)
    play.says(channel_answers(granted("456"), user=BEN))
    roster_is_set(play, user=BEN)
    play.hears(joined(device=f"{BEN}/x", participant_id="456"))
    play.link_is_cut()
    tap_is_up(play, services=MIX)
    play.says(f"<message from='{SERVER}' to='{OWN}'><replayed xmlns='mixpam:tap:1'/></message>")
    play.hears_all()
    play.waits(2)
    id_ = roll_is_called(play, "123", "456")
    play.says(channel_answers(BLOCKED, id_=id_, type_="error"))
    id_ = roll_is_called(play, "456", by=BEN)
    play.says(
        f"<iq type='result' from='{COVEN}' to='{BEN}' id='{id_}'>"
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'>"
        "<items node='urn:xmpp:mix:nodes:participants'/></pubsub></iq>"
    )
    roster_is_set(play, "remove", user=BEN)
    play.silence()
    assert play.members() == {COVEN: "123"}
    assert not play.members(BEN)


# -- changes that are under way when their channel is blocked ------------------------------------


BARRED = refusal("j1").replace(
    "<blocked", f"<text xmlns='{STANZAS}'>You have blocked this address</text><blocked"
)


def joins_new(play: Play, upto: str) -> None:
    """Have Anna begin to join, as far as the service or the channel being asked."""
    tap_is_up(play)
    play.says(client_join())
    if upto == "channel":
        answers_disco(play, MIX, service_question(play), CORE_1, to=ANNA)
        play.hears(f"<message from='{OWN}' to='{SERVER}'>*</message>")
        asked_to_join(play)


@pytest.mark.req("K1", "J4")
@pytest.mark.parametrize("address", [COVEN, MIX])
@pytest.mark.parametrize("upto", ["service", "channel"])
@pytest.mark.parametrize("did", [True, False])
@pytest.mark.parametrize("then", ["nothing", "unblock", "process"])
def test_a_join_under_way_when_its_channel_is_blocked(
    address: str, upto: str, did: bool, then: str
) -> None:
    play = Play()
    joins_new(play, upto)
    if upto == "service":
        id_ = service_question(play)
    play.says(event("blocked", address))
    play.hears(BARRED)
    play.silence()
    if upto == "service" and address == COVEN:
        # The service itself is not blocked.
        answers_disco(play, MIX, id_, CORE_1, to=ANNA)
        play.hears(f"<message from='{OWN}' to='{SERVER}'>*</message>")
    play.silence()
    if then == "unblock":
        play.says(event("unblocked", address))
    elif then == "process":
        play = play.dies()
        tap_is_up(play)
    if upto == "channel" and then != "nothing":
        left = asked_to_leave(play)
        if did:
            play.says(channel_answers("", id_=left))
        else:
            play.says(channel_answers(error("item-not-found"), id_=left, type_="error"))
        roster_is_set(play, "remove")
    play.waits(700)
    play.silence()
    assert not play.members()
    assert not play.stored.journal
    assert not play.core.parts.memberships._ledger
    assert play.core.next_deadline is None


@pytest.mark.req("K1", "L2")
def test_a_leave_under_way_when_its_channel_is_blocked() -> None:
    play = Play()
    in_the_coven(play, PHONE)
    play.says(client_leave())
    play.hears(f"<iq type='set' from='{ANNA}' to='{COVEN}' id='l1'>*</iq>")
    play.says(event("blocked"))
    play.hears(BARRED.replace("'j1'", "'l1'"))
    play.hears(gone())
    play.silence()
    play.waits(700)
    play.silence()
    assert play.members() == {COVEN: "123"}
    assert not play.stored.journal


@pytest.mark.req("K1", "J4")
def test_who_waits_for_a_service_that_another_has_blocked_is_not_kept_waiting() -> None:
    play = Play()
    joins_new(play, "service")
    service_question(play)
    play.says(client_join(device=f"{BEN}/x"))
    play.says(event("blocked", MIX))
    play.hears(BARRED)
    answers_disco(play, MIX, service_question(play, user=BEN), CORE_1, to=BEN)
    play.hears(f"<message from='{OWN}' to='{SERVER}'>*</message>")
    asked_to_join(play, user=BEN)
    play.waits(31)
    assert not [each for each in play.hears_all() if ANNA.encode() in each]


def test_a_join_is_ended_by_no_other_block_and_no_other_unblock() -> None:
    play = Play()
    tap_is_up(play)
    asks_to_join(play)
    for name in ("blocked", "unblocked"):
        play.says(event(name, f"other@{MIX}"))
    play.silence()
    play.says(channel_answers(granted()))
    roster_is_set(play)
    play.hears(joined())
    assert play.members() == {COVEN: "123"}


def test_a_service_that_several_ask_for_is_asked_for_those_who_have_not_blocked_it() -> None:
    play = Play()
    tap_is_up(play)
    users = [ANNA, BEN, f"carl@{SERVER}"]
    for user in users:
        play.says(client_join(device=f"{user}/x"))
    id_ = service_question(play)
    play.says(event("blocked", MIX, user=users[2]))
    (refusal,) = play.hears_all()
    assert f"to='{users[2]}/x'".encode() in refusal
    for user, rest in ((ANNA, True), (BEN, False)):
        play.says(f"<iq type='error' from='{MIX}' to='{user}' id='{id_}'>{BLOCKED}</iq>")
        heard = play.hears_all()
        assert any(f"to='{user}/x'".encode() in each for each in heard)
        asked = [codec.read(each) for each in heard if b"disco#info" in each]
        assert len(asked) == rest
        id_ = asked[0].get("id", "") if asked else ""


@pytest.mark.parametrize("name", ["blocked", "unblocked"])
def test_a_leave_without_a_client_goes_on(name: str) -> None:
    play = Play()
    in_the_coven(play)
    play.says(
        f"<iq type='set' from='{ANNA}' to='{OWN}' id='r'><query xmlns='jabber:iq:roster'>"
        f"<item jid='{COVEN}' subscription='remove'/></query></iq>"
    )
    id_ = asked_to_leave(play)
    play.says(event(name))
    play.says(channel_answers("", id_=id_))
    roster_is_set(play, "remove")
    play.silence()
    assert not play.members()
    assert not play.stored.journal


def test_a_device_whose_end_was_sent_is_not_withdrawn_again() -> None:
    play = Play()
    in_the_coven(play, PHONE)
    play.says(f"<presence type='unavailable' from='{PHONE}' to='{OWN}'/>")
    play.hears(f"<presence type='unavailable' from='{PHONE}' to='{COVEN}'/>")
    play.says(event("blocked"))
    play.silence()
