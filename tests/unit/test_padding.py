"""White space behind what is written: as much as the longest tag has bytes, or a little."""

import pytest

from component.link.padding import longest_tag, padded

TEXT = b"<message><body>" + b"t" * 50_000 + b"</body></message>"


def tag(size: int, quote: bytes = b"'", filling: bytes = b"v") -> bytes:
    """Return an empty element of so many bytes."""
    return b"<x a=" + quote + filling * (size - 9) + quote + b"/>"


@pytest.mark.parametrize("size", [4_096, 5_000, 9_000, 200_000])
@pytest.mark.parametrize("quote", [b"'", b'"'])
@pytest.mark.parametrize("filling", [b"v", b">", b" "])
@pytest.mark.parametrize("before", [b"", b"<a/>" * 700, TEXT])
@pytest.mark.parametrize("behind", [b"", b"<a/>" * 700, TEXT])
def test_the_longest_tag_is_found(
    size: int, quote: bytes, filling: bytes, before: bytes, behind: bytes
) -> None:
    assert longest_tag(before + tag(size, quote, filling) + behind) == size


def test_text_is_no_tag() -> None:
    assert longest_tag(TEXT) == 0
    assert longest_tag(b"t" * 10_000) == 0
    assert longest_tag(b"<" + b"t" * 10_000) == 0


def test_what_fits_into_one_read_stays_as_it_is() -> None:
    small = b"<message/>" * 100
    assert padded(small) == small


def test_what_does_not_is_followed_by_white_space() -> None:
    many = b"<message to='romeo@example.org'><body>b</body></message>" * 100
    assert padded(many).rstrip() == many
    assert len(padded(many)) < len(many) + 1_000
    large = b"<message>" + tag(9_000) + b"</message>"
    assert padded(large).rstrip() == large
    assert len(padded(large)) >= len(large) + 9_000
