"""Presence both ways: what channels see of devices, what devices see of participants."""

import gc
import tracemalloc

import pytest
from driver import ANNA, CORE_1, COVEN, DISCO, LAPTOP, MIX, OWN, PHONE, SERVER, Play, Stored
from scenes import (
    answers_disco,
    asked_to_join,
    channel_answers,
    client_join,
    client_leave,
    comes_online,
    granted,
    in_the_coven,
    roll_is_called,
    roster_is_set,
    tap_is_up,
)

from component.core.presence.announce import Digests
from component.core.presence.participants import PRESENCE_NODE
from schemas.records import MembershipRecord

AWAY = "<show>away</show>"
OTHER = f"other@{MIX}"


@pytest.fixture
def play() -> Play:
    made = Play()
    in_the_coven(made, PHONE)
    return made


def broadcast(device: str = PHONE, content: str = "", type_: str = "") -> str:
    written = f" type='{type_}'" if type_ else ""
    return f"<presence{written} from='{device}' to='{OWN}'>{content}</presence>"


def shown(device: str = PHONE, content: str = "", type_: str = "", *, channel: str = COVEN) -> str:
    return broadcast(device, content, type_).replace(f"to='{OWN}'", f"to='{channel}'")


def vanished(device: str = PHONE) -> str:
    """Write the end that nobody saw; it passes a blocking list."""
    return (
        f"<presence type='unavailable' from='{device}' to='{COVEN}'>"
        "<blocked xmlns='mixpam:tap:1'/></presence>"
    )


def replayed(play: Play) -> None:
    play.says(f"<message from='{SERVER}' to='{OWN}'><replayed xmlns='mixpam:tap:1'/></message>")


def audited(play: Play) -> None:
    """Let the component find the coven in the roster."""
    request = play.hears(
        f"<iq type='get' from='{OWN}' to='{ANNA}' id='*'><query xmlns='jabber:iq:roster'/></iq>"
    )
    play.says(
        f"<iq type='result' from='{ANNA}' to='{OWN}' id='{request.get('id')}'>"
        f"<query xmlns='jabber:iq:roster'><item jid='{COVEN}' subscription='from'/></query></iq>"
    )


# -- devices, towards channels ---------------------------------------------------------------


@pytest.mark.req("P1")
def test_a_channel_sees_each_change_and_the_end(play: Play) -> None:
    play.says(broadcast(content=AWAY))
    play.hears(shown(content=AWAY))
    play.says(broadcast(content=AWAY))
    play.silence()
    play.says(broadcast(type_="unavailable", content="<status>bye</status>"))
    play.hears(shown(type_="unavailable", content="<status>bye</status>"))
    forgotten(play)


def forgotten(play: Play, *, replayed: bool = False) -> None:
    """Let so much time pass that what was told of devices has surely arrived."""
    assert set(play.stored.shown.values()) == {""}
    play.silence()
    play.waits(60)
    if replayed:
        roll_is_called(play, "123")
    play.silence()
    assert not play.stored.shown


@pytest.mark.req("P6")
def test_the_end_of_a_device_that_was_lost_on_the_link_is_told_again(play: Play) -> None:
    play.says(broadcast(type_="unavailable"))
    play.hears(shown(type_="unavailable"))
    play.link_is_cut()
    tap_is_up(play, services=MIX)
    replayed(play)
    play.hears(vanished())
    audited(play)
    forgotten(play, replayed=True)


@pytest.mark.req("P1")
def test_a_device_that_comes_back_at_once_is_remembered(play: Play) -> None:
    play.says(broadcast(type_="unavailable"))
    play.hears(shown(type_="unavailable"))
    comes_online(play)
    play.hears(shown())
    play.waits(60)
    play.silence()
    assert (ANNA, "phone") in play.stored.shown


@pytest.mark.req("P1")
def test_every_channel_of_the_user_sees_it(play: Play) -> None:
    play.says(client_join(OTHER, id_="j2"))
    asked_to_join(play, channel=OTHER, id_="j2")
    play.says(channel_answers(granted(), channel=OTHER, id_="j2"))
    roster_is_set(play, channel=OTHER)
    play.hears(f"<iq type='result' from='{ANNA}' to='{PHONE}' id='j2'>*</iq>")
    play.hears(shown(channel=OTHER))
    play.says(broadcast(content=AWAY))
    for channel in (COVEN, OTHER):
        play.hears(shown(content=AWAY, channel=channel))
    play.silence()


