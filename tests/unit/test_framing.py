"""The framer against a real XML parser: same stanzas, same bytes, in whatever chunks.

The framer does not parse, so what it may take for granted is tried here on everything
XML allows inside a stream, and on what it forbids.
"""

import pytest
from fuzz import reference
from fuzz.stream import kept
from hypothesis import example, given
from hypothesis import strategies as st
from work import Work
from xmlgen import Slicer, attributes, chunked, stanzas, whitespace

from component.wire.framing import (
    ADDRESSES_BYTES,
    HEAD_BYTES,
    OVERSIZED,
    Frame,
    Framer,
    FramingError,
    LeftOut,
)

LIMIT = 20_000


def frames(chunks: list[bytes], limit: int = LIMIT) -> list[Frame]:
    framer = Framer(limit)
    return [frame for chunk in chunks for frame in framer.feed(chunk)]


def failure(chunks: list[bytes], limit: int = LIMIT) -> str:
    """Give the condition of the error that these chunks must end in."""
    with pytest.raises(FramingError) as caught:
        frames(chunks, limit)
    return caught.value.condition


@given(st.lists(st.tuples(whitespace, stanzas), max_size=5), st.data())
@example([("", "<a><a></a ></a\n>"), (" ", "<a b='>'/>")], None)
def test_slices_are_those_of_a_real_parser_in_any_chunks(
    parts: list[tuple[str, str]], data: st.DataObject | None
) -> None:
    stream = "".join(space + stanza for space, stanza in parts).encode()
    chunks = [stream] if data is None else chunked(data.draw, stream)
    assert [frame.data for frame in frames(chunks)] == Slicer().slices(stream)


@given(attributes)
def test_attributes_are_those_of_a_real_parser(given_attributes: dict[str, str]) -> None:
    tag = "".join(f" {name}={value}" for name, value in given_attributes.items())
    frame = Frame(f"<message{tag}/>".encode())
    assert frame.name == b"message"
    assert {
        name.decode(): Slicer.attribute_value(value) for name, value in frame.attributes.items()
    } == Slicer.attributes(f"<message{tag}/>".encode())
    short_cuts = {b"to": frame.to, b"from": frame.sender, b"type": frame.type}
    assert short_cuts == {name: frame.get(name) for name in short_cuts}


@given(attributes, stanzas)
def test_another_address_changes_nothing_else(given_attributes: dict[str, str], inner: str) -> None:
    given_attributes.pop("to", None)
    tag = "".join(f" {name}={value}" for name, value in given_attributes.items())
    before, after = f"<message{tag} to='", f"' to2='x'>{inner}</message>"
    frame = Frame(f"{before}a@b{after}".encode())
    assert frame.readdressed(b"c@d/e").decode() == f"{before}c@d/e{after}"


@pytest.mark.parametrize(
    ("tag", "to"),
    [
        pytest.param(b"<m a=\"x to='forged'\" to='a@b'/>", b"a@b", id="inside another value"),
        pytest.param(b"<m xto='forged' to='a@b'/>", b"a@b", id="end of a longer name"),
        pytest.param(b"<m x:to='forged' to='a@b'/>", b"a@b", id="prefixed"),
        pytest.param(b"<m\n\tto \r\n=  'a@b'/>", b"a@b", id="odd whitespace"),
        pytest.param(b"<m to='a@b'><n to='forged'/></m>", b"a@b", id="of a child"),
        pytest.param(b"<m xmlns:to='forged'/>", b"", id="absent"),
    ],
)
def test_the_address_is_that_of_the_start_tag(tag: bytes, to: bytes) -> None:
    assert Frame(tag).get(b"to") == to


def test_a_stanza_without_address_cannot_be_readdressed() -> None:
    with pytest.raises(ValueError, match="no address"):
        Frame(b"<m from='a'/>").readdressed(b"b")


