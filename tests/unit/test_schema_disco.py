"""Capabilities hashes: the published ones match, forged and sloppy ones do not."""

import xml.etree.ElementTree as ET

import pytest

from schemas import codec, disco
from schemas.disco import CapsKey

NS = "http://jabber.org/protocol/disco#info"


def info(*features: str, identities: str = "", forms: str = "") -> ET.Element:
    listed = "".join(f"<feature var='{feature}'/>" for feature in features)
    return codec.read(f"<query xmlns='{NS}'>{identities}{listed}{forms}</query>".encode())


def form(type_: str, **fields: list[str]) -> str:
    written = "".join(
        f"<field var='{var}'>{''.join(f'<value>{value}</value>' for value in values)}</field>"
        for var, values in fields.items()
    )
    return (
        "<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'>"
        f"<value>{type_}</value></field>{written}</x>"
    )


COMMON = (
    "http://jabber.org/protocol/caps",
    "http://jabber.org/protocol/disco#info",
    "http://jabber.org/protocol/disco#items",
    "http://jabber.org/protocol/muc",
)
SOFTWARE = {
    "ip_version": ["ipv4", "ipv6"],
    "os": ["Mac"],
    "os_version": ["10.5.1"],
    "software": ["Psi"],
    "software_version": ["0.11"],
}
SOFTWARE_FORM = form("urn:xmpp:dataforms:softwareinfo", **SOFTWARE)

EXODUS = info(*COMMON, identities="<identity category='client' type='pc' name='Exodus 0.9.1'/>")
EXODUS_HASH = "QgayPKawpkPSDYmwT/WM94uAlu0="
PSI = info(
    *COMMON,
    identities="<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>"
    "<identity xml:lang='el' category='client' name='\u03a8 0.11' type='pc'/>",
    forms=SOFTWARE_FORM,
)
PSI_HASH = "q07IKJEyjvHSyhy//CH0CxmKi8w="

BOMBUS = info(
    *(f"http://jabber.org/protocol/{name}" for name in (
        "si", "bytestreams", "chatstates", "disco#info", "disco#items", "rosterx", "ibb",
        "si/profile/file-transfer",
    )),
    *(f"jabber:iq:{name}" for name in ("time", "privacy", "version", "roster", "last")),
    "urn:xmpp:ping", "urn:xmpp:time", "urn:xmpp:receipts", "jabber:x:oob",
    identities="<identity category='client' name='BombusMod' type='mobile'/>",
)  # fmt: skip

PUBLISHED = {
    "XEP-0115 §5.2": (CapsKey("115", "sha-1", EXODUS_HASH, f"x#{EXODUS_HASH}"), EXODUS),
    "XEP-0115 §5.3": (CapsKey("115", "sha-1", PSI_HASH, f"x#{PSI_HASH}"), PSI),
    "XEP-0390 §4.3, SHA-2": (
        CapsKey("390", "sha-256", "kzBZbkqJ3ADrj7v08reD1qcWUwNGHaidNUgD7nHpiw8=", "x"),
        BOMBUS,
    ),
    "XEP-0390 §4.3, SHA-3": (
        CapsKey("390", "sha3-256", "79mdYAfU9rEdTOcWDO7UEAt6E56SUzk/g6TnqUeuD9Q=", "x"),
        BOMBUS,
    ),
}


