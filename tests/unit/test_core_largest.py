"""Nothing is written that the server may refuse for its size, and who waits is told all the same.

Of that kind is whatever grows on its way: texts and values by their escapes, trees by their
namespaces, rosters by their annotation, lists by their length, copies by their addresses; and
whatever is passed on to a server that takes less than it gives.
"""

import xml.etree.ElementTree as ET

import pytest
from driver import ANNA, CORE_0, CORE_1, COVEN, LAPTOP, MIX, OWN, PHONE, SERVER, Play
from scenes import (
    channel_answers,
    client_join,
    comes_online,
    error,
    in_the_coven,
    refused,
    service_is_asked,
    tap_is_up,
)

from component.core.delivery.fanout import translated
from component.core.delivery.translation import MOST_PREFIXES
from component.core.stanza_size import GROWTH, SLACK, Largest
from component.core.users.mirror import Membership
from component.wire.framing import Frame
from schemas import codec, jid
from schemas.namespaces import CLIENT, FORWARD

LIMIT = 524_288
QUOTES = "'" * 200_000
FEEDS = "\n" * 200_000


@pytest.fixture
def play() -> Play:
    return Play()


def hello(limit: int) -> str:
    return (
        f"<message from='{SERVER}' to='{OWN}'><hello xmlns='mixpam:tap:1' version='1' tap='1.0'"
        f" software='Server 1' archive='false' multicast='true' limit='{limit}'/></message>"
    )


# -- what grows ------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [FEEDS, "\t" * 200_000, QUOTES, '"' * 200_000, "é" * 90_000])
def test_a_text_takes_no_more_escapes_than_xml_asks_for(text: str) -> None:
    data = f"<a xmlns='{CLIENT}'><b>{text}</b>{text}</a>".encode()
    written = codec.write(codec.read(data))
    assert len(written) <= len(data)
    assert codec.read(written)[0].text == text


def test_a_text_stays_what_it_was() -> None:
    text = "a < b > c & d ' \" \t \n \r ]]> é"
    element = ET.Element(f"{{{CLIENT}}}a", {"x": text})
    element.text = element.tail = text
    ET.SubElement(element, f"{{{CLIENT}}}b").tail = text
    again = codec.read(codec.write(element))
    assert (again.text, again.get("x"), again[0].tail) == (text, text, text)


def test_a_tree_is_not_written_beyond_the_limit() -> None:
    """Each of ten thousand names takes its namespace along: 6 bytes each were 200."""
    namespace = "u" * 200
    many = "<p:a/>" * 20_000
    tree = codec.read(f"<iq xmlns:p='{namespace}'>{many}</iq>".encode())
    with pytest.raises(codec.TooLarge):
        codec.write(tree, LIMIT)


@pytest.mark.parametrize("declared", ["xmlns='%s'", "xmlns:p='%s'", 'xmlns:p\n=\t"%s"'])
def test_a_namespace_of_any_length_is_no_memory(declared: str) -> None:
    """A tree has it again for each name, and there may be as many names as fit."""
    written = declared % ("u" * 10_000)
    with pytest.raises(codec.MalformedStanza, match="namespace"):
        codec.read(f"<iq><query {written}><p:a/></query></iq>".encode())


# -- what is said instead ----------------------------------------------------------------------


INSTEAD = {
    "a result": (
        "<iq type='result' from='a@b' to='c@d/e' id='1'/>",
        "<iq type='error' from='a@b' to='c@d/e' id='1'>"
        + error("policy-violation", "cancel", "this is larger than the server takes")
        + "</iq>",
    ),
    "a presence": ("<presence from='a@b/c' to='d@e'/>", "<presence from='a@b/c' to='d@e'/>"),
    "an end of presence": (
        "<presence type='unavailable' from='a@b/c' to='d@e' xml:lang='en'/>",
        "<presence type='unavailable' from='a@b/c' to='d@e'/>",
    ),
    "an error": (
        f"<iq type='error' from='a@b' to='c@d/e' id='1'>{error('conflict', 'modify')}</iq>",
        f"<iq type='error' from='a@b' to='c@d/e' id='1'>{error('conflict', 'modify')}</iq>",
    ),
    "an error without a condition": (
        "<message type='error' from='a@b' to='c@d/e'/>",
        "<message type='error' from='a@b' to='c@d/e'>"
        + error("undefined-condition", "cancel")
        + "</message>",
    ),
    "a request": ("<iq type='get' from='a@b' to='c@d/e' id='1'/>", None),
    "a message": ("<message from='a@b' to='c@d/e' id='1'/>", None),
}


