"""Rosters on their way: as much work as there are items and channels, and never too large.

The kind: what many channels, many items or large participant ids make of a roster, the time
for it follows their number, and the result fits into what the server takes: annotated, in part
if need be, or as it came.
"""

import re

import pytest
from driver import ANNA, MIX, OWN, PHONE, SERVER, Play

from component.core.users import packed
from component.core.users.mirror import Membership
from schemas import codec, jid

MARK = "<annotate xmlns='urn:xmpp:mix:roster:0'/>"
NAMES = [f"c{number}@{MIX}" for number in range(1_000)]


def member(play: Play, id_: str = "{}") -> None:
    """Have Anna be in all of these channels."""
    memberships = [
        Membership(jid.parse(name), id_.format(number), None, (), 1, shares_presence=True)
        for number, name in enumerate(NAMES)
    ]
    play.core.mirror.enter(jid.parse(ANNA), memberships)


def says_hello(play: Play, attributes: str) -> None:
    play.says(
        f"<message from='{SERVER}' to='{OWN}'>"
        f"<hello xmlns='mixpam:tap:1' version='1' {attributes}/></message>"
    )
    play.hears_all()


def roster(items: str, odd: str = "") -> str:
    return (
        f"<iq type='result' from='{ANNA}' to='{PHONE}' id='r'>"
        f"<query xmlns='jabber:iq:roster'>{MARK}{odd}{items}</query></iq>"
    )


ITEMS = "".join(f"<item jid='{name}' subscription='from'/>" for name in NAMES)


@pytest.mark.parametrize("odd", ["", "<odd xmlns='u'/>"], ids=["as bytes", "as a tree"])
def test_the_users_channels_are_looked_through_once(
    odd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    play, walks = Play(), 0
    member(play)
    unpack = packed.Interned.unpack

    def counted(interned: packed.Interned, codes: bytes, details: bytes) -> object:
        nonlocal walks
        walks += 1
        return unpack(interned, codes, details)

    monkeypatch.setattr(packed.Interned, "unpack", counted)
    play.says(roster(ITEMS, odd))
    (data,) = play.hears_all()
    items = codec.read(data)[0].findall("{jabber:iq:roster}item")
    ids = [item[0].get("participant-id") for item in items]
    assert ids == [str(number) for number in range(len(NAMES))]
    assert walks == 1


def test_a_push_of_what_is_no_channel_looks_through_none(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play()
    member(play)
    monkeypatch.setattr(packed.Interned, "unpack", None)
    play.says(roster("<item jid='ben@example.org'/>"))
    assert len(play.hears_all()) == 1


@pytest.mark.parametrize("odd", ["", "<odd xmlns='u'/>"], ids=["as bytes", "as a tree"])
@pytest.mark.parametrize("limit", ["limit='80000'", "limit='200000'", "limit='70000'", ""])
def test_it_fits_into_what_the_server_takes(odd: str, limit: str) -> None:
    """Ids of apostrophes grow six times; with all of them it would be six megabytes."""
    play = Play()
    member(play, "{}" + "'" * 1_000)
    says_hello(play, limit)
    play.says(roster(ITEMS, odd))
    (data,) = play.hears_all()
    room = int(re.sub(r"\D", "", limit) or 2 * 262_144)
    assert len(data) <= room
    items = codec.read(data)[0].findall("{jabber:iq:roster}item")
    assert [item.get("jid") for item in items] == NAMES
    # As bytes, some of it is annotated; a tree tells its size only when it is written.
    marked = sum(len(item) for item in items)
    assert (marked == 0) if odd else (0 < marked < len(NAMES))


@pytest.mark.parametrize("odd", ["", "<odd xmlns='u'/>"], ids=["as bytes", "as a tree"])
def test_who_is_in_no_channel_gets_the_roster_as_it_was(odd: str) -> None:
    play = Play()
    play.says(f"<presence from='{PHONE}' to='{OWN}'/>")
    play.hears_all()
    play.says(roster(ITEMS, odd))
    play.hears(roster(ITEMS, odd).replace(MARK, ""))
