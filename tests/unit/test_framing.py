"""The framer against a real XML parser: same stanzas, same bytes, in whatever chunks.

The framer does not parse, so what it may take for granted is tried here on everything
XML allows inside a stream, and on what it forbids.
"""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from work import Work
from xmlgen import Slicer, attributes, chunked, stanzas, whitespace

from component.framing import SKIPPED, START_TAG, Frame, Framer, FramingError, LeftOut

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
    "name without an end": (b"<" + b"m" * 300, "not-well-formed"),
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
def test_what_never_ends_is_refused_in_the_end(start: bytes, more: bytes) -> None:
    """At the limit, if it is a tag; a stanza is left out first, and not kept."""
    framer, condition, size, kept = Framer(1_000), "", 0, 0
    for chunk in (start, *[more] * 200_000):
        try:
            assert list(framer.feed(chunk)) == []
        except FramingError as error:
            condition = error.condition
            break
        size += len(chunk)
        kept = max(kept, len(framer._rest))
    # A name is refused for its own length, everything else for the stanza's.
    assert condition == ("not-well-formed" if start == b"<" else "policy-violation")
    assert kept <= 1_000 + len(more)
    assert size <= (1 + SKIPPED) * 1_000 + len(more)
    assert start == b"<" or size > 1_000 - len(more)


@pytest.mark.abuse(11)
@given(st.lists(st.tuples(whitespace, stanzas), max_size=5), st.integers(1, 60), st.data())
def test_what_is_too_large_is_left_out_and_nothing_else(
    parts: list[tuple[str, str]], limit: int, data: st.DataObject
) -> None:
    stream = "".join(space + stanza for space, stanza in parts).encode()
    tags = [len(tag[0]) for tag in START_TAG.finditer(stream)]
    limit = max([limit, *tags])
    told: list[LeftOut] = []
    framer, got = Framer(limit, told.append), []
    for chunk in chunked(data.draw, stream):
        got += [frame.data for frame in framer.feed(chunk)]
    whole = Slicer().slices(stream)
    assert got == [each for each in whole if len(each) <= limit]
    left_out = [Frame(each) for each in whole if len(each) > limit]
    assert [each.name for each in told] == [each.name for each in left_out]


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