@pytest.mark.parametrize(("stanza", "instead"), INSTEAD.values(), ids=INSTEAD)
@pytest.mark.parametrize("large", ["<body>%s</body>" % ("x" * LIMIT), ""])
def test_what_is_too_large_still_has_its_effect(
    stanza: str, instead: str | None, large: str
) -> None:
    largest = Largest(LIMIT, 262_144)
    whole = codec.read(stanza.encode())
    ET.SubElement(whole, f"{{{CLIENT}}}body").text = large
    wanted = None if instead is None else codec.write(codec.read(instead.encode()))
    assert largest.instead(whole) == wanted
    if large and (whole.get("type") != "error" or "condition" in stanza):
        given = [] if wanted is None else [wanted]
        assert largest.fitting([codec.write(whole), b"<small/>"]) == [*given, b"<small/>"]


def test_what_cannot_be_said_in_any_way_is_not_said() -> None:
    largest = Largest(LIMIT, 262_144)
    tag = f"<presence from='a@b/c' to='d@e' id='{'i' * LIMIT}'/>".encode()
    assert largest.fitting([tag]) == [b"<presence from='a@b/c' to='d@e'/>"]
    answer = b"<iq type='result' from='a@b' to='c@d/e' id='%b'/>"
    assert largest.fitting([answer % (b"i" * LIMIT)]) == []
    assert largest.fitting([b"<presence %b/>" % (b" " * LIMIT)]) == [b"<presence/>"]
    assert largest.fitting([b"<presence from='%b'/>" % (b"f" * LIMIT)]) == [b"<presence/>"]


# -- the ways out --------------------------------------------------------------------------------


@pytest.mark.req("J6")
def test_a_join_that_grows_too_large_is_refused(play: Play) -> None:
    tap_is_up(play, services="")
    comes_online(play)
    play.says(client_join(content=f'<x xmlns="u" x="{QUOTES}"/>'))
    service_is_asked(play)
    play.silence()
    play.waits(0)
    answer = play.hears_anything()
    assert (answer.get("type"), answer.get("id"), answer.get("to")) == ("error", "j1", PHONE)
    assert play.members() == {}
    play.silence()


@pytest.mark.req("J6")
@pytest.mark.parametrize("text", [FEEDS, QUOTES])
def test_a_text_in_a_join_and_in_its_error_passes_as_it_is(play: Play, text: str) -> None:
    tap_is_up(play)
    comes_online(play)
    play.says(client_join(content=f"<x xmlns='u'>{text}</x>"))
    service_is_asked(play)
    asked = play.hears_anything()
    assert asked[0][0].text == text
    play.says(channel_answers(error("not-allowed", "cancel", text), type_="error"))
    play.hears(refused("not-allowed", "cancel", text))


def test_an_error_that_grows_too_large_keeps_its_condition(play: Play) -> None:
    tap_is_up(play)
    comes_online(play)
    play.says(client_join())
    service_is_asked(play)
    play.hears_anything()
    large = error("not-allowed", "auth").replace("</error>", f'<x x="{QUOTES}"/></error>')
    play.says(channel_answers(large, type_="error"))
    play.hears(refused("not-allowed", "auth"))
    assert play.reported("stanza-unsendable")


@pytest.mark.req("R1")
@pytest.mark.parametrize("odd", ["", "<odd/>"])
def test_a_roster_that_grows_too_large_goes_back_at_once(play: Play, odd: str) -> None:
    """Old taps send rosters as a whole; what is in each mark is the channel's word."""
    in_the_coven(play, PHONE)
    members = [
        Membership(jid.parse(f"c{number}@{MIX}"), "'" * 1_000, None, (), 1, shares_presence=False)
        for number in range(100)
    ]
    play.core.mirror.enter(jid.parse(ANNA), members)
    items = "".join(f"<item jid='c{number}@{MIX}' subscription='from'/>" for number in range(100))
    roster = (
        f"<iq type='result' from='{ANNA}' to='{PHONE}' id='r'><query xmlns='jabber:iq:roster'>"
        f"%s{odd}{items}</query></iq>"
    )
    play.says(roster % "<annotate xmlns='urn:xmpp:mix:roster:0'/>")
    (given,) = play.hears_all()
    assert given.count(b"<item ") == 100
    assert len(given) <= play.core.largest.stanza
    # As bytes, as many items are annotated as there is room for; as a tree, none.
    assert (given.count(b"<channel ") > 50) == (not odd)