ILLEGAL = {
    "comment": (b"<!-- x -->", "restricted-xml"),
    "instruction": (b"<?x y?>", "restricted-xml"),
    "DTD": (b"<!DOCTYPE m [<!ENTITY e 'x'>]>", "restricted-xml"),
    "CDATA between stanzas": (b"<![CDATA[x]]>", "restricted-xml"),
    "comment inside": (b"<m><!-- </m> --></m>", "restricted-xml"),
    "instruction inside": (b"<m>x<?y </m>?></m>", "restricted-xml"),
    "DTD inside": (b"<m><!DOCTYPE x></m>", "restricted-xml"),
    "comment that is never closed": (b"<m><!--", "restricted-xml"),
    "text between stanzas": (b"x<m/>", "not-well-formed"),
    "one letter": (b"x", "not-well-formed"),
    "no name": (b"< m/>", "not-well-formed"),
    "space before a name, unfinished": (b"<\r a", "not-well-formed"),
    "space before the name of the end": (b"</ stream>", "not-well-formed"),
    "name with a quote": (b"<m'/>", "not-well-formed"),
    "name that begins with a digit": (b"<1/>", "not-well-formed"),
    "attribute without value": (b"<m a>", "not-well-formed"),
    "attribute without value, unfinished": (b"<m a b", "not-well-formed"),
    "attribute without quotes": (b"<m a=b>", "not-well-formed"),
    "value with <": (b"<m a='<'/>", "not-well-formed"),
    "value with <, unfinished": (b"<m a='<", "not-well-formed"),
    "attributes without space": (b"<m a='1'b='2'/>", "not-well-formed"),
    "formfeed as space": (b"<m\x0ca='1'/>", "not-well-formed"),
    "tag in a tag": (b"<m <n/>", "not-well-formed"),
    "double tag": (b"<<m/>", "not-well-formed"),
    "slash inside": (b"<m/ >", "not-well-formed"),
    "nested tag that is none": (b"<m><m a></m></m>", "not-well-formed"),
    "nested tag that is none, unfinished": (b"<m><m a b", "not-well-formed"),
    "end tag with an attribute": (b"<m><m></m a='1'></m>", "not-well-formed"),
    "end tag that is none": (b"</>", "not-well-formed"),
    "end tag with attributes": (b"</m a='1'>", "not-well-formed"),
}


@pytest.mark.abuse(11)
@pytest.mark.parametrize("size", [1, 3, 1_000])
@pytest.mark.parametrize(("data", "condition"), ILLEGAL.values(), ids=ILLEGAL)
def test_illegal_markup_ends_the_stream(data: bytes, condition: str, size: int) -> None:
    chunks = [data[i : i + size] for i in range(0, len(data), size)]
    # One letter at a time, some nonsense shows only when more has come.
    more = [b"  "] * (len(data) + 2)
    assert failure([*chunks, *more]) == condition


ENDLESS = {
    "name": (b"<", b"m"),
    "attributes": (b"<m", b" a='1'"),
    "value": (b"<m a='", b">"),
    "space in a tag": (b"<m", b" "),
    "text": (b"<m>", b"x"),
    "CDATA": (b"<m><![CDATA[", b"]"),
    "children": (b"<m>", b"<n/>"),
    "children of the same name": (b"<m>", b"<m>"),
    "children of nearly the same name": (b"<m>", b"<mm></mm>"),
    "space in an end tag": (b"<m><m></m", b" "),
    "end tag of the stream": (b"</m", b" "),
}


