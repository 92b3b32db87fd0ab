"""What one presence sets off in a thousand channels, and a device's coming, is done in portions.

Of the kind: large presences, many channels, presences that change all the time, many people in
many channels for a device that comes, an end in the middle. Others have their turn in between,
order is kept, and what is no longer so is not told.
"""

from collections.abc import Iterator

import pytest
from driver import ANNA, BEN, CORE_1, LAPTOP, MIX, OWN, PHONE, Play, Stored
from scenes import answers_disco, comes_online, tap_is_up

from component.core.presence.participants import PRESENCE_NODE
from component.core.presence.portions import BURST, PORTION, RATE, STEPS, Portions
from component.core.rates import Buckets
from component.core.users.activity import ParticipantPresence
from component.core.users.trimmed_presence import LARGEST
from schemas import codec, jid
from schemas.records import MembershipRecord

MANY = 1_000


def in_many(*, shares: bool = True, channels: int = MANY, nodes: tuple[str, ...] = ()) -> Play:
    stored = Stored()
    for number in range(channels):
        channel = f"c{number}@{MIX}"
        stored.memberships[ANNA, channel] = MembershipRecord(
            channel=channel, participant_id="1", nodes=list(nodes), shares_presence=shares
        )
    play = Play(stored)
    tap_is_up(play, services=MIX)
    return play


def addresses(heard: list[bytes]) -> list[str]:
    return [codec.read(each).get("to", "") for each in heard]


@pytest.mark.abuse(8)
def test_many_channels_are_told_in_portions_and_all_of_them_once() -> None:
    play = in_many()
    comes_online(play)
    first = play.hears_all()
    assert 0 < len(first) <= STEPS
    assert play.core.next_deadline is not None
    play.waits(10)
    told = addresses(first + play.hears_all())
    assert len(told) == len(set(told)) == MANY
    assert play.stored.shown[ANNA, "phone"]


@pytest.mark.abuse(8)
def test_a_large_presence_is_told_without_what_is_large_and_not_too_fast() -> None:
    play = in_many()
    comes_online(play)
    play.waits(10)
    play.hears_all()
    medium = "<status>" + (LARGEST - 1_000) * "x" + "</status>"
    for number in range(100):
        large = f"<show>away</show><x>{number}{200_000 * 'x'}</x>{medium}"
        play.says(f"<presence from='{PHONE}' to='{OWN}'>{large}</presence>")
        heard = play.hears_all()
        assert sum(map(len, heard)) <= PORTION + 2 * LARGEST
        assert all(len(each) < LARGEST + 200 for each in heard)
    before = play.now
    written = 0
    while play.core.next_deadline is not None and play.now < before + 60:
        play.waits(0.1)
        written += sum(map(len, play.hears_all()))
    assert written <= BURST + RATE * (play.now - before) + PORTION


def test_only_what_is_still_so_is_told() -> None:
    play = in_many()
    comes_online(play)
    play.waits(10)
    play.hears_all()
    for show in ("away", "dnd", "xa"):
        play.says(f"<presence from='{PHONE}' to='{OWN}'><show>{show}</show></presence>")
    play.waits(10)
    last: dict[str, str] = {}
    for each in play.hears_all():
        element = codec.read(each)
        last[element.get("to", "")] = element[0].text or ""
    assert len(last) == MANY
    assert set(last.values()) == {"xa"}


@pytest.mark.req("P6")
def test_an_end_in_the_middle_is_the_last_that_a_channel_hears() -> None:
    play = in_many()
    comes_online(play)
    play.says(f"<presence type='unavailable' from='{PHONE}' to='{OWN}'/>")
    play.says(f"<presence from='{PHONE}' to='{OWN}'/>")
    play.says(f"<presence type='unavailable' from='{PHONE}' to='{OWN}'/>")
    play.waits(10)
    last = {each.get("to"): each.get("type") for each in map(codec.read, play.hears_all())}
    del last[PHONE]  # what it can do
    assert set(last.values()) == {"unavailable"}
    assert len(last) == MANY
    play.waits(1_000)
    assert not play.stored.shown


