"""Bytes, trees and XSOs: what goes round comes back, what is forbidden does not get in."""

import gc
import sys
import xml.etree.ElementTree as ET

import pytest
from aioxmpp import xso
from hypothesis import given
from hypothesis import strategies as st
from xmlgen import stanzas as raw_stanzas

from schemas import codec
from schemas import stanza as stanzas

_letters = st.characters(
    blacklist_categories=["Cs", "Cc"], blacklist_characters="\ufffe\uffff"
) | st.sampled_from("<>&'\"\t\n\r]{}€\U0001f600\U0010ffff")
_texts = st.text(_letters, max_size=10)
_namespaces = st.sampled_from(
    ["", "jabber:client", "urn:x", "a'b", 'a"<b', "http://etherx.jabber.org/streams", "u&v"]
)
_lang = st.just("{http://www.w3.org/XML/1998/namespace}lang")
_names = st.sampled_from(["a", "message", "b-c", "é", "_x", "x.y"])


@st.composite
def _tags(draw: st.DrawFn) -> str:
    namespace, name = draw(_namespaces), draw(_names)
    return f"{{{namespace}}}{name}" if namespace else name


@st.composite
def trees(draw: st.DrawFn, depth: int = 2) -> ET.Element:
    """Make a random tree, with texts and tails everywhere."""
    element = ET.Element(draw(_tags()))
    for key in draw(st.sets(_tags() | _lang, max_size=3)):
        element.set(key, draw(_texts))
    element.text = draw(st.none() | _texts)
    for _ in range(draw(st.integers(0, 3)) if depth else 0):
        child = draw(trees(depth - 1))
        child.tail = draw(st.none() | _texts)
        element.append(child)
    return element


def facts(element: ET.Element) -> tuple[object, ...]:
    """Give all that a tree says, in a form to compare."""
    return (
        element.tag,
        dict(element.attrib),
        element.text or "",
        element.tail or "",
        [facts(child) for child in element],
    )


@pytest.mark.abuse(19)
@given(trees())
def test_a_tree_is_the_same_after_writing_and_reading(tree: ET.Element) -> None:
    assert facts(codec.read(codec.write(tree))) == facts(tree)


@pytest.mark.abuse(19)
@given(raw_stanzas)
def test_what_was_read_is_the_same_when_written(raw: str) -> None:
    declared = f"<w xmlns:x='u'>{raw}</w>".encode()
    tree = codec.read(declared)
    assert facts(codec.read(codec.write(tree))) == facts(tree)


@pytest.mark.abuse(19)
@given(st.text(max_size=10))
def test_a_text_is_escaped_or_refused(text: str) -> None:
    try:
        escaped = codec.escape(text)
    except codec.MalformedStanza:
        assert any(letter in codec._ILLEGAL_CHARACTERS for letter in text)
        return
    for quote in "'\"":
        read = codec.read(f"<a b={quote}{escaped}{quote}>{escaped}</a>".encode())
        assert (read.get("b"), read.text or "") == (text, text)


@pytest.mark.abuse(19)
@pytest.mark.parametrize("letter", ["\0", "\x0b", "\x1f", "\ud800", "\ufffe", "\uffff"])
def test_what_xml_cannot_carry_is_refused(letter: str) -> None:
    in_text = ET.Element("a")
    in_text.text = f"x{letter}"
    for tree in (ET.Element("a", {"b": letter}), in_text):
        with pytest.raises(codec.MalformedStanza):
            codec.write(tree)


@pytest.mark.parametrize(
    ("data", "written"),
    [
        (b"<a/>", b"<a/>"),
        (b"<a></a>", b"<a/>"),
        (b"<a xmlns='jabber:client'/>", b"<a/>"),
        (b"<a><b xmlns='u'><c/></b></a>", b"<a><b xmlns='u'><c/></b></a>"),
        (b"<a><p:b xmlns:p='u'><c/></p:b></a>",
         b"<a><b xmlns='u'><c xmlns='jabber:client'/></b></a>"),
        (b"<a><b xmlns=''/></a>", b"<a><b xmlns=''/></a>"),
        (b"<a xml:lang='en'/>", b"<a xml:lang='en'/>"),
        (b"<a p:b='c' xmlns:p='u'/>", b"<a xmlns:a0='u' a0:b='c'/>"),
        (b"<a>1<b/>2</a>", b"<a>1<b/>2</a>"),
        (b"<a b='&#10;&#9;'/>", b"<a b='&#10;&#9;'/>"),
    ],
)  # fmt: skip
def test_namespaces_are_written_where_they_begin(data: bytes, written: bytes) -> None:
    assert codec.write(codec.read(data)) == written


