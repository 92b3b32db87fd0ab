"""Memberships that ended while no component was connected: found in the rosters.

Some accounts that all lose their channels, or say so, must not keep the others' leaving from
being found: their channels may be of another service, their rosters look otherwise.
"""

import pytest
from driver import ANNA, COVEN, OWN, PHONE, SERVER, Play, Stored
from scenes import (
    answers_disco,
    asked_to_leave,
    channel_answers,
    client_join,
    comes_online,
    error,
    granted,
    in_the_coven,
    roll_is_called,
    roster_is_set,
    tap_is_up,
)

from component.core.checks.roster_audit import AT_ONCE, FEW
from schemas import codec, jid
from schemas.records import MembershipRecord

MIX = "mix.example"


def starts(users: int = 1) -> Play:
    """Start with members from the store; the first of them is Anna."""
    stored = Stored()
    names = [ANNA, *(f"u{number}@{SERVER}" for number in range(1, users))]
    for name in names:
        stored.memberships[name, COVEN] = MembershipRecord(channel=COVEN, participant_id="123")
    play = Play(stored)
    tap_is_up(play, services=MIX)
    return play


def replayed(play: Play) -> None:
    play.says(f"<message from='{SERVER}' to='{OWN}'><replayed xmlns='mixpam:tap:1'/></message>")


def asked(play: Play, user: str = "*") -> tuple[str, str]:
    """Hear a roster being asked for; give whose it is and the id."""
    request = play.hears(
        f"<iq type='get' from='{OWN}' to='{user}' id='*'><query xmlns='jabber:iq:roster'/></iq>"
    )
    return request.get("to", ""), request.get("id", "")


def tells(play: Play, user: str, id_: str, items: str) -> None:
    play.says(
        f"<iq type='result' from='{user}' to='{OWN}' id='{id_}'>"
        f"<query xmlns='jabber:iq:roster'>{items}</query></iq>"
    )


def has_no_account(play: Play, user: str, id_: str) -> None:
    why = error("item-not-found")
    play.says(f"<iq type='error' from='{user}' to='{OWN}' id='{id_}'>{why}</iq>")


@pytest.mark.req("L6")
def test_a_channel_removed_meanwhile_is_left() -> None:
    play = starts()
    replayed(play)
    tells(play, *asked(play), "<item jid='ben@example.org' subscription='both'/>")
    id_ = asked_to_leave(play)
    assert not play.members()
    play.says(channel_answers("", id_=id_))
    roster_is_set(play, "remove")
    play.silence()
    assert not play.stored.journal
    assert play.reported("membership-gone")


def test_a_channel_that_is_there_stays() -> None:
    play = starts()
    replayed(play)
    tells(play, *asked(play), f"<item jid='{COVEN}' subscription='none'/>")
    play.silence()
    assert play.members() == {COVEN: "123"}


@pytest.mark.req("L5")
@pytest.mark.abuse(29)
def test_an_account_removed_meanwhile_leaves_everything() -> None:
    play = starts()
    replayed(play)
    has_no_account(play, *asked(play))
    asked_to_leave(play)
    assert not play.members()


@pytest.mark.parametrize("answer", ["error", "silence", "nothing"])
def test_a_roster_that_cannot_be_read_ends_nothing(answer: str) -> None:
    play = starts()
    replayed(play)
    user, id_ = asked(play)
    if answer == "silence":
        play.waits(31)
        roll_is_called(play, "123")
    elif answer == "nothing":
        play.says(f"<iq type='result' from='{user}' to='{OWN}' id='{id_}'/>")
    else:
        why = error("internal-server-error", "wait")
        play.says(f"<iq type='error' from='{user}' to='{OWN}' id='{id_}'>{why}</iq>")
    play.silence()
    assert play.members() == {COVEN: "123"}


@pytest.mark.abuse(24)
def test_rosters_that_are_all_empty_are_not_believed() -> None:
    play = starts(users=60)
    replayed(play)
    for _ in range(FEW):
        user, id_ = asked(play)
        play.says(
            f"<iq type='result' from='{user}' to='{OWN}' id='{id_}'>"
            f"<query xmlns='jabber:iq:roster'/></iq>"
        )
    left = 0
    while play.has_written and not play.reported("audit-stopped"):
        request = play.hears("<iq type='*' from='*' to='*' id='*'>*</iq>")
        if request.get("type") == "set":
            left += 1
        else:
            tells(play, request.get("to", ""), request.get("id", ""), "")
    assert play.reported("audit-stopped")
    kept = sum(len(row.channels) for row in play.core.mirror.rows.values())
    assert kept == 60 - FEW
    assert left <= FEW


