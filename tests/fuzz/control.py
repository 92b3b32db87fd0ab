"""Sessions of stanzas: never an exception, never a stanza that the outgoing rule refuses.

Output must be well-formed if the input was, and results computed on bytes for speed (the core
namespace of copies, annotations in rosters) must equal those computed on a tree.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable

from driver import Play

from component.core.delivery.fanout import translate
from component.core.roster.annotate import annotated, annotated_tree
from component.core.users.mirror import Mirror
from component.wire.framing import Frame, Framer, FramingError
from fuzz import reference, sessions
from schemas import codec, roster
from schemas import stanza as stanzas
from schemas.namespaces import FORWARD, MIX_CORE

_LONGEST_WAIT = 3_600.0
# No server writes a namespace with references in it.
_WRITTEN_ODDLY = re.compile(rb"xmlns[^<>]*&")


def seeds() -> list[bytes]:
    """Give whole sessions, from the tap's hello on."""
    return list(sessions.recorded())


class Careful(Play):
    """A play in which the outgoing rule may refuse a stanza after broken XML.

    A server lets none through; if it did, that rule would be the last check before the link.
    """

    clean = True

    def _refused(self, reason: str) -> None:
        if self.clean:
            super()._refused(reason)


def check(data: bytes) -> None:
    """Play a session through the core."""
    perform(Careful(), cut(data))


def cut(data: bytes) -> Iterable[Frame]:
    """Cut the bytes into stanzas, as far as they are a session."""
    try:
        yield from Framer(len(data) + 1).feed(data)
    except FramingError:
        return


def perform(play: Careful, session: Iterable[Frame]) -> None:
    """Play a session, and let all of its deadlines pass."""
    for frame in session:
        match frame.name:
            case b"wait":
                play.waits(_seconds(frame.get(b"seconds")))
            case b"cut":
                play.link_is_cut()
            case b"store":
                _store(play, frame.get(b"state"))
            case _:
                play.clean = play.clean and reference.is_well_formed(frame.data)
                if play.clean:
                    _translated(frame)
                    _annotated(play.core.mirror, frame)
                play.passes_on(frame)
        for written in play.hears_all():
            assert not play.clean or reference.is_well_formed(written), written
    play.waits(_LONGEST_WAIT)
    forget(play)


def forget(play: Play) -> None:
    """Let a play forget everything, and check that no shared value of its users remains."""
    play.link_is_cut()
    play.core.start_over()
    common = play.core.mirror.common
    assert [len(each) for each in (common.channels, common._terms, common.states)] == [0, 0, 0]


def _seconds(raw: bytes) -> float:
    try:
        return max(0.0, min(float(raw), _LONGEST_WAIT))
    except ValueError:
        return 0.0


def _store(play: Play, state: bytes) -> None:
    if state in {b"sleeps", b"fails"}:
        play.store = state.decode()
    else:
        play.store_wakes()


def _translated(frame: Frame) -> None:
    """Compare the translation of the core namespace with that of a tree.

    Attributes in a MIX namespace have no meaning, and what is in one itself is no stanza: either
    result is right.
    """
    for old, new in (MIX_CORE, MIX_CORE[::-1]):
        if old.encode() not in frame.data or _WRITTEN_ODDLY.search(frame.data):
            continue
        try:
            expected = codec.read(frame.data)
        except codec.MalformedStanza:
            continue
        if expected.tag.startswith("{urn:xmpp:mix:"):
            continue
        got = codec.read(translate(frame, old.encode(), new.encode()))
        _translate(expected, f"{{{old}}}", f"{{{new}}}")
        for element in (*got.iter(), *expected.iter()):
            for name in [each for each in element.attrib if each.startswith("{urn:xmpp:mix:")]:
                del element.attrib[name]
        assert _facts(got) == _facts(expected), frame.data


def _translate(element: ET.Element, old: str, new: str) -> None:
    for child in element:
        if child.tag != f"{{{FORWARD}}}forwarded":
            if child.tag.startswith(old):
                child.tag = new + child.tag.removeprefix(old)
            _translate(child, old, new)


_ROOM = 1 << 30
"""Bytes that a roster may have; its size is not the subject here."""


def _annotated(mirror: Mirror, frame: Frame) -> None:
    """Compare the annotations in a roster with those made in a tree."""
    data = annotated(mirror, frame, _ROOM)
    if data is None:
        return
    stanza = stanzas.parse(frame.data)
    if stanza.element.find(f"{roster.QUERY_TAG}/{roster.ANNOTATE_TAG}") is None:
        return  # no tap sends such a roster
    by_tree = codec.read(annotated_tree(mirror, stanza, frame, _ROOM))
    # On bytes the annotation goes before an item's groups, in a tree behind them.
    assert _unordered(codec.read(data)) == _unordered(by_tree), frame.data


def _unordered(element: ET.Element) -> tuple[object, ...]:
    children = sorted((_unordered(child) for child in element), key=repr)
    return (element.tag, sorted(element.items()), "".join(element.itertext()), children)


def _facts(element: ET.Element) -> tuple[object, ...]:
    return (
        element.tag,
        dict(element.attrib),
        element.text or "",
        element.tail or "",
        [_facts(child) for child in element],
    )
