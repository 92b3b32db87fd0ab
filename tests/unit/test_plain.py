"""Plain messages: found as the framer and a parser find them, and left alone when not plain."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from component.wire.framing import Frame, Framer, FramingError
from component.wire.simple_messages import CLOSE, OPEN, TO, Plain, plain_messages

MESSAGE = (
    b"<message type='groupchat' id='1' to='romeo@example' from='coven@mix.example/3'"
    b" xml:lang='en'><body>A &amp; B, 'quoted' and \"so\"! What?</body><mix/></message>"
)
LIMIT = 4_000


def found(data: bytes, position: int = 0, limit: int = LIMIT) -> list[Plain]:
    """Give what is found."""
    return list(plain_messages(data, position, limit))


def whole(stanza: bytes) -> bytes:
    """Give a message with its ends."""
    return OPEN + stanza + CLOSE


def test_a_run_of_messages_is_found_up_to_what_is_not_plain() -> None:
    stream = b"<a/>" + MESSAGE * 100 + b"<presence/>" + MESSAGE
    all_ = found(stream, 4)
    assert len(all_) == 100
    assert stream.startswith(b"".join(whole(stanza) for _, _, stanza in all_), 4)
    for to, sender, stanza in all_:
        assert (to, sender) == (b"romeo@example", b"coven@mix.example/3")
        assert whole(stanza) == MESSAGE


@pytest.mark.parametrize(
    "other",
    [
        b" ",
        b"<",
        b"<message",
        b"<message>",
        b"<message></message>",
        b"</message>",
        MESSAGE[:-1],
        MESSAGE.replace(b"groupchat", b"chat"),
        MESSAGE.replace(b" type='groupchat'", b""),
        MESSAGE.replace(b" to='romeo@example'", b""),
        MESSAGE.replace(b" from='coven@mix.example/3'", b""),
        MESSAGE.replace(b" id='1'", b" id='1' id='2'"),
        MESSAGE.replace(b" id='1'", b" id='1' more='2'"),
        MESSAGE.replace(b" id='1'", b' id="1"'),
        MESSAGE.replace(b" id='1'", b" id = '1'"),
        MESSAGE.replace(b" id='1'", b" id='<'"),
        MESSAGE.replace(b" id='1'", b" id='1"),
        MESSAGE.replace(b"'en'>", b"'en' >"),
        MESSAGE.replace(b"'en'>", b"'en'/>"),
        MESSAGE.replace(b"'en'>", b"'en>"),
        MESSAGE.replace(b"<message ", b"<messages "),
        MESSAGE.replace(b"<message ", b"<message"),
        MESSAGE.replace(b"<message ", b"<message\t"),
        MESSAGE.replace(b"<mix/>", b"<![CDATA[</message>]]>"),
        MESSAGE.replace(b"<mix/>", b"<!-- -->"),
        MESSAGE.replace(b"<mix/>", b"<?x?>"),
        MESSAGE.replace(b"<mix/>", b"<f><message/></f>"),
        MESSAGE.replace(b"<mix/>", b"<f>" + MESSAGE + b"</f>"),
        MESSAGE.replace(b"<mix/>", b"</message ><message>"),
        MESSAGE.replace(b"<mix/>", b"</message ><iq/>"),
        MESSAGE.replace(b"<mix/>", b"x" * LIMIT),
        b"<presence/>",
        b"<iq><message/></iq>",
    ],
)
def test_what_is_not_plain_is_left_to_the_framer(other: bytes) -> None:
    assert found(MESSAGE + other + MESSAGE) == found(MESSAGE)


def test_addresses_are_not_looked_for_inside_other_values() -> None:
    data = MESSAGE.replace(b" id='1'", b" id='x\" to=\"y romeo@example> from='")
    ((to, sender, stanza),) = found(data)
    assert (to, sender) == (b"romeo@example", b"coven@mix.example/3")
    assert whole(stanza) == data
    assert stanza.partition(TO)[2].startswith(to + b"'")


def test_large_ones_are_found_and_too_large_ones_are_not() -> None:
    large = MESSAGE.replace(b"<mix/>", b"x" * 20_000)
    assert len(found(large * 5, limit=len(large))) == 5
    assert found(large, limit=len(large) - 1) == []


_PARTS = (
    b"<message", b"</message", b"</message >", b" to='a@b'", b" from='c@d/e'",
    b" type='groupchat'", b" id=''", b' to="f@g"', b" to='", b"'", b'"', b">", b"/>", b"<", b" ",
    b"!", b"?", b"<![CDATA[", b"]]>", b"<body>x</body>", MESSAGE,
)  # fmt: skip


@given(st.lists(st.sampled_from(_PARTS), max_size=12), st.integers(0, 40))
def test_each_is_a_frame_that_the_framer_finds(parts: list[bytes], cut: int) -> None:
    data = b"<message to='a@b' from='c@d' type='groupchat'>" * (cut % 2) + b"".join(parts)
    frames: list[Frame] = []
    with contextlib.suppress(FramingError):
        frames.extend(Framer(LIMIT).feed(data))
    for (to, sender, stanza), frame in zip(found(data), frames, strict=False):
        assert whole(stanza) == frame.data
        assert (frame.name, frame.to, frame.sender) == (b"message", to, sender)
        assert (frame.type, frame.to_start) == (b"groupchat", frame.data.find(TO) + len(TO))
    assert len(found(data)) <= len(frames)
    # One behind the other, with nothing in between.
    assert data.startswith(b"".join(whole(stanza) for _, _, stanza in found(data)))
