"""The checks of tests/fuzz on mutated seeds: a few hundred of them, each time others.

What the fuzzer has found once is an example here, or in the tests of what was at fault.
"""

import pytest
from fuzz import control, events, sessions, stream
from hypothesis import example, given
from hypothesis import strategies as st

_PIECES = [b"'", b'"', b"<", b"</", b"/>", b">", b"&amp;", b"&#9;", b"<![CDATA[", b"]]>", b"<!--",
           b"\xff", b"\xc3\xa9", b"\0", b"<cut/>", b"<wait seconds='31'/>",
           b"<store state='fails'/>", b"<store state='sleeps'/>", b"<store/>",
           b" xmlns='urn:xmpp:mix:core:0'", b" to='anna@example.org'"]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Take a seed and cut, copy, exchange and insert a few times."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        at, size = draw(st.integers(0, len(data))), draw(st.integers(0, 60))
        other = draw(st.sampled_from(seeds))
        there = draw(st.integers(0, len(other)))
        new = draw(
            st.sampled_from(_PIECES)
            | st.binary(max_size=4)
            | st.just(other[there : there + size])
            | st.just(data[at : at + size] * 2)
        )
        data = data[:at] + new + data[at + draw(st.sampled_from([0, len(new), size])) :]
    return data


@st.composite
def shuffled(draw: st.DrawFn) -> bytes:
    """Take whole stanzas of all sessions, in any order and any number."""
    frames = [frame.data for session in sessions.recorded() for frame in control.cut(session)]
    start = draw(st.sampled_from(sessions.recorded()))
    return start + b"".join(draw(st.lists(st.sampled_from(frames), max_size=8)))


@pytest.mark.abuse(11)
@given(mutated(stream.seeds()))
@example(b"\x07<m>e xmlns='u'/></m>")
def test_the_stream_is_cut_as_a_parser_would(data: bytes) -> None:
    stream.check(data)


_ROSTER_THAT_IS_NO_UTF8 = sessions.recorded()[1].replace(b"jid='ben@", b"jid='b\xffn@")


@pytest.mark.abuse(11)
@given(mutated(control.seeds()) | shuffled())
@example(_ROSTER_THAT_IS_NO_UTF8)
def test_a_session_ends_in_no_fault_and_no_forbidden_word(data: bytes) -> None:
    control.check(data)


@pytest.mark.abuse(10, 11)
@given(mutated(events.seeds()))
def test_a_tap_may_tell_of_anything(data: bytes) -> None:
    events.check(data)