def test_a_list_of_domains_comes_in_portions_of_any_number(play: Play) -> None:
    domains = {f"{'d' * 60}.{'e' * 60}.{'f' * 60}.n{number}.example" for number in range(2_500)}
    members = [
        Membership(jid.parse(f"c@{domain}"), "1", None, (), 1, shares_presence=False)
        for domain in domains
    ]
    play.core.mirror.enter(jid.parse(ANNA), members)
    play.says(hello(LIMIT))
    told: list[str] = []
    for number, data in enumerate(play.hears_all()):
        assert len(data) < 70_000
        services = codec.read(data)[0]
        assert (services.get("complete") == "true") == (number == 0)
        assert (services.get("multicast") is not None) == (number == 0)
        told += [each.get("jid", "") for each in services]
    assert set(told) == domains
    assert len(told) == len(domains)


def test_domains_that_nobody_is_in_are_forgotten_with_the_link(play: Play) -> None:
    in_the_coven(play, PHONE)
    play.core.mirror.services.add("gone.example")
    play.link_is_cut()
    tap_is_up(play, services=MIX)


def test_domains_that_nobody_is_in_make_room(play: Play) -> None:
    in_the_coven(play, PHONE)
    play.core.mirror.services |= {f"made-up-{number}.example" for number in range(5_000)}
    play.says(client_join("new@other.example", id_="j2"))
    service_is_asked(play, "other.example", CORE_1)
    play.hears(
        f"<message from='{OWN}' to='{SERVER}'><services xmlns='mixpam:tap:1' complete='true'>"
        f"<service jid='{MIX}'/></services></message>"
    )
    play.hears(
        f"<message from='{OWN}' to='{SERVER}'><services xmlns='mixpam:tap:1'>"
        "<service jid='other.example'/></services></message>"
    )
    assert play.core.mirror.services == {MIX, "other.example"}


# -- a server that takes little ------------------------------------------------------------------


def test_a_server_that_takes_too_little_is_told_of(play: Play) -> None:
    wanted = play.core.largest.wanted
    play.says(hello(wanted))
    assert not play.reported("server-limit")
    play.says(hello(wanted - 1))
    assert play.reported("server-limit")
    assert wanted <= LIMIT
    play.link_is_cut()
    assert play.core.largest.stanza == LIMIT - SLACK


def message(body: str, type_: str = "groupchat") -> str:
    return f"<message type='{type_}' from='{COVEN}' to='{ANNA}'><body>{body}</body></message>"


@pytest.mark.parametrize("multicast", [True, False])
def test_copies_fit_whatever_the_server_takes(multicast: bool) -> None:
    play = Play()
    in_the_coven(play, PHONE, LAPTOP, multicast=multicast)
    play.core.largest.lower(100_000)
    fits, alone = "x" * 98_700, "x" * 98_810
    for body, expected in ((fits, 2), (alone, 2), ("x" * 99_500, 0)):
        play.says(message(body))
        written = play.hears_all()
        assert all(len(each) <= 100_000 - SLACK for each in written)
        addressed = [PHONE.encode() in each for each in written]
        addressed += [LAPTOP.encode() in each for each in written]
        assert sum(addressed) == expected, len(body)


def test_a_presence_that_does_not_fit_is_passed_on_without_what_it_says(play: Play) -> None:
    in_the_coven(play, PHONE)
    play.core.largest.lower(100_000)
    for type_ in ("", " type='unavailable'"):
        tag = f"<presence from='9#{COVEN}/r' to='%s'{type_}"
        play.says(f"{tag % ANNA}><status>{'x' * 100_000}</status></presence>")
        play.hears(f"{tag % PHONE}/>")


def test_what_is_copied_at_once_has_room_to_grow() -> None:
    """The hot lane looks at no size: this is why it need not."""
    largest = Largest(LIMIT, 262_144)
    gathered = 262_144 + 65_536
    assert gathered <= largest.addressed
    assert largest.addressed + GROWTH <= largest.stanza <= LIMIT - SLACK
    assert largest.copied + GROWTH <= largest.tag <= largest.stanza // 2


LARGE_TAGS = {
    "its own": (b"<presence a='%b'/>", False),
    "a child's": (b"<presence><x a='%b'></x></presence>", False),
    "with > in it": (b"<presence><x a='>%b'/></presence>", False),
    "a text": (b"<presence>%b</presence>", True),
    "an end tag": (b"<presence></presence%b>", False),
}