@pytest.mark.req("P2")
def test_a_device_without_mix_is_never_seen(play: Play) -> None:
    comes_online(play, LAPTOP, "something")
    play.says(broadcast(LAPTOP, AWAY))
    play.says(broadcast(LAPTOP, type_="unavailable"))
    play.silence()


@pytest.mark.req("P2", "R6")
@pytest.mark.parametrize("told_by", ["roster", "preference"])
def test_presence_that_is_not_shared_any_more_is_taken_back(play: Play, told_by: str) -> None:
    change_sharing(play, told_by, "not share")
    play.hears(shown(type_="unavailable"))
    if told_by == "preference":
        roster_is_set(play, "none")
    play.says(broadcast(content=AWAY))
    play.says(broadcast(type_="unavailable"))
    play.silence()
    assert not play.stored.shown
    comes_online(play)
    play.silence()
    change_sharing(play, told_by, "share")
    if told_by == "preference":
        roster_is_set(play, "from")
    play.hears(shown())
    play.silence()


def change_sharing(play: Play, told_by: str, value: str) -> None:
    if told_by == "roster":
        subscription = "from" if value == "share" else "none"
        play.says(
            f"<iq type='set' from='{ANNA}' to='{OWN}' id='x'><query xmlns='jabber:iq:roster'>"
            f"<item jid='{COVEN}' subscription='{subscription}'/></query></iq>"
        )
        return
    form = (
        "<user-preference xmlns='urn:xmpp:mix:anon:0'><x xmlns='jabber:x:data'>"
        f"<field var='Presence'><value>{value}</value></field></x></user-preference>"
    )
    play.says(f"<iq type='set' from='{PHONE}' to='{COVEN}' id='p'>{form}</iq>")
    play.silence()
    play.says(f"<iq type='result' from='{COVEN}' to='{PHONE}' id='p'/>")


@pytest.mark.req("R6")
@pytest.mark.abuse(5)
@pytest.mark.parametrize(
    ("sender", "id_", "type_"),
    [(COVEN, "x", "result"), (OTHER, "p", "result"), (COVEN, "p", "error")],
)
def test_a_preference_counts_only_when_the_channel_grants_it(
    play: Play, sender: str, id_: str, type_: str
) -> None:
    form = (
        "<user-preference xmlns='urn:xmpp:mix:anon:0'><x xmlns='jabber:x:data'>"
        "<field var='Presence'><value>not share</value></field></x></user-preference>"
    )
    play.says(f"<iq type='set' from='{PHONE}' to='{COVEN}' id='p'>{form}</iq>")
    play.says(f"<iq type='{type_}' from='{sender}' to='{PHONE}' id='{id_}'>{form}</iq>")
    play.silence()


@pytest.mark.parametrize("size", [1, 64, 65, 200_000])
def test_a_wish_is_known_by_any_id(play: Play, size: int) -> None:
    """And whatever its size, little of it is kept until the channel answers."""
    form = (
        "<user-preference xmlns='urn:xmpp:mix:anon:0'><x xmlns='jabber:x:data'>"
        "<field var='Presence'><value>not share</value></field></x></user-preference>"
    )
    play.says(f"<iq type='set' from='{PHONE}' to='{COVEN}' id='{'i' * size}'>{form}</iq>")
    wishes = play.core.parts.preferences._wishes
    assert all(len(id_) <= 64 for _, _, id_ in wishes)
    play.says(f"<iq type='result' from='{COVEN}' to='{PHONE}' id='{'i' * size}'/>")
    assert not wishes


@pytest.mark.req("P6")
def test_a_device_whose_end_was_sent_is_not_withdrawn_again(play: Play) -> None:
    play.says(broadcast(type_="unavailable"))
    play.hears(shown(type_="unavailable"))
    change_sharing(play, "roster", "not share")
    play.silence()


@pytest.mark.req("P3")
def test_a_probe_of_a_joined_channel_is_answered_for_mix_devices(play: Play) -> None:
    comes_online(play, LAPTOP, "something")
    play.says(f"<presence type='probe' from='{COVEN}' to='{ANNA}'/>")
    play.hears(shown())
    play.silence()
    play.says(broadcast(type_="unavailable"))
    play.hears(shown(type_="unavailable"))
    play.says(f"<presence type='probe' from='{COVEN}' to='{ANNA}'/>")
    play.hears(f"<presence type='unavailable' from='{ANNA}' to='{COVEN}'/>")
    play.silence()


@pytest.mark.req("P3")
@pytest.mark.parametrize("stranger", [OTHER, MIX, "ben@example.org", f"1#{OTHER}"])
def test_a_strangers_probe_is_not_answered(play: Play, stranger: str) -> None:
    play.says(f"<presence type='probe' from='{stranger}' to='{ANNA}'/>")
    play.silence()
    assert play.dropped("probe-of-stranger") == 1


