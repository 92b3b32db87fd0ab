"""One address has one key, however it is written; and what is none is refused with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import jid
from schemas.jid import Jid

COVEN = Jid("coven", "mix.example.org", None)

SAME = {
    "as it is": "coven@mix.example.org",
    "case of the name": "COVEN@mix.example.org",
    "case of the domain": "coven@MIX.Example.ORG",
    "trailing dot": "coven@mix.example.org.",
    "full-width letters": "\uff43\uff4f\uff56\uff45\uff4e@mix.example.org",
    "full-width dot": "coven@mix\uff0eexample\uff0eorg",
    "ideographic dot": "coven@mix\u3002example\uff61org",
    "soft hyphen in the name": "co\u00adven@mix.example.org",
    "soft hyphen in the domain": "coven@mix.exam\u00adple.org",
}


@pytest.mark.abuse(9)
@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_variants_of_an_address_are_one_key(text: str) -> None:
    assert jid.parse(text) == COVEN
    assert str(jid.parse(text)) == "coven@mix.example.org"


@pytest.mark.parametrize("text", ["romeo@x/\U0001f4f1", "\u0221@x", "x\U0001f4f1@x/\u0221"])
def test_what_is_newer_than_unicode_3_2_is_taken_as_servers_take_it(text: str) -> None:
    """A session with such a resource would else be none, and its requests unanswered."""
    assert str(jid.parse(text)) == text


@pytest.mark.abuse(9)
@pytest.mark.parametrize(
    ("text", "same"),
    [
        pytest.param("coven@xn--bcher-kva.example", "coven@bücher.example", id="IDN"),
        pytest.param("coven@XN--BCHER-KVA.example", "coven@BÜCHER.example", id="IDN, case"),
        pytest.param("\u212bse@x", "a\u030ase@x", id="Angstrom and a with a ring"),
        pytest.param("stra\u00dfe@x", "STRASSE@x", id="sharp s in a name"),
        pytest.param("a@x/\u2167", "a@x/VIII", id="compatible letters in a resource"),
        pytest.param("a@x/e\u0301", "a@x/\u00e9", id="composition in a resource"),
    ],
)
def test_unicode_variants_are_one_key(text: str, same: str) -> None:
    assert jid.parse(text) == jid.parse(same)


@pytest.mark.parametrize(
    ("text", "different"),
    [
        pytest.param("a@x/R", "a@x/r", id="case of the resource"),
        pytest.param("a@xn--strae-oqa.de", "a@strasse.de", id="IDNA 2008 alone knows the name"),
        pytest.param("a@x/b", "a@x", id="resource"),
        pytest.param("X#coven@x", "coven@x", id="participant and channel"),
    ],
)
def test_different_addresses_stay_different(text: str, different: str) -> None:
    assert jid.parse(text) != jid.parse(different)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a.b", (None, "a.b", None)),
        ("a@b", ("a", "b", None)),
        ("a@b/c", ("a", "b", "c")),
        ("b/c", (None, "b", "c")),
        ("a@b/c@d/e", ("a", "b", "c@d/e")),
        ("a@b/c d", ("a", "b", "c d")),
        ("{a}@c", ("{a}", "c", None)),
        ("xn--a@b", ("xn--a", "b", None)),
    ],
)
def test_parts(text: str, parts: tuple[str | None, str, str | None]) -> None:
    assert jid.parse(text) == parts


REFUSED = {
    "nothing": ("", "not a domain"),
    "no domain": ("a@", "not a domain"),
    "no name": ("@b", "localpart is empty"),
    "no resource": ("a@b/", "resource is empty"),
    "two @": ("a@b@c", "more than one @"),
    "space in the name": ("a b@c", "not a JID"),
    "space in the domain": ("a@b c", "not a domain"),
    "space before": (" a@b", "not a JID"),
    "newline after": ("a@b\n", "not a domain"),
    "two dots": ("a@b..c", "not a domain"),
    "two dots at the end": ("a@b..", "not a domain"),
    "leading dot": ("a@.b", "not a domain"),
    "only a dot": ("a@.", "not a domain"),
    "slash from a full-width one": ("a@b\uff0fc", "not a domain"),
    "@ from a full-width one": ("a\uff20b@c", "not a JID"),
    "colon in the name": ("a:b@c", "not a JID"),
    "quote in the name": ("a'b@c", "not a JID"),
    "ampersand in the domain": ("a@b&c", "not a domain"),
    "control character": ("a@b/\x07", "not a JID"),
    "lone surrogate": ("a@b/\ud800", "not a JID"),
    "noncharacter": ("a@b/\ufffe", "not a JID"),
    "mixed directions": ("a@b/\u0627x", "not a JID"),
    "nothing left of the name": ("\u00ad@b", "not a JID"),
    "long name": ("a" * 1024 + "@b", "not a JID"),
    "long resource": ("a@b/" + "c" * 1024, "not a JID"),
    "long resource in bytes": ("a@b/" + "é" * 512, "not a JID"),
    "long domain": ("a@" + "b." * 512 + "c", "not a JID"),
    "endless": ("a@" + "b." * 100_000 + "c", "too long"),
}


@pytest.mark.abuse(9)
@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_address_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        jid.parse(text)


@pytest.mark.parametrize("length", [1022, 1023])
def test_the_longest_parts_are_taken(length: int) -> None:
    text = f"{'a' * length}@b/{'c' * length}"
    assert str(jid.parse(text)) == text


_odd = "@/.xn-#'&<A ß\u3002\uff0e\uff0f\uff20"
_parts = st.text(st.characters() | st.sampled_from(_odd), max_size=8)


@pytest.mark.abuse(9)
@given(_parts, _parts, _parts)
def test_the_one_spelling_of_an_address_is_its_own(local: str, domain: str, resource: str) -> None:
    try:
        parsed = jid.parse(f"{local}@{domain}/{resource}")
    except ValueError:
        return
    assert jid.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "participant_id", "channel"),
    [
        ("123#coven@mix", "123", "coven@mix"),
        ("123#coven@mix/r", "123", "coven@mix"),
        ("123##coven@mix", "123", "#coven@mix"),
        ("coven@mix/x#y", None, "coven@mix"),
        ("mix", None, "mix"),
        ("123#@mix", "123", "mix"),
    ],
)
def test_encoded_participants(text: str, participant_id: str | None, channel: str) -> None:
    assert jid.split_encoded(jid.parse(text)) == (participant_id, jid.parse(channel))


def test_views_of_an_address() -> None:
    full = jid.parse("a@b/c")
    assert full.bare == jid.parse("a@b")
    assert full.bare.bare == full.bare
    assert full.bare.is_bare_user
    assert not full.is_bare_user
    assert not jid.parse("b").is_bare_user
    assert full.bare.with_resource("c") == full