LIARS = 14


@pytest.mark.abuse(24)
@pytest.mark.parametrize("other", ["service", "roster", "account"])
def test_some_accounts_that_lose_channels_do_not_stop_the_audit_of_others(other: str) -> None:
    stored = Stored()
    theirs = "den@evil.example" if other == "service" else COVEN
    for number in range(LIARS):
        user = f"u{number}@{SERVER}"
        stored.memberships[user, theirs] = MembershipRecord(channel=theirs, participant_id="1")
    stored.memberships[ANNA, COVEN] = MembershipRecord(channel=COVEN, participant_id="123")
    play = Play(stored)
    tap_is_up(play, services=" ".join(sorted({"mix.example", theirs.partition("@")[2]}, key=len)))
    replayed(play)
    others = ""
    while play.has_written:
        request = play.hears_anything()
        if request.get("type") == "get":
            if request.get("to") == ANNA:
                others = request.get("id", "")
            elif other == "account":
                has_no_account(play, request.get("to", ""), request.get("id", ""))
            else:
                tells(play, request.get("to", ""), request.get("id", ""), "")
    assert others
    kept = "" if other == "service" else "<item jid='ben@example.org' subscription='both'/>"
    tells(play, ANNA, others, kept)
    assert not play.members()
    [report] = [each for each in play.reports if each.event == "audit-stopped"]
    assert report.facts == {"service": theirs.partition("@")[2], "users": LIARS}
    left = [each.facts["user"] for each in play.reports if each.event == "membership-gone"]
    assert len(left) == FEW + 1
    assert ANNA in left


def test_a_channel_joined_anew_meanwhile_stays() -> None:
    play = starts(users=60)
    replayed(play)
    again = jid.parse(f"u{FEW + 3}@{SERVER}")
    lost = [ANNA, *(f"u{number}@{SERVER}" for number in range(1, FEW + 5))]
    while play.has_written:
        request = play.hears_anything()
        user, id_ = request.get("to", ""), request.get("id", "")
        if request.get("type") == "get":
            tells(play, user, id_, "" if user in lost else f"<item jid='{COVEN}'/>")
        if user == f"u40@{SERVER}":
            (membership,) = play.core.mirror.row(again).channels.values()
            play.core.mirror.join(again, membership._replace(participant_id="new"))
    assert not play.reported("audit-stopped")
    row = play.core.mirror.row(again)
    assert [each.participant_id for each in row.channels.values()] == ["new"]
    left = [each.facts["user"] for each in play.reports if each.event == "membership-gone"]
    assert sorted(left) == sorted(set(lost) - {str(again)})


def test_not_all_rosters_are_read_at_once_and_those_online_come_first() -> None:
    play = starts(users=60)
    device = f"u59@{SERVER}/x"
    comes_online(play, device)
    play.hears(f"<presence from='{device}' to='{COVEN}'/>")
    replayed(play)
    under_way = [asked(play) for _ in range(AT_ONCE)]
    play.silence()
    assert under_way[0][0] == f"u59@{SERVER}"
    tells(play, *under_way[0], f"<item jid='{COVEN}'/>")
    asked(play)
    play.silence()


@pytest.mark.abuse(25)
def test_the_next_link_begins_anew() -> None:
    play = starts(users=60)
    replayed(play)
    play.link_is_cut()
    tap_is_up(play, services=MIX)
    replayed(play)
    for _ in range(AT_ONCE):
        asked(play)
    play.silence()


def preference(word: str) -> str:
    """Write what is said of presence; empty for nothing."""
    return word and (
        "<user-preference xmlns='urn:xmpp:mix:anon:0'><x xmlns='jabber:x:data'>"
        f"<field var='Presence'><value>{word}</value></field></x></user-preference>"
    )


