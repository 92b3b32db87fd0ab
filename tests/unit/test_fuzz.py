"""The checks of tests/fuzz on mutated seeds: a few hundred of them, each time others.

What the fuzzer has found once is an example here, or in the tests of what was at fault.
"""

import pytest
from fuzz import control, events, sessions, stream
from fuzz.mutations import mutated
from hypothesis import example, given
from hypothesis import strategies as st


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


_NO_STANZA = sessions.recorded()[1].replace(
    b"<presence ", b"<presence xmlns='urn:xmpp:mix:core:0' ", 1
)
_ROSTER_THAT_IS_NO_UTF8 = sessions.recorded()[1].replace(b"jid='ben@", b"jid='b\xffn@")


@pytest.mark.abuse(11)
@given(mutated(control.seeds()) | shuffled())
@example(_ROSTER_THAT_IS_NO_UTF8)
@example(_NO_STANZA)
def test_a_session_ends_in_no_fault_and_no_forbidden_word(data: bytes) -> None:
    control.check(data)


@pytest.mark.abuse(10, 11)
@given(mutated(events.seeds()))
def test_a_tap_may_tell_of_anything(data: bytes) -> None:
    events.check(data)