def test_who_is_left_meanwhile_hears_nothing_more() -> None:
    play = in_many()
    comes_online(play)
    play.hears_all()
    channels = [f"c{number}@{MIX}" for number in range(MANY)]
    for channel in channels[:500]:
        play.core.mirror.part(jid.parse(ANNA), jid.parse(channel))
    play.waits(10)
    assert set(addresses(play.hears_all())) <= set(channels[500:])


@pytest.mark.abuse(25)
def test_the_end_of_the_link_ends_it() -> None:
    play = in_many()
    comes_online(play)
    play.link_is_cut()
    play.waits(10)
    play.silence()


def crowded() -> Play:
    """Let anna have a device, and 40 channels of 50 people who are remembered."""
    play = in_many(shares=False, channels=40, nodes=(PRESENCE_NODE,))
    comes_online(play)
    play.waits(10)
    for number in range(40):
        for person in range(50):
            play.says(f"<presence from='{person}#c{number}@{MIX}/x' to='{ANNA}'><a/></presence>")
    play.hears_all()
    return play


@pytest.mark.abuse(8)
def test_a_device_that_comes_is_told_of_all_in_portions() -> None:
    play = crowded()
    comes_online(play, LAPTOP)
    first = play.hears_all()
    assert 0 < len(first) <= STEPS
    # What comes meanwhile is told at once, and not overtaken by what was before.
    gone, away = (f"49#c39@{MIX}/x", f"48#c39@{MIX}/x")
    play.says(f"<presence type='unavailable' from='{gone}' to='{ANNA}'/>")
    play.says(f"<presence from='{away}' to='{ANNA}'><show>away</show></presence>")
    play.waits(10)
    told = [
        element
        for element in map(codec.read, first + play.hears_all())
        if element.get("to") == LAPTOP
    ]
    last = {each.get("from"): each for each in told}
    assert len(last) == 40 * 50
    assert last[gone].get("type") == "unavailable"
    assert last[away][0].text == "away"


def test_a_device_that_went_is_told_no_more() -> None:
    play = crowded()
    comes_online(play, LAPTOP)
    play.says(f"<presence type='unavailable' from='{LAPTOP}' to='{OWN}'/>")
    play.hears_all()
    play.waits(10)
    play.silence()


def test_a_job_may_begin_the_next_of_its_kind() -> None:
    play = Play()
    portions, done = Portions(play.core.context), []

    def job(number: int) -> Iterator[int]:
        yield 1
        done.append(number)
        if number:
            portions.begin(ANNA.encode(), "job", job(number - 1))

    portions.begin(ANNA.encode(), "job", job(2))
    assert done == [2, 1, 0]


def test_one_user_keeps_no_other_waiting() -> None:
    play = in_many()
    member = MembershipRecord(channel=f"c0@{MIX}", participant_id="2")
    play.core.load_memberships(BEN, [member])
    comes_online(play)
    play.hears_all()
    play.says(f"<presence from='{BEN}/x' to='{OWN}'/>")
    answers_disco(play, f"{BEN}/x", play.hears_anything().get("id", ""), CORE_1)
    play.hears(f"<presence from='{BEN}/x' to='c0@{MIX}'/>")


def test_tokens_may_be_spent_in_advance() -> None:
    buckets: Buckets[str] = Buckets(10, 100)
    assert buckets.take("a", 0.0, 0) == 0
    buckets.spend("a", 150)
    assert buckets.take("a", 0.0, 0) == pytest.approx(5.1)
    assert buckets.take("a", 5.1, 0) == 0


def test_channels_that_changed_meanwhile_are_skipped_or_asked() -> None:
    play = crowded()
    comes_online(play, LAPTOP)
    row = play.core.mirror.row(jid.parse(ANNA))
    participants = play.core.parts.participants
    forgotten, doubted, *rest = reversed(list(row.participants))
    participants.forget(row, forgotten)
    participants.doubt(row, doubted)
    for key in rest[: len(rest) // 2]:
        memory = row.participants[key]
        assert isinstance(memory, ParticipantPresence)
        for sender in list(memory.stanzas)[1:]:
            participants.presences.drop(row.key, key, memory, sender)
    play.waits(100)
    heard = play.hears_all()
    assert not any(forgotten in each for each in heard)
    assert [each for each in heard if b"to='%b'" % doubted in each]