@pytest.mark.req("P5")
def test_no_presence_after_leaving(play: Play) -> None:
    play.says(client_leave())
    play.hears(f"<iq type='set' from='{ANNA}' to='{COVEN}' id='l1'>*</iq>")
    play.says(channel_answers("", id_="l1"))
    roster_is_set(play, "remove")
    play.hears(f"<iq type='result' from='{ANNA}' to='{PHONE}' id='l1'>*</iq>")
    play.says(broadcast(content=AWAY))
    play.says(broadcast(type_="unavailable"))
    play.silence()
    assert not play.stored.shown


@pytest.mark.req("P6")
@pytest.mark.parametrize("end", ["process", "link"])
def test_a_device_that_vanished_meanwhile_is_taken_back(play: Play, end: str) -> None:
    if end == "link":
        play.link_is_cut()
    else:
        play = play.dies()
    tap_is_up(play, services=MIX)
    play.silence()
    replayed(play)
    play.hears(vanished())
    audited(play)
    forgotten(play, replayed=True)


@pytest.mark.req("P6")
def test_a_device_that_is_still_there_is_not_shown_again(play: Play) -> None:
    play = play.dies()
    tap_is_up(play, services=MIX)
    comes_online(play)
    replayed(play)
    audited(play)
    play.silence()


@pytest.mark.req("P6")
def test_a_device_that_changed_meanwhile_is_shown_as_it_is(play: Play) -> None:
    play = play.dies()
    tap_is_up(play, services=MIX)
    play.says(broadcast(content=AWAY))
    query = play.hears(f"<iq type='get' from='{OWN}' to='{PHONE}' id='*'>*</iq>")
    play.says(
        f"<iq type='result' from='{PHONE}' to='{OWN}' id='{query.get('id')}'>"
        "<query xmlns='http://jabber.org/protocol/disco#info'>"
        f"<feature var='{CORE_1}'/></query></iq>"
    )
    play.hears(shown(content=AWAY))
    replayed(play)
    audited(play)
    play.silence()


@pytest.mark.req("P6")
@pytest.mark.abuse(22)
def test_a_device_is_shown_when_it_is_known_to_be_remembered(play: Play) -> None:
    play.store = "sleeps"
    comes_online(play, LAPTOP)
    play.silence()
    play.store_wakes()
    play.hears(shown(LAPTOP))
    play.silence()
    assert (ANNA, "laptop") in play.stored.shown


@pytest.mark.req("P6")
@pytest.mark.abuse(22)
def test_a_device_that_went_before_that_is_not_shown(play: Play) -> None:
    play.store = "sleeps"
    comes_online(play, LAPTOP)
    play.says(broadcast(LAPTOP, type_="unavailable"))
    play.hears(shown(LAPTOP, type_="unavailable"))
    play.store_wakes()
    play.silence()
    play.waits(60)
    assert (ANNA, "laptop") not in play.stored.shown


def test_a_device_that_speaks_mix_no_more_by_then_is_not_shown(play: Play) -> None:
    play.store = "sleeps"
    comes_online(play, LAPTOP)
    caps = "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='other='/>"
    play.says(broadcast(LAPTOP, caps))
    asked = play.hears(
        f"<iq type='get' from='{OWN}' to='{LAPTOP}' id='*'>"
        f"<query xmlns='{DISCO}' node='n#other='/></iq>"
    )
    play.hears(shown(LAPTOP, caps))
    answers_disco(play, LAPTOP, asked.get("id", ""), "urn:example:other")
    play.hears(shown(LAPTOP, type_="unavailable"))
    play.store_wakes()
    play.silence()


# -- participants, towards devices ---------------------------------------------------------------


def participant(number: int = 9, content: str = "", type_: str = "", *, to: str = ANNA) -> str:
    written = f" type='{type_}'" if type_ else ""
    return f"<presence{written} from='{number}#{COVEN}/x' to='{to}'>{content}</presence>"


@pytest.mark.req("F5", "P4")
def test_a_device_that_comes_gets_what_the_others_got(play: Play) -> None:
    for stanza in (
        participant(1),
        participant(2, AWAY),
        participant(3),
        participant(3, type_="unavailable"),
        participant(1, AWAY),
    ):
        play.says(stanza)
        play.hears(stanza.replace(f"to='{ANNA}'", f"to='{PHONE}'"))
    comes_online(play, LAPTOP)
    play.hears(participant(1, AWAY, to=LAPTOP))
    play.hears(participant(2, AWAY, to=LAPTOP))
    play.hears(shown(LAPTOP))
    play.silence()


