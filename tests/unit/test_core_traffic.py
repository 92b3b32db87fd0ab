"""Strangers, errors, events, the component's own address, and rosters on their way."""

import xml.etree.ElementTree as ET

import pytest
from driver import ANNA, BEN, COVEN, DISCO, LAPTOP, MIX, OWN, PHONE, SERVER, Play
from scenes import error, in_the_coven, tap_is_up

from schemas import codec

ITEMS_NS = "http://jabber.org/protocol/disco#items"
UNAVAILABLE = error("service-unavailable")


@pytest.fixture
def play() -> Play:
    made = Play()
    in_the_coven(made, PHONE)
    return made


# -- what is not from a joined channel -----------------------------------------------------------


@pytest.mark.req("F6")
@pytest.mark.abuse(1, 2)
@pytest.mark.parametrize("to", [ANNA, BEN, "nobody@example.org"])
@pytest.mark.parametrize(
    "sender", [f"other@{MIX}", f"123#other@{MIX}/x", f"{COVEN}.evil", "coven@evil.example", MIX]
)
def test_a_strangers_message_is_refused_whoever_it_is_for(play: Play, to: str, sender: str) -> None:
    play.says(
        f"<message type='groupchat' from='{sender}' to='{to}' id='m'>"
        f"<mix xmlns='urn:xmpp:mix:core:1'/></message>"
    )
    play.hears(f"<message type='error' from='{to}' to='{sender}' id='m'>{UNAVAILABLE}</message>")
    play.silence()


@pytest.mark.req("F6")
def test_groupchat_of_a_participant_is_not_the_channels(play: Play) -> None:
    play.says(f"<message type='groupchat' from='9#{COVEN}' to='{ANNA}' id='m'/>")
    play.hears(f"<message type='error' from='{ANNA}' to='9#{COVEN}' id='m'>{UNAVAILABLE}</message>")
    play.silence()


SILENT = {
    "presence of a stranger": f"<presence from='other@{MIX}/1' to='{ANNA}'/>",
    "unavailable of a stranger": f"<presence type='unavailable' from='x@{MIX}' to='{ANNA}'/>",
    "presence error": f"<presence type='error' from='{COVEN}' to='{ANNA}'>{UNAVAILABLE}</presence>",
    "subscription": f"<presence type='subscribe' from='{COVEN}' to='{ANNA}'/>",
    "probe of a stranger": f"<presence type='probe' from='other@{MIX}' to='{ANNA}'/>",
    "message error of a stranger": f"<message type='error' from='x@{MIX}' to='{ANNA}'/>",
    "headline of a stranger": f"<message type='headline' from='x@{MIX}' to='{ANNA}'/>",
    "result": f"<iq type='result' from='{COVEN}' to='{ANNA}' id='1'/>",
    "error": f"<iq type='error' from='{COVEN}' to='{ANNA}' id='1'>{UNAVAILABLE}</iq>",
    "result to us": f"<iq type='result' from='{COVEN}' to='{OWN}' id='1'/>",
    "request without pam": f"<iq type='set' from='{PHONE}' to='{ANNA}' id='1'><x xmlns='u'/></iq>",
    "empty request": f"<iq type='set' from='{PHONE}' to='{ANNA}' id='1'/>",
    "message between strangers": "<message from='a@b' to='c@d'/>",
    "message to a session": f"<message from='{COVEN}' to='{PHONE}'/>",
    "message to oneself": f"<message from='{ANNA}' to='{PHONE}'/>",
    "message to us": f"<message from='{PHONE}' to='{OWN}'><body/></message>",
    "empty message to us": f"<message from='{PHONE}' to='{OWN}'/>",
    "presence to our domain": f"<presence from='{PHONE}' to='x@{OWN}'/>",
    "no sender": f"<message to='{ANNA}'/>",
    "bad sender": f"<message from='a@b@c' to='{ANNA}'/>",
}


@pytest.mark.req("F6")
@pytest.mark.abuse(5, 11, 20)
@pytest.mark.parametrize("stanza", SILENT.values(), ids=SILENT)
def test_errors_answers_and_nonsense_get_no_answer(play: Play, stanza: str) -> None:
    before = play.counts.total()
    play.says(stanza)
    play.silence()
    assert play.counts.total() > before
    assert play.members() == {COVEN: "123"}


def test_an_error_of_a_joined_channel_is_nobodys(play: Play) -> None:
    play.says(f"<message type='error' from='{COVEN}' to='{ANNA}'>{UNAVAILABLE}</message>")
    play.silence()