@pytest.mark.req("J7", "R6")
@pytest.mark.parametrize(
    "steps",
    [
        # What the user wants, what the channel says, what holds then.
        [("", "share", "from"), ("", "not share", "none")],
        # The channel's word only takes away: the user's no stays, until the user says yes.
        [("", "not share", "none"), ("", "share", "none"), ("", "", "none")],
        [("not share", "", "none"), ("", "share", "none"), ("share", "share", "from")],
        [("not share", "share", "none"), ("share", "", "from"), ("", "", "from")],
        [("share", "not share", "none"), ("share", "", "from")],
    ],
)
def test_joining_again_may_change_what_is_shared(steps: list[tuple[str, str, str]]) -> None:
    play = Play()
    in_the_coven(play, PHONE)
    now = "from"
    for number, (wish, word, then) in enumerate(steps):
        id_ = f"again{number}"
        play.says(client_join(content=preference(wish), id_=id_))
        play.hears(f"<iq type='set' from='{ANNA}' to='{COVEN}' id='{id_}'>*</iq>")
        play.says(channel_answers(granted(content=preference(word)), id_=id_))
        heard = []
        while play.has_written:
            stanza = play.hears_anything()
            heard.append((stanza.tag.partition("}")[2], stanza.get("type")))
            if stanza.get("type") == "set":
                (item,) = stanza.iter("{jabber:iq:roster}item")
                assert item.get("subscription") == then
                play.says(f"<iq type='result' from='{ANNA}' to='{OWN}' id='{stanza.get('id')}'/>")
        presence = [type_ for kind, type_ in heard if kind == "presence"]
        changed = [None] if then == "from" else ["unavailable"]
        assert presence == ([] if then == now else changed)
        assert ("iq", "result") in heard
        now = then


# -- an empty memory ---------------------------------------------------------------------


def two_online(items: str) -> Play:
    """Start without memberships; Anna and Ben are online, and have the same roster."""
    play = Play()
    tap_is_up(play)
    for device in (PHONE, "ben@example.org/b"):
        comes_online(play, device)
    replayed(play)
    for user, id_ in [asked(play), asked(play)]:
        tells(play, user, id_, items)
    return play


@pytest.mark.abuse(22)
def test_channels_in_rosters_tell_that_memory_was_lost() -> None:
    play = two_online(f"<item jid='{COVEN}'/><item jid='ben@example.org'/>")
    question = play.hears(
        f"<iq type='get' from='*' to='{MIX}' id='*'>"
        "<query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
    )
    asker = question.get("from", "")
    answers_disco(play, MIX, question.get("id", ""), "urn:xmpp:mix:core:1", to=asker)
    [report] = [each for each in play.reports if each.event == "memory-empty"]
    assert report.facts == {"channel": COVEN}
    # Its taps know the service from now on; nothing else has happened.
    play.hears(
        f"<message from='{OWN}' to='{SERVER}'>"
        f"<services xmlns='mixpam:tap:1'><service jid='{MIX}'/></services></message>"
    )
    play.silence()
    assert not play.members()


def test_contacts_that_are_no_channels_tell_nothing() -> None:
    play = two_online("<item jid='friend@elsewhere.example'/>")
    question = play.hears_anything()
    asker = question.get("from", "")
    answers_disco(play, "elsewhere.example", question.get("id", ""), "jabber:iq:time", to=asker)
    play.silence()
    assert not play.reported("memory-empty")


def test_rosters_without_channels_tell_nothing() -> None:
    play = two_online("<item jid='ben@example.org' subscription='both'/>")
    play.silence()
    assert not play.reported("memory-empty")


def test_only_those_of_the_server_that_has_told_all_are_looked_at() -> None:
    elsewhere = "carl@example.net"
    stored = Stored()
    for user in (ANNA, elsewhere):
        stored.memberships[user, COVEN] = MembershipRecord(channel=COVEN, participant_id="123")
        stored.shown[user, "phone"] = "digest"
    play = Play(stored)
    tap_is_up(play, services=MIX)
    replayed(play)
    play.waits(60)
    heard = [codec.read(each) for each in play.hears_all()]
    assert {each.get("to", "") for each in heard if each.get("type") == "get"} == {ANNA, COVEN}
    assert not [each for each in heard if elsewhere in each.get("from", "")]


def test_who_left_everything_meanwhile_has_nothing_to_lose() -> None:
    play = starts(2)
    replayed(play)
    under_way = dict([asked(play), asked(play)])
    gone = f"u1@{SERVER}"
    play.says(
        f"<message from='{SERVER}' to='{OWN}'><user-removed xmlns='mixpam:tap:1' jid='{gone}'/>"
        "</message>"
    )
    (leave,) = play.hears_all()
    id_ = codec.read(leave).get("id", "")
    play.says(channel_answers("", id_=id_, user=gone))
    roster_is_set(play, "remove", user=gone)
    has_no_account(play, gone, under_way[gone])
    tells(play, ANNA, under_way[ANNA], f"<item jid='{COVEN}'/>")
    play.silence()
    assert play.members() == {COVEN: "123"}
