"""What is left out has the effect that its kind demands.

The kind: whatever is in a stanza, a size, a depth, a number of elements, a spelling or a fault of
ours that keeps it from being read, its start tag says who, to whom, which id and which type. So
each of these tests is played with every way of being unreadable: a request is answered, and
the text says why; sessions and participants are there or gone by the type of their presence;
an answer ends its question; what may have been a kick, or the end of a roster item, is asked
after; a roster goes on as it was.
"""

from collections.abc import Callable

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
    roll_is_called,
    roster_is_set,
    service_question,
    tap_is_up,
)

from schemas import codec

Sends = Callable[[Play, str], None]
"""Sends a stanza (start tag and end tag, nothing between) so that it cannot be read."""


def oversized(play: Play, empty: str) -> None:
    play.leaves_out(empty)


def filled(content: str) -> Sends:
    def send(play: Play, empty: str) -> None:
        assert empty.endswith("/>")
        name = empty[1:].partition(" ")[0]
        play.says(f"{empty[:-2]}>{content}</{name}>")

    return send


WAYS: dict[str, tuple[Sends, str]] = {
    "too large": (oversized, "larger than 262,144 bytes"),
    "too deep": (filled("<a>" * 120 + "</a>" * 120), "nested deeper than 100 levels"),
    "too many elements": (filled("<a/>" * 50_010), "more than 50,000 elements"),
    "brace in a namespace": (filled("<a xmlns='u}v'/>"), "brace"),
    "brace, written as a reference": (filled("<p:a xmlns:p='u&#125;v'/>"), "brace"),
    "brace in an attribute's": (filled("<a xmlns:p='u&#x7d;v' p:b='1'/>"), "brace"),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> tuple[Sends, str]:
    return WAYS[request.param]


@pytest.fixture
def send(way: tuple[Sends, str]) -> Sends:
    return way[0]


@pytest.fixture
def play() -> Play:
    made = Play()
    in_the_coven(made, PHONE)
    made.reports.clear()
    return made


def _error(sender: str, to: str, id_: str, type_: str) -> str:
    told = f"<error type='{type_}'>*</error>"
    return f"<iq type='error' from='{sender}' to='{to}' id='{id_}'>{told}</iq>"


def is_told(play: Play) -> bool:
    """Tell whether the operator was told of it, and it was counted."""
    told = play.reported("stanza-oversized") or play.reported("stanza-malformed")
    return told and bool(play.dropped("oversized") or play.dropped("malformed"))


# -- requests ----------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", ["set", "get"])
@pytest.mark.parametrize("id_", ["r1", "&apos;&#38;&quot;"])
def test_a_request_of_a_client_is_answered(
    play: Play, way: tuple[Sends, str], type_: str, id_: str
) -> None:
    send, why = way
    send(play, f"<iq type='{type_}' from='{PHONE}' to='{ANNA}' id='{id_}'/>")
    got = play.hears(_error(ANNA, PHONE, id_, "modify"))
    text = got.findtext(f"*/{{{STANZAS}}}text", "")
    assert why in text
    play.silence()
    assert is_told(play)


def test_a_request_to_the_component_is_answered(play: Play, send: Sends) -> None:
    for sender in (PHONE, "eve@evil.example/r", "evil.example"):
        send(play, f"<iq type='get' from='{sender}' to='{OWN}' id='q'/>")
        play.hears(_error(OWN, sender, "q", "modify"))
    send(play, f"<iq type='get' from='{PHONE}' to='x@{OWN}' id='q'/>")
    play.hears(
        f"<iq type='error' from='x@{OWN}' to='{PHONE}' id='q'>{error('service-unavailable')}</iq>"
    )
    play.silence()


def test_a_request_that_is_nobodys_business_is_not_answered(play: Play, send: Sends) -> None:
    for sender in (f"{BEN}/r", "eve@evil.example/r", COVEN):
        send(play, f"<iq type='set' from='{sender}' to='{ANNA}' id='q'/>")
    send(play, f"<iq type='set' from='{PHONE}' to='{COVEN}' id='q'/>")
    play.silence()


def test_what_an_error_quotes_can_always_be_sent() -> None:
    play = Play()
    tap_is_up(play)
    play.says(client_join(channel="a" * 2_000 + "&#x7f;@b c"))
    play.hears(f"<iq type='error' from='{ANNA}' to='{PHONE}' id='j1'>*</iq>")
    play.silence()


# -- answers -----------------------------------------------------------------------------------


def test_the_result_of_a_join_is_undone_and_the_client_told(way: tuple[Sends, str]) -> None:
    send, why = way
    play = Play()
    tap_is_up(play)
    asks_to_join(play)
    send(play, f"<iq type='result' from='{COVEN}' to='{ANNA}' id='j1'/>")
    got = play.hears(_error(ANNA, PHONE, "j1", "cancel"))
    assert why in got.findtext(f"*/{{{STANZAS}}}text", "")
    id_ = asked_to_leave(play)
    play.says(channel_answers("<leave xmlns='urn:xmpp:mix:core:1'/>", id_=id_))
    roster_is_set(play, "remove")
    play.silence()
    assert not play.members()
    # And again, as if nothing had been.
    play.says(client_join(id_="j2"))
    asked_to_join(play, id_="j2")
    play.says(channel_answers(granted(), id_="j2"))
    roster_is_set(play)
    assert play.members() == {COVEN: "123"}


def test_an_error_of_a_channel_is_one(way: tuple[Sends, str]) -> None:
    send, why = way
    play = Play()
    tap_is_up(play)
    asks_to_join(play)
    send(play, f"<iq type='error' from='{COVEN}' to='{ANNA}' id='j1'/>")
    got = play.hears(_error(ANNA, PHONE, "j1", "cancel"))
    assert why in got.findtext(f"*/{{{STANZAS}}}text", "")
    play.silence()


def test_a_channel_that_lets_go_lets_go(play: Play, send: Sends) -> None:
    play.says(client_leave())
    play.hears(f"<iq type='set' from='{ANNA}' to='{COVEN}' id='l1'><leave xmlns='{CORE_1}'/></iq>")
    send(play, f"<iq type='result' from='{COVEN}' to='{ANNA}' id='l1'/>")
    roster_is_set(play, "remove")
    play.hears(f"<iq type='result' from='{ANNA}' to='{PHONE}' id='l1'>*</iq>")
    assert not play.members()
    play.silence()


def test_a_service_that_cannot_be_understood_is_not_taken_for_none(send: Sends) -> None:
    play = Play()
    tap_is_up(play)
    play.says(client_join())
    id_ = service_question(play)
    send(play, f"<iq type='result' from='{MIX}' to='{ANNA}' id='{id_}'/>")
    got = play.hears(_error(ANNA, PHONE, "j1", "wait"))
    assert got.find(f"*/{{{STANZAS}}}resource-constraint") is not None
    play.silence()


def test_an_answer_of_a_device_ends_the_question(send: Sends) -> None:
    play = Play()
    tap_is_up(play)
    play.says(f"<presence from='{PHONE}' to='{OWN}'/>")
    id_ = play.hears_anything().get("id")
    send(play, f"<iq type='result' from='{PHONE}' to='{OWN}' id='{id_}'/>")
    assert play.counts["capability", "no-answer"] == 1


def test_a_roster_that_cannot_be_read_is_not_empty(play: Play, send: Sends) -> None:
    play.says(f"<message from='{SERVER}' to='{OWN}'><replayed xmlns='mixpam:tap:1'/></message>")
    question = play.hears(
        f"<iq type='get' from='{OWN}' to='{ANNA}' id='*'><query xmlns='jabber:iq:roster'/></iq>"
    )
    send(play, f"<iq type='result' from='{ANNA}' to='{OWN}' id='{question.get('id')}'/>")
    play.silence()
    assert play.members() == {COVEN: "123"}


def test_an_answer_that_nobody_waits_for_is_dropped(play: Play, send: Sends) -> None:
    send(play, f"<iq type='result' from='{COVEN}' to='{ANNA}' id='1'/>")
    send(play, f"<iq type='error' from='{COVEN}' to='{ANNA}' id='1'/>")
    send(play, f"<iq type='result' from='{COVEN}' to='{OWN}' id='1'/>")
    play.silence()


# -- sessions ------------------------------------------------------------------------------------


def test_a_session_is_there_and_gone_by_the_type_of_its_presence(play: Play, send: Sends) -> None:
    send(play, f"<presence from='{LAPTOP}' to='{OWN}'/>")
    query = play.hears(f"<iq type='get' from='{OWN}' to='{LAPTOP}' id='*'>*</iq>")
    answers_disco(play, LAPTOP, query.get("id", ""), CORE_1)
    play.hears(f"<presence from='{LAPTOP}' to='{COVEN}'/>")
    play.says(f"<message from='{COVEN}' to='{ANNA}'><body>x</body></message>")
    for device in (PHONE, LAPTOP):
        play.hears(f"<message from='{COVEN}' to='{device}'><body>x</body></message>")
    send(play, f"<presence type='unavailable' from='{LAPTOP}' to='{OWN}'/>")
    play.hears(f"<presence type='unavailable' from='{LAPTOP}' to='{COVEN}'/>")
    play.says(f"<message from='{COVEN}' to='{ANNA}'><body>x</body></message>")
    play.hears(f"<message from='{COVEN}' to='{PHONE}'><body>x</body></message>")
    play.silence()


def test_what_is_known_of_a_device_stays(play: Play, send: Sends) -> None:
    play.says(f"<presence from='{PHONE}' to='{OWN}'><show>away</show></presence>")
    play.hears(f"<presence from='{PHONE}' to='{COVEN}'><show>away</show></presence>")
    send(play, f"<presence from='{PHONE}' to='{OWN}'/>")
    play.hears(f"<presence from='{PHONE}' to='{COVEN}'/>")
    play.says(f"<message from='{COVEN}' to='{ANNA}'/>")
    play.hears(f"<message from='{COVEN}' to='{PHONE}'/>")
    play.silence()


def test_a_device_whose_hash_is_being_asked_for_is_waited_for(play: Play, send: Sends) -> None:
    caps = "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/>"
    play.says(f"<presence from='{LAPTOP}' to='{OWN}'>{caps}</presence>")
    query = play.hears(f"<iq type='get' from='{OWN}' to='{LAPTOP}' id='*'>*</iq>")
    send(play, f"<presence from='{LAPTOP}' to='{OWN}'/>")
    answers_disco(play, LAPTOP, query.get("id", ""), CORE_1, node="n#v")
    play.hears(f"<presence from='{LAPTOP}' to='{COVEN}'/>")
    play.silence()


# -- participants ----------------------------------------------------------------------------------


def test_a_participant_is_there_and_gone_by_the_type_of_the_presence(play: Play) -> None:
    """Only what is too large: what is not parsed is passed on as it is."""
    them = f"9#{COVEN}/x"
    play.leaves_out(f"<presence from='{them}' to='{ANNA}'/>")
    play.hears(f"<presence from='{them}' to='{PHONE}'/>")
    comes_online(play, LAPTOP)
    play.hears(f"<presence from='{them}' to='{LAPTOP}'/>")
    play.hears(f"<presence from='{LAPTOP}' to='{COVEN}'/>")
    play.leaves_out(f'<presence type="unavailable" from="{them}" to="{ANNA}"/>')
    for device in (PHONE, LAPTOP):
        play.hears(f"<presence type='unavailable' from='{them}' to='{device}'/>")
    play.silence()


def test_a_flood_of_them_waits_like_any_other_and_in_order() -> None:
    play = Play(presence_rate=2)
    in_the_coven(play, PHONE)
    for number in range(4):
        play.says(f"<presence from='{number}#{COVEN}' to='{ANNA}'><status/></presence>")
        play.leaves_out(f"<presence type='unavailable' from='{number}#{COVEN}' to='{ANNA}'/>")
    play.waits(10)
    last: dict[str | None, str | None] = {}
    for data in play.hears_all():
        presence = codec.read(data)
        last[presence.get("from")] = presence.get("type")
    assert last == {f"{number}#{COVEN}": "unavailable" for number in range(4)}


def test_presence_of_strangers_and_other_types_do_nothing(play: Play, send: Sends) -> None:
    for type_ in ("", "type='unavailable'"):
        send(play, f"<presence {type_} from='x@{MIX}/1' to='{ANNA}'/>")
    for type_ in ("error", "subscribe", "unsubscribed"):
        send(play, f"<presence type='{type_}' from='{COVEN}' to='{ANNA}'/>")
    play.silence()


def test_a_probe_is_answered_whatever_is_in_it(play: Play, send: Sends) -> None:
    send(play, f"<presence type='probe' from='{COVEN}' to='{ANNA}'/>")
    play.hears(f"<presence from='{PHONE}' to='{COVEN}'/>")
    play.silence()


def test_what_comes_while_a_join_is_under_way_waits() -> None:
    play = Play()
    tap_is_up(play)
    comes_online(play)
    asks_to_join(play)
    play.leaves_out(f"<presence from='9#{COVEN}' to='{ANNA}'/>")
    play.silence()
    play.says(channel_answers(granted()))
    roster_is_set(play)
    play.hears(f"<iq type='result' from='{ANNA}' to='{PHONE}' id='j1'>*</iq>")
    play.hears(f"<presence from='9#{COVEN}' to='{PHONE}'/>")
    play.hears(f"<presence from='{PHONE}' to='{COVEN}'/>")


# -- messages --------------------------------------------------------------------------------------


def test_a_message_of_a_stranger_is_refused_as_ever(play: Play, send: Sends) -> None:
    for sender in (f"other@{MIX}", f"9#other@{MIX}/x"):
        for user in (ANNA, BEN):
            send(play, f"<message type='groupchat' from='{sender}' to='{user}' id='m'/>")
            play.hears(
                f"<message type='error' from='{user}' to='{sender}' id='m'>"
                f"{error('service-unavailable')}</message>"
            )
    send(play, f"<message type='error' from='other@{MIX}' to='{ANNA}' id='m'/>")
    play.silence()


def test_a_message_of_the_channel_is_in_the_archive_and_told_of(play: Play) -> None:
    play.leaves_out(f"<message type='groupchat' from='{COVEN}' to='{ANNA}' id='m'/>")
    play.waits(100)
    play.silence()
    assert is_told(play)


def test_what_may_have_been_a_kick_is_asked_after(play: Play) -> None:
    for _ in range(5):
        play.leaves_out(f"<message from='{COVEN}' to='{ANNA}' id='m'/>")
    play.silence()
    play.waits(2)
    finds_nobody(play, roll_is_called(play, "123"))
    roster_is_set(play, "remove")
    assert not play.members()
    play.silence()


@pytest.mark.parametrize("fill", ["<a>" * 120 + "</a>" * 120, "<a xmlns='u}v'/>", "<a/>" * 50_010])
def test_a_kick_that_is_passed_on_but_cannot_be_read_is_asked_after(play: Play, fill: str) -> None:
    play.says(
        f"<message from='{COVEN}' to='{ANNA}'><event xmlns='http://jabber.org/protocol/pubsub#event'>"
        "<items node='urn:xmpp:mix:nodes:participants'><retract id='123'/></items></event>"
        f"{fill}</message>"
    )
    assert len(play.hears_all()) == 1
    play.waits(2)
    roll_is_called(play, "123")


def test_an_event_is_told_of_and_refused(play: Play, send: Sends) -> None:
    send(play, f"<message from='{SERVER}' to='{OWN}' id='e'/>")
    play.hears(f"<message type='error' from='{OWN}' to='{SERVER}' id='e'>*</message>")
    send(play, f"<message from='{PHONE}' to='{OWN}' id='e'/>")
    play.silence()


# -- rosters ---------------------------------------------------------------------------------------


def the_roster(play: Play, *items: str) -> None:
    """Let the component read Anna's roster."""
    question = play.hears(
        f"<iq type='get' from='{OWN}' to='{ANNA}' id='*'><query xmlns='jabber:iq:roster'/></iq>"
    )
    play.says(
        f"<iq type='result' from='{ANNA}' to='{OWN}' id='{question.get('id')}'>"
        f"<query xmlns='jabber:iq:roster'>{''.join(items)}</query></iq>"
    )


def test_a_roster_push_that_cannot_be_read_has_the_roster_read(play: Play, send: Sends) -> None:
    push = f"<iq type='set' from='{ANNA}' to='{OWN}' id='p'/>"
    send(play, push)
    the_roster(play, f"<item jid='{COVEN}' subscription='from'/>", f"<item jid='{BEN}'/>")
    play.silence()
    send(play, push)
    the_roster(play, f"<item jid='{COVEN}' subscription='none'/>")
    play.hears(f"<presence type='unavailable' from='{PHONE}' to='{COVEN}'/>")
    send(play, push)
    the_roster(play)
    asked_to_leave(play)
    assert not play.members()
    send(play, push)
    play.silence()


def test_a_roster_that_is_read_again_may_be_gone_or_not_be_given(play: Play) -> None:
    for condition, stays in (("internal-server-error", True), ("item-not-found", False)):
        play.leaves_out(f"<iq type='set' from='{ANNA}' to='{OWN}' id='p'>")
        asked = play.hears_anything()
        play.says(
            f"<iq type='error' from='{ANNA}' to='{OWN}' id='{asked.get('id')}'>"
            f"{error(condition)}</iq>"
        )
        assert bool(play.members()) == stays
    asked_to_leave(play)


def test_of_what_goes_to_a_session_only_rosters_come_back(play: Play) -> None:
    play.leaves_out(f"<message from='{ANNA}' to='{PHONE}' id='p'>")
    play.silence()


MARK = "<annotate xmlns='urn:xmpp:mix:roster:0'/>"


@pytest.mark.parametrize("fill", ["<a>" * 120 + "</a>" * 120, "<a xmlns='u}v'/>", "<a/>" * 50_010])
def test_a_roster_that_cannot_be_annotated_goes_on_as_it_was(play: Play, fill: str) -> None:
    roster = (
        f"<iq type='result' from='{ANNA}' to='{PHONE}' id='r'><query xmlns='jabber:iq:roster'>"
        f"%s<item jid='{COVEN}'>%s</item>{fill}</query></iq>"
    )
    play.says(roster % (MARK, ""))
    assert play.hears_all() == [(roster % ("", "")).encode()]


@pytest.mark.parametrize("pages", [False, True])
def test_a_part_of_a_roster_that_is_too_large_ends_the_taps_wait(pages: bool) -> None:
    """A tap that gives whole rosters would take an empty one for the roster."""
    play = Play()
    play.says(
        f"<message from='{SERVER}' to='{OWN}'><hello xmlns='mixpam:tap:1' version='1'"
        f" pages='{str(pages).lower()}'/></message>"
    )
    play.hears_all()
    play.leaves_out(f"<iq type='result' from='{ANNA}' to='{PHONE}' id='r'/>")
    if pages:
        play.hears(
            f"<iq type='result' from='{ANNA}' to='{PHONE}' id='r'>"
            "<query xmlns='jabber:iq:roster'/></iq>"
        )
    play.silence()


# -- several at once -------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [False, True], ids=["", "cut off"])
def test_a_stanza_for_many_has_its_effect_for_each(cut: bool) -> None:
    play = Play()
    gathering = in_the_coven(play, PHONE, multicast=True)
    listed = "".join(f"<address type='to' jid='{user}' id='7'/>" for user in (ANNA, BEN))
    rest = "<address type='to' jid='car" if cut else "</addresses><body>"
    play.leaves_out(
        f"<message type='groupchat' from='{COVEN}' to='{gathering}' id='m'>",
        f"<addresses xmlns='http://jabber.org/protocol/address'>{listed}{rest}",
    )
    unavailable = error("service-unavailable")
    play.hears(f"<message type='error' from='{BEN}' to='{COVEN}' id='m'>{unavailable}</message>")
    play.leaves_out(
        f"<message from='{COVEN}' to='{gathering}' id='m'>",
        f"<addresses xmlns='http://jabber.org/protocol/address'>{listed}{rest}",
    )
    play.hears(f"<message type='error' from='{BEN}' to='{COVEN}' id='m'>{unavailable}</message>")
    play.silence()
    play.waits(2)
    roll_is_called(play, "123")
    assert play.dropped("oversized") == 2


def test_nobody_learns_where_the_tap_gathers() -> None:
    play = Play()
    gathering = in_the_coven(play, PHONE, multicast=True)
    domain, _, secret = gathering.partition("/")
    for content in ("<body/>", "<addresses/>", "<a>" * 120 + "</a>" * 120):
        for to in (gathering, f"{domain.upper()}/{secret}"):
            play.says(
                f"<message from='{COVEN}' to='{to}' id='m' type='groupchat'>{content}</message>"
            )
    play.silence()