@pytest.mark.req("F1")
@pytest.mark.abuse(9)
def test_a_joined_channel_in_another_spelling_is_the_channel(play: Play) -> None:
    play.says(f"<message from='Coven@MIX.example./9' to='{ANNA}'><body>x</body></message>")
    play.hears(f"<message from='Coven@MIX.example./9' to='{PHONE}'><body>x</body></message>")
    play.says("<message from='9#COVEN@mix.example' to='ANNA@example.org'/>")
    play.hears(f"<message from='9#COVEN@mix.example' to='{PHONE}'/>")
    play.silence()


# -- events ------------------------------------------------------------------------------------


@pytest.mark.abuse(10)
@pytest.mark.parametrize("sender", ["evil.example", ANNA, PHONE, COVEN, f"{SERVER}/x", OWN])
@pytest.mark.parametrize(
    "event",
    [
        "<hello xmlns='mixpam:tap:1' version='1'/>",
        "<replayed xmlns='mixpam:tap:1'/>",
        f"<user-removed xmlns='mixpam:tap:1' jid='{ANNA}'/>",
        f"<hibernated xmlns='mixpam:tap:1' jid='{PHONE}'/>",
    ],
    ids=["hello", "replayed", "user-removed", "hibernated"],
)
def test_events_of_anybody_else_are_dropped_and_reported(
    play: Play, sender: str, event: str
) -> None:
    play.reports.clear()
    play.says(f"<message from='{sender}' to='{OWN}'>{event}</message>")
    play.silence()
    assert play.dropped("event-of-stranger") == 1
    is_of_a_domain = "hello" in event and sender == "evil.example"
    told = "tap-of-other-domain" if is_of_a_domain else "event-of-stranger"
    assert [report.event for report in play.reports] == [told]


@pytest.mark.parametrize(
    "event",
    [
        "<hello xmlns='mixpam:tap:1'/>",
        "<hibernated xmlns='mixpam:tap:1'/>",
        "<hibernated xmlns='mixpam:tap:1' jid='@'/>",
        "<hibernated xmlns='mixpam:tap:1' jid='example.org'/>",
        "<user-removed xmlns='mixpam:tap:1' jid='x@example.net'/>",
        "<s2s xmlns='mixpam:tap:1' domain='x' state='sideways'/>",
    ],
)
def test_a_malformed_event_is_told_of(play: Play, event: str) -> None:
    play.says(f"<message from='{SERVER}' to='{OWN}'>{event}</message>")
    play.hears(f"<message type='error' from='{OWN}' to='{SERVER}'>*</message>")
    play.silence()


@pytest.mark.req("F8")
def test_a_hibernated_session_goes_on_getting_copies(play: Play) -> None:
    for event in ("hibernated", "resumed"):
        play.says(
            f"<message from='{SERVER}' to='{OWN}'>"
            f"<{event} xmlns='mixpam:tap:1' jid='{PHONE}'/></message>"
        )
        play.says(f"<message from='{COVEN}' to='{ANNA}'/>")
        play.hears(f"<message from='{COVEN}' to='{PHONE}'/>")
    for unknown in (LAPTOP, f"{BEN}/x"):
        play.says(
            f"<message from='{SERVER}' to='{OWN}'>"
            f"<hibernated xmlns='mixpam:tap:1' jid='{unknown}'/></message>"
        )
    play.silence()


# -- the component's own address ---------------------------------------------------------------


def asks(play: Play, content: str, type_: str = "get") -> None:
    play.says(f"<iq type='{type_}' from='eve@evil.example/x' to='{OWN}' id='q'>{content}</iq>")


@pytest.mark.req("D2")
def test_the_component_says_what_it_is(play: Play) -> None:
    asks(play, f"<query xmlns='{DISCO}'/>")
    answer = play.hears(f"<iq type='result' from='{OWN}' to='eve@evil.example/x' id='q'>*</iq>")
    features = {feature.get("var") for feature in answer.iter(f"{{{DISCO}}}feature")}
    assert features == {
        DISCO,
        ITEMS_NS,
        "jabber:iq:version",
        "urn:xmpp:ping",
    }
    contacts = [value.text for value in answer.iter("{jabber:x:data}value")]
    assert contacts[-1] == "mailto:admin@example.org"


@pytest.mark.req("D2")
@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (
            f"<query xmlns='{ITEMS_NS}'/>",
            f"<query xmlns='{ITEMS_NS}'/>",
        ),
        (
            "<query xmlns='jabber:iq:version'/>",
            "<query xmlns='jabber:iq:version'>*</query>",
        ),
        ("<ping xmlns='urn:xmpp:ping'/>", ""),
    ],
    ids=["items", "version", "ping"],
)
def test_the_component_answers(play: Play, question: str, answer: str) -> None:
    asks(play, question)
    play.hears(f"<iq type='result' from='{OWN}' to='eve@evil.example/x' id='q'>{answer}</iq>")
    play.silence()


