"""Rosters that are larger than a stanza are read in pages (tap protocol "Pages of a roster").

The kind: whatever number of items a roster has, it is read to its end, a page at a time, with
nothing kept of it but what it is read for; and a tap that goes round in circles, or a page that
cannot be read, is no empty roster.
"""

from bisect import bisect_right
from itertools import pairwise

import pytest
from driver import ANNA, COVEN, OWN, PHONE, SERVER, Play, Stored
from scenes import (
    asked_to_leave,
    channel_answers,
    client_leave,
    comes_online,
    error,
)

from schemas import codec, jid
from schemas.records import MembershipRecord

MIX = "mix.example"
PAGE = 500


class Tap:
    """Plays a tap that gives rosters in pages."""

    def __init__(self, play: Play, items: list[str]) -> None:
        self.play = play
        self.items = sorted(items, key=str.encode)
        self.pages = 0
        play.says(
            f"<message from='{SERVER}' to='{OWN}'>"
            "<hello xmlns='mixpam:tap:1' version='1' pages='true'/></message>"
        )
        play.hears_all()

    def answers(self) -> None:
        """Give pages as long as the component asks for them."""
        while self.play.has_written:
            request = self.play.hears(
                f"<iq type='get' from='{OWN}' to='{ANNA}' id='*'>"
                "<query xmlns='jabber:iq:roster'>*</query></iq>"
            )
            self.give(request.get("id", ""), request[0][0].get("after", ""))

    def give(self, id_: str, after: str) -> None:
        """Give the page behind an item."""
        self.pages += 1
        start = bisect_right(self.items, after.encode(), key=str.encode)
        page = self.items[start : start + PAGE]
        more = " more='true'" if start + PAGE < len(self.items) else ""
        listed = "".join(f"<item jid='{item}' subscription='both'/>" for item in page)
        self.play.says(
            f"<iq type='result' from='{ANNA}' to='{OWN}' id='{id_}'><query"
            f" xmlns='jabber:iq:roster'>{listed}<page xmlns='mixpam:tap:1'{more}/></query></iq>"
        )


def friends(number: int) -> list[str]:
    return [f"friend{each}@example.net" for each in range(number)] + [f"zz@{MIX}"]


@pytest.fixture
def play() -> Play:
    stored = Stored()
    for channel in (COVEN, f"zz@{MIX}", f"aa@{MIX}"):
        record = MembershipRecord(channel=channel, participant_id="123")
        stored.memberships[ANNA, channel] = record
    return Play(stored)


def replayed(play: Play) -> None:
    play.says(f"<message from='{SERVER}' to='{OWN}'><replayed xmlns='mixpam:tap:1'/></message>")


@pytest.mark.parametrize("number", [0, 499, 500, 3_300, 30_000])
def test_what_was_removed_meanwhile_is_found_however_large_the_roster(
    play: Play, number: int
) -> None:
    tap = Tap(play, [*friends(number), f"aa@{MIX}"])
    replayed(play)
    while len(play._written) == 1:
        request = codec.read(play._written[0])
        if request.get("to") != ANNA:
            break
        play._written.popleft()
        tap.give(request.get("id", ""), request[0][0].get("after", ""))
    asked_to_leave(play)
    assert sorted(play.members()) == [f"aa@{MIX}", f"zz@{MIX}"]
    assert tap.pages == -(-(number + 2) // PAGE)
    play.silence()


def test_it_is_read_no_further_than_it_is_wanted_for(play: Play) -> None:
    tap = Tap(play, [*friends(30_000), f"aa@{MIX}", COVEN, "zzz@zzz.example"])
    tap.items.remove(f"zz@{MIX}")
    tap.items.insert(1, f"zz@{MIX}")
    replayed(play)
    tap.answers()
    assert len(play.members()) == 3
    assert tap.pages == 1


@pytest.mark.parametrize("there", [False, True])
def test_a_channel_that_memory_lacks_is_looked_for_to_the_end(there: bool) -> None:
    play = Play()
    tap = Tap(play, [*friends(3_300), *([COVEN] if there else [])])
    comes_online(play)
    play.says(client_leave(channel=COVEN if there else f"nowhere@{MIX}"))
    while tap.pages < (1 if there else 7):
        request = play.hears_anything()
        tap.give(request.get("id", ""), request[0][0].get("after", ""))
    if there:
        play.hears(f"<iq type='set' from='{ANNA}' to='{COVEN}' id='l1'>*</iq>")
    else:
        text = "you are not in that channel"
        told = error("item-not-found", "cancel", text)
        play.hears(f"<iq type='error' from='{ANNA}' to='{PHONE}' id='l1'>{told}</iq>")
    play.silence()


@pytest.mark.parametrize(
    "page",
    [
        "<item jid='a@example.net'/><page xmlns='mixpam:tap:1' more='true'/>",
        "<page xmlns='mixpam:tap:1' more='true'/>",
        "<item/><page xmlns='mixpam:tap:1' more='true'/>",
        "<item jid='é'/><a xmlns='u}v'/>",
        None,
    ],
    ids=["circle", "empty", "no address", "unreadable", "too large"],
)
def test_what_does_not_go_on_is_no_empty_roster(play: Play, page: str | None) -> None:
    tap = Tap(play, ["b@example.net", *friends(1_000)])
    replayed(play)
    request = play.hears_anything()
    tap.give(request.get("id", ""), "")
    second = play.hears_anything()
    assert second[0][0].get("after")
    start = f"<iq type='result' from='{ANNA}' to='{OWN}' id='{second.get('id')}'>"
    if page is None:
        play.leaves_out(start)
    else:
        play.says(f"{start}<query xmlns='jabber:iq:roster'>{page}</query></iq>")
    play.silence()
    assert len(play.members()) == 3


def test_what_is_joined_while_pages_are_read_is_not_missed(play: Play) -> None:
    tap = Tap(play, [*friends(1_000), f"aa@{MIX}", COVEN])
    replayed(play)
    request = play.hears_anything()
    tap.give(request.get("id", ""), "")
    # Its item would be on the page that has been read.
    play.core.mirror.join(
        jid.parse(ANNA),
        next(iter(play.core.mirror.rows.values()))
        .channels.all()[0]
        ._replace(channel=jid.parse(f"aaa@{MIX}")),
    )
    tap.answers()
    row = play.core.mirror.find(jid.parse(ANNA))
    assert row is not None
    assert f"aaa@{MIX}".encode() in row.channels


def test_a_push_that_was_left_out_has_the_pages_read(play: Play) -> None:
    tap = Tap(play, [*friends(3_300), f"aa@{MIX}"])
    play.leaves_out(f"<iq type='set' from='{ANNA}' to='{OWN}' id='p'>")
    for _ in range(7):
        request = play.hears_anything()
        tap.give(request.get("id", ""), request[0][0].get("after", ""))
    id_ = asked_to_leave(play)
    play.says(channel_answers("", id_=id_))
    assert sorted(play.members()) == [f"aa@{MIX}", f"zz@{MIX}"]


def test_the_bytes_of_addresses_order_pages() -> None:
    """As UTF-8 sorts, which is not as some languages' strings do."""
    items = sorted(["\U0001f4f1@b", "\uffee@b", "z@b"], key=str.encode)
    assert all(a.encode() < b.encode() for a, b in pairwise(items))
    play = Play()
    tap = Tap(play, [*items, *friends(600)])
    comes_online(play)
    play.says(client_leave(channel=f"nowhere@{MIX}"))
    while tap.pages < 2:
        request = play.hears_anything()
        tap.give(request.get("id", ""), request[0][0].get("after", ""))
    assert play.hears_anything().get("type") == "error"