def member(**limits: float) -> Play:
    """Start with a membership from the store, whose participants' presence nobody knows yet."""
    stored = Stored()
    stored.memberships[ANNA, COVEN] = MembershipRecord(
        channel=COVEN, participant_id="123", nodes=[PRESENCE_NODE], shares_presence=False
    )
    play = Play(stored, **limits)
    tap_is_up(play, services=MIX)
    return play


@pytest.mark.req("P4")
def test_after_a_start_the_channel_is_asked_once() -> None:
    play = member()
    comes_online(play)
    play.hears(f"<presence from='{ANNA}' to='{COVEN}'/>")
    play.says(participant(1))
    play.hears(participant(1, to=PHONE))
    comes_online(play, LAPTOP)
    play.hears(participant(1, to=LAPTOP))
    play.silence()
    play.link_is_cut()
    tap_is_up(play, services=MIX)
    comes_online(play)
    play.hears(f"<presence from='{ANNA}' to='{COVEN}'/>")
    play.silence()


@pytest.mark.req("P4")
def test_a_start_is_no_flood() -> None:
    play = member()
    for number in range(60):
        record = MembershipRecord(
            channel=f"c{number}@{MIX}",
            participant_id="1",
            nodes=[PRESENCE_NODE],
            shares_presence=False,
        )
        play.core.load_memberships(ANNA, [record])
    comes_online(play)
    asked = drained(play)
    assert 0 < asked < 61
    while play.core.next_deadline is not None and asked < 61:
        play.waits(0.1)
        more = drained(play)
        assert 0 < more < 61
        asked += more
    assert asked == 61


def drained(play: Play) -> int:
    count = 0
    while play.has_written:
        play.hears(f"<presence from='{ANNA}' to='*'/>")
        count += 1
    return count


@pytest.mark.req("P4")
@pytest.mark.abuse(8)
def test_a_crowd_is_not_remembered() -> None:
    play = member(presence_memory=2)
    comes_online(play)
    play.hears(f"<presence from='{ANNA}' to='{COVEN}'/>")
    for number in range(5):
        play.says(participant(number))
        play.hears(participant(number, to=PHONE))
    assert play.counts["presence-memory", "full"] >= 1
    row = play.core.mirror.rows[ANNA.encode()]
    assert all(len(memory.stanzas) <= 2 for memory in row.participants.values())


@pytest.mark.abuse(8)
def test_large_presences_that_change_all_the_time_leave_nothing_behind() -> None:
    digests = Digests()
    tracemalloc.start()
    for number in range(50):
        status = f"{number}-".ljust(200_000, "x")
        digests.of(f"<presence><status>{status}</status></presence>".encode())
    gc.collect()
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 10 million bytes came by.
    assert grown < 1_000_000


PREFERENCE = (
    "<user-preference xmlns='urn:xmpp:mix:anon:0'><x xmlns='jabber:x:data'>"
    "<field var='Presence'><value>{}</value></field></x></user-preference>"
)


def wishes(play: Play, value: str, id_: str, device: str = PHONE) -> None:
    preference = PREFERENCE.format(value)
    play.says(f"<iq type='set' from='{device}' to='{COVEN}' id='{id_}'>{preference}</iq>")


def test_a_wish_for_what_is_so_already_changes_nothing(play: Play) -> None:
    wishes(play, "share", "p")
    play.says(f"<iq type='result' from='{COVEN}' to='{PHONE}' id='p'/>")
    play.silence()


@pytest.mark.abuse(16)
def test_of_wishes_that_nobody_answers_the_last_are_kept() -> None:
    play = Play(wishes=2)
    in_the_coven(play, PHONE)
    for number in range(3):
        wishes(play, "not share", f"p{number}")
    play.says(f"<iq type='result' from='{COVEN}' to='{PHONE}' id='p0'/>")
    play.silence()
    play.says(f"<iq type='result' from='{COVEN}' to='{PHONE}' id='p2'/>")
    play.hears(shown(type_="unavailable"))
    roster_is_set(play, "none")


@pytest.mark.abuse(29)
def test_what_an_account_wished_that_is_gone_the_next_does_not_wish(play: Play) -> None:
    wishes(play, "not share", "p")
    play.says(
        f"<message from='{SERVER}' to='{OWN}'><user-removed xmlns='mixpam:tap:1' jid='{ANNA}'/>"
        "</message>"
    )
    play.hears_all()
    play.says(f"<iq type='result' from='{COVEN}' to='{PHONE}' id='p'/>")
    play.silence()