FORBIDDEN = {
    "nothing": b"",
    "text": b"x",
    "two elements": b"<a/><b/>",
    "not closed": b"<a>",
    "closes the stream": b"</r><r>",
    "comment": b"<a><!-- x --></a>",
    "instruction": b"<a><?x y?></a>",
    "DTD": b"<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>",
    "unknown entity": b"<a>&nbsp;</a>",
    "unknown prefix": b"<x:a/>",
    "same attribute twice": b"<a b='1' b='2'/>",
    "same attribute by two prefixes": b"<a xmlns:x='u' xmlns:y='u' x:b='1' y:b='2'/>",
    "brace in a namespace": b"<a><b xmlns='u}c'/></a>",
    "no UTF-8": b"<a>\xff</a>",
    "surrogate": b"<a>\xed\xa0\x80</a>",
    "reference to what XML cannot carry": b"<a>&#xFFFE;</a>",
    "nul": b"<a>&#0;</a>",
    "too deep": b"<a>" * 101 + b"</a>" * 101,
    "too many elements": b"<a>" + b"<b/>" * 50_000 + b"</a>",
}


@pytest.mark.abuse(11)
@pytest.mark.parametrize("data", FORBIDDEN.values(), ids=FORBIDDEN)
def test_what_is_forbidden_is_refused(data: bytes) -> None:
    with pytest.raises(codec.MalformedStanza):
        codec.read(data)


@pytest.mark.abuse(11)
def test_the_limits_are_where_they_are_said_to_be() -> None:
    depth = codec.MAX_DEPTH
    assert codec.read(b"<a>" * depth + b"</a>" * depth).tag == "{jabber:client}a"
    count = codec.MAX_ELEMENTS - 1
    assert len(codec.read(b"<a>" + b"<b/>" * count + b"</a>")) == count


@pytest.mark.abuse(11)
@pytest.mark.parametrize("at_once", [90, 99], ids=["unwatched", "watched"])
def test_names_never_seen_before_leave_nothing_behind(at_once: int) -> None:
    def hostile(number: int) -> bytes:
        names = "".join(
            f"<n{number}x{i} a{number}x{i}='v' xmlns='u{number}x{i}'/>" for i in range(at_once)
        )
        return f"<a>{names}</a>".encode()

    def blocks() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    for number in range(20):
        codec.read(hostile(number))
    before = blocks()
    for number in range(20, 120):
        codec.read(hostile(number))
    # 9,000 or more elements with three new names each came by.
    assert blocks() - before < 1_000


class Inner(xso.XSO):
    """A child with a text."""

    TAG = ("urn:x", "inner")
    text = xso.Text(default=None)


class Outer(xso.XSO):
    """An element with an attribute, a child and a language."""

    TAG = ("urn:x", "outer")
    number = xso.Attr("number", type_=xso.Integer())
    inner = xso.Child([Inner])
    lang = xso.LangAttr()


def test_xsos_and_trees_are_the_same_thing() -> None:
    data = (
        b"<outer xmlns='urn:x' number='7' xml:lang='de'><inner>&lt;\xf0\x9f\x98\x80</inner></outer>"
    )
    read = codec.to_xso(codec.read(data), Outer)
    assert (read.number, read.inner.text, str(read.lang)) == (7, "<\U0001f600", "de")
    assert facts(codec.from_xso(read)) == facts(codec.read(data))


@pytest.mark.parametrize(
    "data",
    [
        b"<outer xmlns='urn:x'/>",
        b"<outer xmlns='urn:x' number='seven'/>",
        b"<outer xmlns='urn:x' number='7'>text</outer>",
        b"<other xmlns='urn:x'/>",
    ],
)
def test_a_tree_that_does_not_fit_is_refused(data: bytes) -> None:
    with pytest.raises(codec.MalformedStanza):
        codec.to_xso(codec.read(data), Outer)