@pytest.mark.parametrize(("written", "fits"), LARGE_TAGS.values(), ids=LARGE_TAGS)
def test_a_tag_must_not_be_more_than_half_of_what_fits(written: bytes, *, fits: bool) -> None:
    """A parser that looks again when twice as much is there would wait beyond the limit."""
    largest = Largest(LIMIT, 262_144)
    assert largest.fits(written % (b" " * 261_000))
    assert largest.fits(written % (b" " * 262_000)) == fits


# -- translation ---------------------------------------------------------------------------------

HEAD = f"<message from='{COVEN}' to='{ANNA}' type='groupchat'>"
FORWARDED = f"<forwarded xmlns='{FORWARD}'>%s</forwarded>"
TRANSLATIONS = {
    "a text of line feeds": (
        f"{HEAD}<body>{FEEDS}</body><mix xmlns='%s'/>{FORWARDED % 'x'}</message>"
    ),
    "quotes": f"{HEAD}<body x=\"{QUOTES}\"/><mix xmlns='%s'/>{FORWARDED % 'x'}</message>",
    "a prefix": f"<message xmlns:m='%s' from='{COVEN}' to='{ANNA}'><m:mix/></message>",
    "CDATA": f"{HEAD}<b><![CDATA[<mix xmlns='{CORE_0}'/>]]></b><mix xmlns='%s'/></message>",
    "a stranger's": (
        f"{HEAD}<mix xmlns='%s'/>" + FORWARDED % f"<mix xmlns='{CORE_0}'/>" + "</message>"
    ),
    "declared by what is forwarded": (
        f"{HEAD}<mix xmlns='%s'/><forwarded xmlns='{FORWARD}' xmlns:m='{CORE_0}'><m:mix/>"
        "</forwarded></message>"
    ),
}


@pytest.mark.parametrize("stanza", TRANSLATIONS.values(), ids=TRANSLATIONS)
def test_a_translation_keeps_the_bytes(stanza: str) -> None:
    frame = Frame((stanza % CORE_0).encode())
    assert translated(frame, 0).data.decode() == stanza % CORE_1


def test_what_is_forwarded_keeps_what_a_prefix_stood_for() -> None:
    frame = Frame(
        f"<message xmlns:m='{CORE_0}' to='{ANNA}'><m:mix/>"
        f"{FORWARDED % '<m:mix/>'}</message>".encode()
    )
    mix, forwarded = codec.read(translated(frame, 0).data)
    assert mix.tag == f"{{{CORE_1}}}mix"
    assert forwarded[0].tag == f"{{{CORE_0}}}mix"


MANY_PREFIXES = "".join(f" xmlns:p{number}='u'" for number in range(MOST_PREFIXES + 1))


@pytest.mark.abuse(8)
@pytest.mark.parametrize(
    "stanza",
    [
        f"<message{MANY_PREFIXES} to='{ANNA}'><mix xmlns='{CORE_0}'/>{FORWARDED % ''}</message>",
        f"<message xmlns:m='{CORE_0}' to='{ANNA}'><m:mix/>{200 * (FORWARDED % '')}</message>",
    ],
    ids=["prefixes", "growth"],
)
def test_what_would_be_too_much_to_translate_stays_as_it_is(stanza: str) -> None:
    assert translated(Frame(stanza.encode()), 0).data.decode() == stanza


def test_what_has_no_readable_start_or_id_has_nothing_in_its_place() -> None:
    largest = Largest(LIMIT, LIMIT // 2)
    large = f"<iq type='result' id='1' p:x='1'>{LIMIT * 'x'}</iq>".encode()
    assert largest.fitting([large]) == []
    odd = ET.Element(f"{{{CLIENT}}}iq", {"type": "result", "id": "\ufffe"})
    assert largest.instead(odd) is None


def test_domains_that_somebody_is_in_stay(play: Play) -> None:
    in_the_coven(play, PHONE)
    known = {f"m{number}.example" for number in range(5_000)}
    user = jid.parse("many@example.org")
    memberships = [
        Membership(jid.parse(f"c@{domain}"), "1", None, (), 1, shares_presence=True)
        for domain in known
    ]
    play.core.mirror.enter(user, memberships)
    play.core.mirror.services |= known
    play.says(client_join("new@other.example", id_="j2"))
    service_is_asked(play, "other.example", CORE_1)
    play.hears(
        f"<message from='{OWN}' to='{SERVER}'><services xmlns='mixpam:tap:1'>"
        "<service jid='other.example'/></services></message>"
    )
    assert known < play.core.mirror.services