@pytest.mark.req("C1", "C5")
@pytest.mark.parametrize(("key", "query"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_hashes_match(key: CapsKey, query: ET.Element) -> None:
    assert disco.matches(key, query)


FALSE = {
    "other features": (EXODUS_HASH, info(*COMMON, "urn:xmpp:mix:core:1")),
    "feature added": (
        EXODUS_HASH,
        info(
            *COMMON,
            "urn:xmpp:mix:core:1",
            identities="<identity category='client' type='pc' name='Exodus 0.9.1'/>",
        ),
    ),
    "feature twice": (
        EXODUS_HASH,
        info(
            *COMMON,
            COMMON[0],
            identities="<identity category='client' type='pc' name='Exodus 0.9.1'/>",
        ),
    ),
    "nothing": (EXODUS_HASH, info()),
    "form left out": (PSI_HASH, info(*COMMON)),
    "form twice": (
        PSI_HASH,
        info(
            *COMMON,
            identities="<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>"
            "<identity xml:lang='el' category='client' name='\u03a8 0.11' type='pc'/>",
            forms=SOFTWARE_FORM * 2,
        ),
    ),
    "feature without a name": (
        EXODUS_HASH,
        codec.read(f"<query xmlns='{NS}'><feature/></query>".encode()),
    ),
    "no hash at all": ("", EXODUS),
    "no Base64": ("!", EXODUS),
}


@pytest.mark.req("C3")
@pytest.mark.abuse(16)
@pytest.mark.parametrize("scheme", ["115", "390"])
@pytest.mark.parametrize(("digest", "query"), FALSE.values(), ids=FALSE)
def test_false_hashes_do_not_match(digest: str, query: ET.Element, scheme: str) -> None:
    assert not disco.matches(CapsKey(scheme, "sha-1", digest, f"x#{digest}"), query)


@pytest.mark.abuse(16)
def test_an_identity_cannot_pose_as_a_feature() -> None:
    # XEP-0115 joins with `<`, which an attribute can hold as well.
    forged = info(identities=(
        "<identity category='client' type='pc' "
        f"name='Exodus 0.9.1&lt;{'&lt;'.join(COMMON)}'/>"
    ))  # fmt: skip
    key = CapsKey("115", "sha-1", EXODUS_HASH, f"x#{EXODUS_HASH}")
    assert not disco.matches(key, forged) or not disco.features_of(forged)


HASH_390 = "kzBZbkqJ3ADrj7v08reD1qcWUwNGHaidNUgD7nHpiw8="


def presence(content: str) -> ET.Element:
    return codec.read(f"<presence>{content}</presence>".encode())


def caps2(*hashes: tuple[str, str]) -> str:
    listed = "".join(
        f"<hash xmlns='urn:xmpp:hashes:2' algo='{algorithm}'> {digest}\n</hash>"
        for algorithm, digest in hashes
    )
    return f"<c xmlns='urn:xmpp:caps'>{listed}</c>"


def caps(**attributes: str) -> str:
    written = " ".join(f"{name}='{value}'" for name, value in attributes.items())
    return f"<c xmlns='http://jabber.org/protocol/caps' {written}/>"


KEYS = {
    "none": ("", None),
    "XEP-0115": (
        caps(hash="sha-1", node="http://x", ver="abc="),
        CapsKey("115", "sha-1", "abc=", "http://x#abc="),
    ),
    "XEP-0115 without node": (
        caps(hash="sha-256", ver="abc="),
        CapsKey("115", "sha-256", "abc=", "#abc="),
    ),
    "XEP-0115 before there were hashes": (caps(node="http://x", ver="0.9"), None),
    "unknown hash": (caps(hash="md5", node="http://x", ver="abc="), None),
    "empty hash": (caps(hash="sha-1", node="http://x", ver=""), None),
    "XEP-0390": (
        caps2(("sha-256", HASH_390)),
        CapsKey("390", "sha-256", HASH_390, f"urn:xmpp:caps#sha-256.{HASH_390}"),
    ),
    "XEP-0390, unknown ones left out": (
        caps2(("rot13", "x"), ("md5", "x"), ("sha-256", ""), ("sha3-256", "x=")),
        CapsKey("390", "sha3-256", "x=", "urn:xmpp:caps#sha3-256.x="),
    ),
    "XEP-0390 before XEP-0115": (
        caps(hash="sha-1", node="http://x", ver="abc=") + caps2(("sha-256", HASH_390)),
        CapsKey("390", "sha-256", HASH_390, f"urn:xmpp:caps#sha-256.{HASH_390}"),
    ),
    "XEP-0390 unusable, XEP-0115": (
        caps2(("md5", "x")) + caps(hash="sha-1", node="n", ver="v"),
        CapsKey("115", "sha-1", "v", "n#v"),
    ),
    "a flood of hashes": (caps2(*[("md5", "x")] * 50, ("sha-256", HASH_390)), None),
}


@pytest.mark.req("C1", "C5")
@pytest.mark.parametrize(("content", "key"), KEYS.values(), ids=KEYS)
def test_the_best_hash_of_a_presence_is_found(content: str, key: CapsKey | None) -> None:
    assert disco.caps_keys(presence(content)) == key


def test_two_clients_of_one_hash_share_the_answer() -> None:
    one, other = CapsKey("115", "sha-1", "a=", "x#a="), CapsKey("115", "sha-1", "a=", "y#a=")
    assert one.cache_key == other.cache_key
    assert one.cache_key != CapsKey("115", "sha-256", "a=", "x#a=").cache_key
    assert one.cache_key != CapsKey("390", "sha-1", "a=", "x#a=").cache_key


@pytest.mark.req("D2")
def test_the_own_info_names_features_and_contacts() -> None:
    element = disco.own_info("mixpam", ["a", "b"], ["mailto:x@y", "xmpp:x@y"])
    assert disco.features_of(element) == {"a", "b"}
    identity = element.find(f"{{{NS}}}identity")
    assert identity is not None
    assert (identity.get("category"), identity.get("type")) == ("component", "generic")
    values = [value.text for value in element.iter("{jabber:x:data}value")]
    assert values == ["http://jabber.org/network/serverinfo", "mailto:x@y", "xmpp:x@y"]
    assert disco.own_info("mixpam", ["a"], []).find("{jabber:x:data}x") is None
