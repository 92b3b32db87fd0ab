"""White space behind what is written: all that a long tag lacks behind it, or a little."""

import pytest

from component.link.padding import USUAL, padding

MANY = b"<message to='romeo@example.org'><body>b</body></message>" * 100
TEXT = b"<message><body>" + b"t" * 50_000 + b"</body></message>"


def tag(size: int, quote: bytes = b"'", filling: bytes = b"v") -> bytes:
    """Return an empty element of so many bytes."""
    return b"<x a=" + quote + filling * (size - 9) + quote + b"/>"


@pytest.mark.parametrize("size", [1_100, 2_048, 5_000, 9_000, 40_000, 200_000])
@pytest.mark.parametrize(("quote", "filling"), [(b"'", b"v"), (b"'", b'"'), (b'"', b">")])
@pytest.mark.parametrize("before", [b"", MANY, TEXT, tag(3_000), tag(70_000)])
@pytest.mark.parametrize("behind", [b"", b"<a/>", b"<a/>" * 300, MANY, TEXT, tag(3_000)])
def test_as_much_is_behind_a_tag_as_it_has_itself(
    size: int, quote: bytes, filling: bytes, before: bytes, behind: bytes
) -> None:
    data = before + tag(size, quote, filling) + behind
    if len(data) > 2_048:
        assert len(behind) + len(padding(data)) >= size


@pytest.mark.parametrize("data", [MANY, TEXT, b"t" * 10_000, b"<" + b"t" * 10_000])
def test_where_no_tag_is_long_a_little_is_enough(data: bytes) -> None:
    assert padding(data) == b" " * USUAL


def test_what_fits_into_one_read_needs_none() -> None:
    assert padding(b"<message/>" * 100) == b""


@pytest.mark.parametrize("size", [1_100, 9_000, 200_000])
@pytest.mark.parametrize("behind", [b"", MANY, TEXT])
def test_and_no_more(size: int, behind: bytes) -> None:
    data = MANY + tag(size) + behind
    assert len(padding(data)) == max(USUAL, size - len(behind))
