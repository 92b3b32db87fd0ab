"""The participants' presence that is kept is bounded in bytes, and kept once for all.

Of the kind: large presences, many participants, many channels, many users, senders with long
names, users without a device, and what waits because it came too fast. Whoever fills a share
has the channel asked again; everybody else is served from memory.
"""

import gc
import tracemalloc

import pytest
from driver import ANNA, BEN, COVEN, MIX, OWN, PHONE, Play, Stored
from scenes import comes_online, tap_is_up

from component.core.presence.participants import PRESENCE_NODE
from component.core.presence.presence_memory import CHANNEL_SHARE, USER_SHARE, Presences
from component.core.users.mirror import ParticipantPresence
from component.core.users.trimmed_presence import LARGEST, shortened
from component.wire.framing import Frame
from schemas import codec
from schemas.records import MembershipRecord

BUDGET = 1 << 20

SMALL = b"<presence from='a' to='b'><x/></presence>"


def members(*users: str, channels: tuple[str, ...] = (COVEN,), **limits: float) -> Play:
    """Start with members who share no presence, and whose channels tell theirs."""
    stored = Stored()
    for user in users:
        for channel in channels:
            stored.memberships[user, channel] = MembershipRecord(
                channel=channel, participant_id="1", nodes=[PRESENCE_NODE], shares_presence=False
            )
    play = Play(stored, **limits)
    tap_is_up(play, services=MIX)
    return play


def is_online(play: Play, user: str = ANNA, resource: str = "phone") -> None:
    """Bring a MIX device online; its channels are asked."""
    comes_online(play, f"{user}/{resource}")
    play.waits(10)
    play.hears_all()


def told(person: object, *, to: str = ANNA, channel: str = COVEN, content: str = "") -> str:
    return f"<presence from='{person}#{channel}/x' to='{to}'>{content}</presence>"


def size(play: Play) -> int:
    return play.core.parts.participants.presences.bytes


def served(play: Play, user: str = ANNA) -> list[bytes]:
    """Bring another device online; give what it is told without the channel's being asked."""
    comes_online(play, f"{user}/other")
    play.waits(1)
    return play.hears_all()


@pytest.mark.abuse(8)
def test_one_text_is_kept_for_all_users() -> None:
    users = [f"u{number}@example.org" for number in range(100)]
    play = members(*users)
    for user in users:
        is_online(play, user)
    status = "<status>" + 5_000 * "x" + "</status>"
    for person in range(20):
        for user in users:
            play.says(told(person, to=user, content=status))
    play.hears_all()
    assert 20 * 5_000 < size(play) < 20 * 5_000 + 20 * 100 * 200
    heard = [codec.read(each) for each in served(play, users[-1])]
    assert [each.get("from") for each in heard] == [f"{person}#{COVEN}/x" for person in range(20)]
    assert {each.get("to") for each in heard} == {f"{users[-1]}/other"}
    assert {each[0].text for each in heard} == {5_000 * "x"}


@pytest.mark.abuse(8)
@pytest.mark.parametrize("kind", ["participants", "large", "names"])
def test_a_channel_beyond_its_share_is_asked_and_others_are_served(kind: str) -> None:
    channels = (f"evil@{MIX}", COVEN)
    play = members(ANNA, BEN, channels=channels, presence_bytes=BUDGET, presence_rate=100_000)
    is_online(play)
    is_online(play, BEN)
    content = "<status>" + 6_000 * "x" + "</status>" if kind == "large" else "<a/>"
    name = 800 * "y" if kind == "names" else ""
    for person in range(1_000):
        play.says(told(f"{person}{name}", channel=f"evil@{MIX}", content=content + str(person)))
    assert size(play) <= BUDGET
    play.says(told(1, to=BEN))
    play.hears_all()
    heard = served(play)
    if kind != "participants":
        assert heard == [f"<presence from='{ANNA}' to='evil@{MIX}'/>".encode()]
    assert len(served(play, BEN)) == 1
    assert play.core.parts.participants.presences._channels[COVEN.encode()].bytes > 0


@pytest.mark.abuse(8)
def test_a_user_without_a_mix_device_has_nothing_kept() -> None:
    play = members(ANNA)
    for person in range(300):
        play.says(told(person, content="<status>" + 100_000 * "x" + "</status>"))
    assert size(play) == 0
    is_online(play)
    play.says(told(1))
    play.hears_all()
    assert size(play) > 0


@pytest.mark.abuse(8)
def test_a_large_presence_is_kept_without_what_is_large_in_it() -> None:
    play = members(ANNA)
    is_online(play)
    large = "<status>" + 100_000 * "x" + "</status><show>away</show>"
    play.says(told(1, content=large))
    play.hears(told(1, to=PHONE, content=large))
    assert size(play) < 1_000
    (heard,) = served(play)
    assert codec.read(heard)[0].text == "away"


@pytest.mark.abuse(8)
def test_what_waits_is_bounded_in_bytes() -> None:
    play = members(ANNA, presence_bytes=BUDGET, presence_rate=1)
    is_online(play)
    play.says(told(0))
    content = "<status>" + 10_000 * "x" + "</status>"
    for person in range(100):
        play.says(told(person, content=content))
    play.says(told(1, content=content + 5_000 * "y"))
    row = play.core.mirror.rows[ANNA.encode()]
    waiting = sum(
        len(data) for memory in row.participants.values() for data in memory.late.values()
    )
    assert 0 < waiting == row.activity.late_bytes <= BUDGET // 4 // USER_SHARE
    assert play.dropped("presence-flood") > 0
    play.waits(1_000)
    assert row.activity.late_bytes == 0
    assert play.core.parts.participants._late_bytes == 0