def test_what_a_class_does_not_know_is_dropped() -> None:
    data = b"<outer xmlns='urn:x' number='7' other='1'><unknown/></outer>"
    read = codec.to_xso(codec.read(data), Outer)
    assert codec.write(codec.from_xso(read)) == b"<outer xmlns='urn:x' number='7'/>"


def test_the_reason_names_the_element() -> None:
    with pytest.raises(codec.MalformedStanza, match="outer"):
        codec.to_xso(codec.read(b"<outer xmlns='urn:x'/>"), Outer)


# -- stanzas --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kind", "type_"),
    [
        (b"<message from='a@b' to='c'/>", stanzas.MESSAGE, "normal"),
        (b"<message from='a@b' to='c' type=''/>", stanzas.MESSAGE, "normal"),
        (b"<message from='a@b' to='c' type='chat'/>", stanzas.MESSAGE, "chat"),
        (b"<presence from='a@b' to='c'/>", stanzas.PRESENCE, "available"),
        (b"<presence from='a@b' to='c' type='probe'/>", stanzas.PRESENCE, "probe"),
        (b"<iq from='a@b' to='c' type='get' id='1'/>", stanzas.IQ, "get"),
    ],
)
def test_stanzas_have_their_effective_type(data: bytes, kind: str, type_: str) -> None:
    read = stanzas.parse(data)
    assert (read.kind, read.type) == (kind, type_)
    assert (str(read.sender), str(read.to)) == ("a@b", "c")


@pytest.mark.abuse(9)
def test_addresses_of_stanzas_are_canonical() -> None:
    read = stanzas.parse(b"<iq from='A@B.' to='X#C@D/e&apos;' type='get'/>")
    assert (str(read.sender), str(read.to)) == ("a@b", "x#c@d/e'")


@pytest.mark.parametrize(
    "data",
    [
        b"<message to='c'/>",
        b"<message from='a@b'/>",
        b"<message from='a@b@c' to='c'/>",
        b"<handshake from='a@b' to='c'/>",
        b"<message xmlns='urn:x' from='a@b' to='c'/>",
        b"<x:message xmlns:x='urn:x' from='a@b' to='c'/>",
    ],
)
def test_what_is_no_stanza_is_refused(data: bytes) -> None:
    with pytest.raises(codec.MalformedStanza):
        stanzas.parse(data)


def test_payload_and_error_are_told_apart() -> None:
    read = stanzas.parse(b"<iq from='a' to='b' type='error'><error/><q xmlns='u'/></iq>")
    assert read.payload is not None
    assert read.error is not None
    assert (read.payload.tag, read.error.tag) == ("{u}q", "{jabber:client}error")
    empty = stanzas.parse(b"<iq from='a' to='b' type='result'/>")
    assert (empty.payload, empty.error) == (None, None)


def test_errors_are_built_as_rfc_6120_says() -> None:
    built = stanzas.error("wait", "resource-constraint", "too much & more")
    assert codec.write(built) == (
        b"<error type='wait'>"
        b"<resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        b"<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>too much &amp; more</text></error>"
    )
    assert len(stanzas.error("cancel", "gone")) == 1


@pytest.mark.parametrize("element", [b"<x/>", b"<x></x>"])
def test_too_many_elements_are_counted_and_not_read(
    monkeypatch: pytest.MonkeyPatch, element: bytes
) -> None:
    monkeypatch.setattr(codec, "_watched", None)
    monkeypatch.setattr(codec.ET, "fromstring", None)
    with pytest.raises(codec.MalformedStanza, match="elements"):
        codec.read(b"<iq>" + element * codec.MAX_ELEMENTS + b"</iq>")


def test_nothing_is_written_in_the_namespace_of_xml_itself() -> None:
    """It can be read, with the prefix `xml`; as a default namespace no server takes it."""
    element = codec.read(b"<message><x xmlns='urn:x'><xml:y/></x></message>")
    with pytest.raises(codec.MalformedStanza, match="XML's own"):
        codec.write(element)