@pytest.mark.abuse(11)
@pytest.mark.parametrize(("start", "more"), ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends_is_passed_over_and_nothing_of_it_kept(start: bytes, more: bytes) -> None:
    framer = Framer(1_000)
    assert list(framer.feed(start)) == []
    some = more * (2_000 // len(more))
    sizes = []
    for _ in range(100):
        assert list(framer.feed(some)) == []
        sizes.append(kept(framer))
    assert max(sizes) <= 1_000 + HEAD_BYTES + len(some)
    assert sizes[-1] <= sizes[1]


@pytest.mark.abuse(11)
@given(st.lists(st.tuples(whitespace, stanzas), max_size=5), st.integers(1, 60), st.data())
def test_what_is_too_large_is_left_out_and_nothing_else(
    parts: list[tuple[str, str]], limit: int, data: st.DataObject
) -> None:
    stream = "".join(space + stanza for space, stanza in parts).encode()
    told: list[LeftOut] = []
    framer, got = Framer(limit, told.append), []
    for chunk in chunked(data.draw, stream):
        got += [frame.data for frame in framer.feed(chunk)]
    whole = Slicer().slices(stream)
    assert got == [each for each in whole if len(each) <= limit]
    left_out = [Frame(each) for each in whole if len(each) > limit]
    assert told == [LeftOut.of(each, OVERSIZED) for each in left_out]


@pytest.mark.abuse(11)
@pytest.mark.parametrize("size", [1, 100, 5_000, 100_000])
def test_the_next_stanza_comes_after_one_that_was_too_large(size: int) -> None:
    large = b"<m from='a' to='b'><m>" + b"x" * 3 * LIMIT + b"</m><![CDATA[</m>]]></m>"
    stream = (b"<n/>" + large) * 2 + b" <n/>"
    told: list[LeftOut] = []
    framer, got = Framer(LIMIT, told.append), []
    for start in range(0, len(stream), size):
        got += [frame.data for frame in framer.feed(stream[start : start + size])]
    assert got == [b"<n/>"] * 3
    assert [(each.name, each.sender, each.to) for each in told] == [
        (b"m", b"a", b"b"),
        (b"m", b"a", b"b"),
    ]


def test_the_limit_is_of_each_stanza_and_not_of_a_chunk() -> None:
    stanza = b"<m>" + b"x" * 993 + b"</m>"
    assert len(stanza) == 1_000
    assert len(frames([stanza * 50], limit=1_000)) == 50


@pytest.mark.abuse(11)
@pytest.mark.parametrize(("start", "more"), list(ENDLESS.values())[1:], ids=list(ENDLESS)[1:])
def test_work_follows_the_bytes_however_small_the_chunks(start: bytes, more: bytes) -> None:
    few = Work.of([start, *[more] * 500])
    many = Work.of([start, *[more] * 4_000])
    # Eight times the bytes: linear is 8 times the work, quadratic would be 64.
    assert 0 < many < 16 * few


REPEATED = {
    "plain": b"<m a='1'>x</m>",
    "empty": b"<m/>",
    "nested": b"<m><m><m/></m></m>",
    "CDATA": b"<m><![CDATA[</m>]]></m>",
    "odd end tag": b"<m>x</m >",
    "nearly the same name": b"<m><mm></mm></m>",
}


@pytest.mark.abuse(11)
@pytest.mark.parametrize("stanza", REPEATED.values(), ids=REPEATED)
def test_work_follows_the_bytes_of_one_chunk_however_many_stanzas(stanza: bytes) -> None:
    few, many = Work.of([stanza * 500]), Work.of([stanza * 4_000])
    assert 0 < many < 16 * few


def test_a_frame_whose_taker_fails_is_not_given_again() -> None:
    framer = Framer(LIMIT)
    for frame in framer.feed(b"<a/><b>1</b><c>"):
        assert frame.data == b"<a/>"
        break
    assert [frame.data for frame in framer.feed(b"2</c>")] == [b"<b>1</b>", b"<c>2</c>"]


@pytest.mark.parametrize("end", [b"</stream:stream>", b"</stream:stream\n>"])
@pytest.mark.parametrize("size", [1, 1_000])
def test_the_stream_ends_with_its_end_tag(end: bytes, size: int) -> None:
    framer = Framer(LIMIT)
    stream = b"<m/> " + end
    data = [stream[i : i + size] for i in range(0, len(stream), size)]
    for chunk in data[:-1]:
        list(framer.feed(chunk))
        assert not framer.closed
    list(framer.feed(data[-1]))
    assert framer.closed
    assert list(framer.feed(b"<m/>")) == []


def test_an_error_stays_an_error() -> None:
    framer = Framer(1_000)
    with pytest.raises(FramingError):
        list(framer.feed(b"<m><m a></m>"))
    with pytest.raises(FramingError):
        list(framer.feed(b"x" * 1_000))


# -- whatever a parser takes, of any size and spelling, ends nothing ---------------------------

QUOTES = b"&apos;" * 33_000
SPELLINGS = {
    "attribute name of 300 bytes": b"<%b from='a' %b='1' to='b'>x</%b>" % (b"m", b"n" * 300, b"m"),
    "attribute name of 70,000 bytes": b"<m from='a' %b='1' to='b'>x</m>" % (b"n" * 70_000),
    "a child's attribute name": b"<m from='a' to='b'><m %b='1'/></m>" % (b"n" * 70_000),
    "a child's name": b"<m from='a' to='b'><%b/></m>" % (b"n" * 70_000),
    "a child's name that begins alike": b"<m from='a' to='b'><m%b></m%b></m>"
    % (b"n" * 70_000, b"n" * 70_000),
    "its own name": b"<%b from='a' to='b'>x</%b>" % (b"m" * 70_000, b"m" * 70_000),
    "prefix of 70,000 bytes": b"<m from='a' to='b' xmlns:%b='u'><%b:c/></m>"
    % (b"p" * 70_000, b"p" * 70_000),
    "value of quotes": b"<m from='a' id='%b' to='b'>x</m>" % QUOTES,
    "value with > and /": b"<m from='a' id='%b' to='b'>x</m>" % (b"/>" * 99_000),
    "a child's value with > and /": b"<m from='a' to='b'><m x='%b'/></m>" % (b"/>" * 99_000),
    "many attributes": b"<m from='a'%b to='b'/>"
    % b"".join(b" a%d=''" % number for number in range(20_000)),
    "many attributes in double quotes": b"<m from='a'%b to='b'/>"
    % b"".join(b'\n\ta%d = ""' % number for number in range(20_000)),
    "space in the tag": b"<m from='a'%bto='b'%b/>" % (b" " * 99_000, b"\n" * 99_000),
    "space in a child's tags": b"<m from='a' to='b'><m%b></m%b></m>" % (2 * (b" " * 99_000,)),
    "space in its end": b"<m from='a' to='b'>x</m%b>" % (b" " * 99_000),
    "depth": b"<m from='a' to='b'>%b%b</m>" % (b"<m>" * 30_000, b"</m>" * 30_000),
    "depth of others": b"<m from='a' to='b'>%b%b</m>" % (b"<n>" * 30_000, b"</n>" * 30_000),
    "elements": b"<m from='a' to='b'>%b</m>" % (b"<m/>" * 50_000),
    "line feeds": b"<m from='a' to='b'>%b</m>" % (b"\n" * 200_000),
    "CDATA": b"<m from='a' to='b'><![CDATA[%b]]></m>" % (b"]]</m>" * 30_000),
}


@pytest.mark.abuse(11)
@pytest.mark.parametrize("limit", [1_000_000, 1_000])
@pytest.mark.parametrize("size", [7, 4_096, 65_536, 10_000_000])
@pytest.mark.parametrize("stanza", SPELLINGS.values(), ids=SPELLINGS)
def test_what_a_parser_takes_ends_nothing(stanza: bytes, size: int, limit: int) -> None:
    """Taken whole, or left out with all that tells whom it concerns; the next one comes."""
    assert reference.is_well_formed(stanza)
    told: list[LeftOut] = []
    framer, got = Framer(limit, told.append), []
    stream = (b"<before/>" + stanza) * 2 + b"<after/>"
    for start in range(0, len(stream), size):
        got += list(framer.feed(stream[start : start + size]))
    here = [b"<before/>", stanza] * 2 if limit > len(stanza) else [b"<before/>"] * 2
    assert [frame.data for frame in got] == [*here, b"<after/>"]
    assert [(each.to, each.sender) for each in told] == [(b"b", b"a")] * (limit < len(stanza)) * 2
    assert all(len(each.head) <= HEAD_BYTES for each in told)
    assert not told or told == 2 * [LeftOut.of(Frame(stanza), OVERSIZED)]


def test_values_are_told_of_up_to_a_bound() -> None:
    told: list[LeftOut] = []
    tag = b"<iq type='set' to=\"it's@b\" from='%b' id='%b'" % (b"f" * 30_000, b"i" * 99_000)
    for size in (10, 100_000_000):
        stream = tag + b" more='%b'>" % (b"m" * 500_000) + b"<q/></iq>"
        framer = Framer(50_000, told.append)
        for start in range(0, len(stream), size):
            assert list(framer.feed(stream[start : start + size])) == []
    assert told == 2 * [LeftOut(b"iq", b"it's@b", b"", b"set", b"", OVERSIZED, b"<q/></iq>")]


@pytest.mark.abuse(11)
@pytest.mark.parametrize("size", [7, 1_000, 1_500, 70_000, 1_000_000])
def test_addresses_of_many_users_are_told_of_whatever_the_chunks(size: int) -> None:
    addresses = b"<addresses xmlns='http://jabber.org/protocol/address'>%b</addresses>" % (
        b"<address jid='anna@example.org'/>" * 1_000
    )
    stanza = b"<message to='b'>%b<body>%b</body></message>" % (addresses, b"x" * 300_000)
    told: list[LeftOut] = []
    framer = Framer(200_000, told.append)
    for at in range(0, len(stanza), size):
        assert not list(framer.feed(stanza[at : at + size]))
    assert [each.head for each in told] == [stanza[len(b"<message to='b'>") :][:ADDRESSES_BYTES]]


def test_a_stanza_of_any_size_is_passed_over() -> None:
    """Four thousand times the limit, which ended the stream at a hundred times."""
    told: list[LeftOut] = []
    framer = Framer(10_000, told.append)
    assert list(framer.feed(b"<message to='b' from='a'>")) == []
    for _ in range(40):
        assert list(framer.feed(b"<x xmlns='%b'/>" % (b"u" * 1_000_000))) == []
        assert kept(framer) < 3_000
    assert [frame.data for frame in framer.feed(b"</message><iq/>")] == [b"<iq/>"]
    assert [(each.name, each.to, len(each.head)) for each in told] == [
        (b"message", b"b", HEAD_BYTES)
    ]


def test_space_may_stand_behind_what_was_carried() -> None:
    got = Framer(LIMIT).feed(b"<c/> \n<m/>", lambda data, at: at + 4 * data.startswith(b"<c/>", at))
    assert [frame.data for frame in got] == [b"<m/>"]
