"""Many memberships that end at once: here in one go, for the channels a few at a time.

Whatever ends them (a roster or a whole roster list that lacks them, an account that is no more,
the operator, a cut with as many in the journal), of this kind is: that what it sends grows with
the number of users, channels or services; that memory is packed anew for each; that one user,
or dead domains, hold up another's; that a cut, a store that is away, or a client that joins in
between lose one, or have a leave follow a join. Counted in stanzas, writes and packs.
"""

import pytest
from driver import ANNA, OWN, SERVER, Play, Stored
from scenes import channel_answers, client_join, error, tap_is_up

from component.core.membership.background_leaves import AT_ONCE, HELD
from component.core.users.mirror import Row
from schemas import codec
from schemas.records import MembershipRecord

MANY = 300
BEN = f"ben@{SERVER}"


def channel(number: int) -> str:
    return f"c@n{number}.example"


def starts(channels: int = MANY, *others: str) -> Play:
    stored = Stored()
    for user, number in [(ANNA, each) for each in range(channels)] + [(o, 0) for o in others]:
        record = MembershipRecord(channel=channel(number), participant_id="123")
        stored.memberships[user, record.channel] = record
    play = Play(stored)
    tap_is_up(play, services=" ".join(f"n{number}.example" for number in range(channels)))
    return play


def removed(play: Play, user: str = ANNA) -> None:
    play.says(
        f"<message from='{SERVER}' to='{OWN}'><user-removed xmlns='mixpam:tap:1' jid='{user}'/>"
        f"</message>"
    )


def replayed(play: Play) -> None:
    play.says(f"<message from='{SERVER}' to='{OWN}'><replayed xmlns='mixpam:tap:1'/></message>")


def rosters_are(play: Play, items: str = "") -> list[tuple[str, str]]:
    """Answer all rosters that are asked for; give the leaves that were sent: user, channel."""
    left = []
    for raw in play.hears_all():
        stanza = codec.read(raw)
        user, id_ = stanza.get("to", ""), stanza.get("id", "")
        if stanza.get("type") == "get" and stanza.get("from") == OWN:
            play.says(
                f"<iq type='result' from='{user}' to='{OWN}' id='{id_}'>"
                f"<query xmlns='jabber:iq:roster'>{items}</query></iq>"
            )
        elif b"<leave" in raw:
            left.append((stanza.get("from", ""), user))
    return left


def leaves(play: Play) -> list[tuple[str, str]]:
    """Take all that was written; give the leaves: user, channel."""
    found = [codec.read(raw) for raw in play.hears_all() if b"<leave" in raw]
    return [(each.get("from", ""), each.get("to", "")) for each in found]


def journal_of(play: Play, user: str = ANNA) -> set[str]:
    return {channel for owner, channel in play.stored.journal if owner == user}


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many members each packing of a row has had."""
    done: list[int] = []
    pack = Row._pack

    def counting(row: Row, members: list) -> None:  # type: ignore[type-arg]
        done.append(len(members))
        pack(row, members)

    monkeypatch.setattr(Row, "_pack", counting)
    return done


def ends(play: Play, way: str) -> list[tuple[str, str]]:
    """Have all of Anna's memberships end; give the leaves that went out at once."""
    if way == "account":
        removed(play)
        return leaves(play)
    replayed(play)
    rosters_are(play)
    first = leaves(play)
    play.waits(0.01)
    return first + leaves(play)


@pytest.mark.abuse(29)
@pytest.mark.parametrize("way", ["account", "audit"])
def test_all_end_here_at_once_and_the_channels_are_told_a_few_at_a_time(
    way: str, packs: list[int]
) -> None:
    play = starts()
    packs.clear()
    told = ends(play, way)
    assert not play.members()
    assert journal_of(play) == {channel(number) for number in range(MANY)}
    assert len(packs) <= 1 + MANY // 100 + 1
    assert 0 < len(told) <= AT_ONCE
    seconds = 0
    while len(told) < MANY:
        play.waits(HELD)
        seconds += 1
        more = leaves(play)
        assert 0 < len(more) <= AT_ONCE
        told += more
    assert sorted(told) == sorted((ANNA, channel(number)) for number in range(MANY))


def test_another_user_waits_for_no_more_than_the_turns_there_are() -> None:
    play = starts(MANY, BEN)
    removed(play)
    removed(play, BEN)
    play.waits(HELD)
    assert (BEN, channel(0)) in leaves(play)


@pytest.mark.parametrize("way", ["account", "audit"])
def test_a_cut_between_loses_none(way: str) -> None:
    play = starts()
    ends(play, way)
    play.link_is_cut()
    tap_is_up(play)
    assert 0 < len(leaves(play)) <= AT_ONCE
    play.link_is_cut()
    play = play.dies()
    tap_is_up(play)
    sent = leaves(play)
    assert 0 < len(sent) <= AT_ONCE
    for _ in range(MANY // AT_ONCE):
        play.waits(HELD)
        sent += leaves(play)
    assert sorted(sent) == sorted((ANNA, channel(number)) for number in range(MANY))


def test_a_store_that_is_away_has_nothing_forgotten() -> None:
    play = starts()
    play.store = "sleeps"
    removed(play)
    assert not leaves(play)
    play.store_wakes(works=False)
    assert len(leaves(play)) <= AT_ONCE
    assert not play.members()
    assert len(journal_of(play)) == MANY


def test_who_joins_meanwhile_comes_behind_the_leave() -> None:
    play = starts()
    removed(play)
    leaves(play)
    last = channel(MANY - 1)
    play.says(client_join(channel=last))
    (leave,) = [codec.read(raw) for raw in play.hears_all()]
    assert (leave.get("to"), leave.find("{urn:xmpp:mix:core:1}leave") is not None) == (last, True)
    play.says(channel_answers("", id_=leave.get("id", ""), channel=last))
    raw = play.hears_all()
    roster = codec.read(raw[0])
    play.says(
        f"<iq type='error' from='{ANNA}' to='{OWN}' id='{roster.get('id')}'>"
        f"{error('item-not-found')}</iq>"
    )
    assert any(b"disco#info" in each or b"<join" in each for each in play.hears_all())
    for _ in range(MANY // AT_ONCE + 1):
        play.waits(HELD)
        assert (ANNA, last) not in leaves(play)


def test_one_that_ends_alone_leaves_nothing_behind() -> None:
    play = starts(1)
    removed(play)
    (leave,) = [codec.read(raw) for raw in play.hears_all()]
    play.says(channel_answers("", id_=leave.get("id", ""), channel=channel(0)))
    (roster,) = [codec.read(raw) for raw in play.hears_all()]
    play.says(f"<iq type='result' from='{ANNA}' to='{OWN}' id='{roster.get('id')}'/>")
    assert play.core.next_deadline is None
    assert not play.stored.journal


def test_channels_of_one_service_come_one_after_the_other() -> None:
    stored = Stored()
    for number in range(MANY):
        record = MembershipRecord(channel=f"c{number}@mix.example", participant_id="123")
        stored.memberships[ANNA, record.channel] = record
    play = Play(stored)
    tap_is_up(play, services="mix.example")
    removed(play)
    left = leaves(play)
    assert len(left) == AT_ONCE
    play.waits(MANY * HELD / AT_ONCE)
    left += leaves(play)
    assert [channel for _, channel in left] == [f"c{number}@mix.example" for number in range(MANY)]
