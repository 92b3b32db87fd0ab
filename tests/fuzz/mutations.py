"""Seeds mutated by hypothesis, for the few hundred tries of an ordinary test run."""

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