def test_nothing_is_counted_when_all_is_gone() -> None:
    users = [ANNA, BEN]
    play = members(*users)
    for user in users:
        is_online(play, user)
    for person in range(50):
        for user in users:
            play.says(told(person % 20, to=user, content=f"<status>{person}</status>"))
    assert size(play) > 0
    for person in range(20):
        for user in users:
            play.says(told(person, to=user).replace("<presence", "<presence type='unavailable'"))
    assert size(play) == 0
    play.says(told(1))
    play.link_is_cut()
    assert size(play) == 0
    assert play.core.parts.participants.presences._users == {}


@pytest.mark.abuse(8)
def test_bytes_are_counted_as_they_are_taken() -> None:
    presences = Presences(1 << 26)
    tracemalloc.start()
    memories = [ParticipantPresence() for _ in range(50)]
    for person in range(200):
        for number, memory in enumerate(memories):
            sender, text = b"%d#coven@mix" % person, b"x%d" % person + 500 * b"y"
            assert presences.keep(b"%d" % number, b"coven@mix", memory, sender, text)
    gc.collect()
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown / 2 < presences.bytes < 2 * grown


def test_shares_leave_room_for_others() -> None:
    presences = Presences(BUDGET)
    kept = sum(
        presences.keep(b"u%d" % user, b"c", ParticipantPresence(), b"s", b"%d" % user + 900 * b"x")
        for user in range(2_000)
    )
    assert 0 < kept < 2_000
    assert presences.bytes <= BUDGET // CHANNEL_SHARE
    assert presences.keep(b"other", b"d", ParticipantPresence(), b"s", b"text")


@pytest.mark.abuse(8)
@pytest.mark.parametrize(
    ("presence", "left"),
    [
        (
            b"<presence from='a' to='b'><x/></presence>",
            b"<presence from='a' to='b'><x/></presence>",
        ),
        (
            b"<presence from='a' to='b'><s>" + 9_000 * b"x" + b"</s><y/></presence>",
            b"<presence from='a' to='b'><y/></presence>",
        ),
        (
            b"<presence from='a' to='b' type='unavailable'>" + 9_000 * b"x" + b"</presence>",
            b"<presence from='a' to='b' type='unavailable'/>",
        ),
        (
            b"<presence from='a' to='b' x='" + 9_000 * b"x" + b"'><y/></presence>",
            b"<presence from='a' to='b'/>",
        ),
        (b"<presence><a>" + 5_000 * b"<a/>" + b"</a><y/></presence>", b"<presence><y/></presence>"),
    ],
)
def test_shortened(presence: bytes, left: bytes) -> None:
    short = shortened(presence)
    assert codec.write(codec.read(short)) == codec.write(codec.read(left))
    assert len(short) <= LARGEST
    assert Frame(short).sender == Frame(presence).sender


def test_a_start_tag_that_is_too_large_leaves_the_kind_and_the_addresses() -> None:
    large = f"<presence type='unavailable' from='a@b/c' to='d@e' x='{LARGEST * 'x'}'/>".encode()
    bare = b"<presence type='unavailable' from='a@b/c' to='d@e'/>"
    assert shortened(large) == bare
    assert shortened(large[:-2] + b"><not closed></presence>") == bare


def test_a_memory_without_room_stays_empty() -> None:
    play = members(ANNA, presence_bytes=1)
    is_online(play)
    for person in range(3):
        play.says(told(person))
    assert size(play) == 0


@pytest.mark.abuse(8)
def test_a_presence_that_waits_and_grows_beyond_the_bound_is_dropped() -> None:
    play = members(ANNA, presence_bytes=BUDGET, presence_rate=1)
    is_online(play)
    for person in (0, 1):
        play.says(told(person))
    play.says(told(1, content="<status>" + 50_000 * "x" + "</status>"))
    assert play.dropped("presence-flood") == 1
    assert play.core.mirror.rows[ANNA.encode()].activity.late_bytes == 0


def test_presence_without_a_device_is_forgotten_where_some_is_missing() -> None:
    play = members(ANNA, presence_memory=2)
    is_online(play)
    for person in range(4):
        play.says(told(person))
    play.says(f"<presence type='unavailable' from='{PHONE}' to='{OWN}'/>")
    play.says(told(9))
    assert size(play) == 0


@pytest.mark.req("P4")
def test_a_user_whose_turn_to_ask_is_still_to_come_is_queued_once() -> None:
    channels = tuple(f"c{number}@{MIX}" for number in range(30))
    play = members(BEN, channels=channels)
    member = MembershipRecord(
        channel=COVEN, participant_id="1", nodes=[PRESENCE_NODE], shares_presence=False
    )
    play.core.load_memberships(ANNA, [member])
    comes_online(play, f"{BEN}/phone")
    play.hears_all()
    for device in (PHONE, f"{ANNA}/other"):
        comes_online(play, device)
    play.silence()
    play.waits(10)
    asked = [codec.read(each).get("from") for each in play.hears_all()]
    assert asked.count(ANNA) == 1