@pytest.mark.req("D2")
@pytest.mark.parametrize(
    ("question", "type_", "condition"),
    [
        (f"<query xmlns='{DISCO}' node='x'/>", "get", "item-not-found"),
        (
            f"<query xmlns='{ITEMS_NS}' node='x'/>",
            "get",
            "item-not-found",
        ),
        ("<x xmlns='u'/>", "get", "service-unavailable"),
        ("", "get", "service-unavailable"),
        ("<ping xmlns='urn:xmpp:ping'/>", "set", "service-unavailable"),
        ("<query xmlns='jabber:iq:roster'/>", "set", "service-unavailable"),
    ],
)
def test_what_the_component_does_not_know_is_refused(
    play: Play, question: str, type_: str, condition: str
) -> None:
    asks(play, question, type_)
    play.hears(
        f"<iq type='error' from='{OWN}' to='eve@evil.example/x' id='q'>{error(condition)}</iq>"
    )
    play.silence()


def test_nobody_lives_at_the_component(play: Play) -> None:
    play.says(f"<iq type='get' from='eve@evil.example/x' to='x@{OWN}' id='q'><x xmlns='u'/></iq>")
    play.hears(f"<iq type='error' from='x@{OWN}' to='eve@evil.example/x' id='q'>{UNAVAILABLE}</iq>")


# -- rosters on their way to a session ------------------------------------------------------------

MARK = "<annotate xmlns='urn:xmpp:mix:roster:0'/>"
CHANNEL = "<channel xmlns='urn:xmpp:mix:roster:0' participant-id='{}'/>"


def roster(items: str, type_: str = "result", to: str = LAPTOP) -> str:
    return (
        f"<iq type='{type_}' from='{ANNA}' to='{to}' id='r'>"
        f"<query xmlns='jabber:iq:roster' ver='1'>{items}</query></iq>"
    )


ITEMS = {
    "channel": (f"<item jid='{COVEN}' subscription='from'/>", True),
    "named and grouped": (
        f"<item jid='{COVEN}' name='a &gt; b' subscription='none'><group>é</group></item>",
        True,
    ),
    "removed": (f"<item jid='{COVEN}' subscription='remove'/>", False),
    "friend": (f"<item jid='{BEN}' subscription='both'/>", False),
    "other channel": (f"<item jid='other@{MIX}'/>", False),
    "no address": ("<item jid='@'/>", False),
}


@pytest.mark.req("R2", "R4")
@pytest.mark.abuse(15, 18)
@pytest.mark.parametrize("forged", ["", CHANNEL.format("forged")], ids=["", "forged"])
@pytest.mark.parametrize("type_", ["result", "set"])
@pytest.mark.parametrize(("item", "ours"), ITEMS.values(), ids=ITEMS)
def test_channels_in_a_roster_are_annotated_and_nothing_else(
    play: Play, item: str, ours: bool, type_: str, forged: str
) -> None:
    def with_child(child: str) -> str:
        if not child:
            return item
        if item.endswith("</item>"):
            return item.replace("</item>", f"{child}</item>")
        return item.replace("/>", f">{child}</item>")

    play.says(roster(MARK + with_child(forged), type_))
    got = play.hears(roster("*", type_))
    wanted = codec.read(roster(with_child(CHANNEL.format("123") if ours else ""), type_).encode())
    assert [_in_any_order(each) for each in got[0]] == [_in_any_order(each) for each in wanted[0]]
    play.silence()


def _in_any_order(item: ET.Element) -> tuple[object, ...]:
    children = sorted((child.tag, sorted(child.items()), child.text) for child in item)
    return item.tag, dict(item.items()), children


@pytest.mark.req("R2")
@pytest.mark.abuse(9)
def test_a_channel_in_another_spelling_is_annotated_too(play: Play) -> None:
    item = "<item jid='Coven@Mix.EXAMPLE.' subscription='from'>{}</item>"
    play.says(roster(MARK + item.format("")))
    play.hears(roster(item.format(CHANNEL.format("123"))))


@pytest.mark.req("R2")
def test_what_else_is_in_a_roster_stays(play: Play) -> None:
    odd = "<x xmlns='u' a='1'>t</x>"
    play.says(roster(f"{MARK}{odd}<item jid='{COVEN}'>{odd}</item>{odd}"))
    play.hears(roster(f"{odd}<item jid='{COVEN}'>{odd}{CHANNEL.format('123')}</item>{odd}"))
    other = roster("")
    play.says(other)
    play.hears(other)
    play.silence()


@pytest.mark.req("R2")
def test_the_roster_of_a_user_without_channels_loses_its_mark() -> None:
    play = Play()
    tap_is_up(play)
    play.says(roster(f"{MARK}<item jid='{COVEN}'/><item jid='{BEN}'>{CHANNEL.format('x')}</item>"))
    play.hears(roster(f"<item jid='{COVEN}'/><item jid='{BEN}'/>"))
    play.silence()
