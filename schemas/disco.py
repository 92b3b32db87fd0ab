"""Service discovery, capabilities hashes and software version, by aioxmpp's classes.

A capabilities hash is believed only when hashing the disco#info answer gives the same hash
(XEP-0115 §5.4, XEP-0390 §4.3). Its meaning is then read from the hashed bytes, not from the answer:
XEP-0115 writes identities, features and forms one behind another with the same separator, so that
an answer may divide the same bytes differently and hide a feature in a form. The bytes are the same
for everybody who has the hash.
"""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from xml.sax.saxutils import escape

from aioxmpp.disco.xso import Identity, InfoQuery, ItemsQuery
from aioxmpp.hashes import hash_from_algo, is_algo_supported
from aioxmpp.version.xso import Query as Version

from schemas import codec
from schemas.namespaces import CAPS, CAPS2, DISCO_INFO

__all__ = [
    "CapsKey",
    "Identity",
    "InfoQuery",
    "ItemsQuery",
    "Version",
    "caps_keys",
    "features_of",
    "matches",
    "verified",
]

QUERY_TAG = f"{{{DISCO_INFO}}}query"
_FEATURE_TAG = f"{{{DISCO_INFO}}}feature"
_IDENTITY_TAG = f"{{{DISCO_INFO}}}identity"
_FORM_TAG = "{jabber:x:data}x"
_FIELD_TAG = "{jabber:x:data}field"
_VALUE_TAG = "{jabber:x:data}value"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_CAPS_TAG = f"{{{CAPS}}}c"
_CAPS2_TAG = f"{{{CAPS2}}}c"
_HASH_TAG = "{urn:xmpp:hashes:2}hash"
_SUPPORTED_115 = frozenset({"sha-1", "sha-256", "sha-512"})
_MAX_HASHES = 5
"""Hashes read from one XEP-0390 element; no honest client sends more."""
_LONGEST_HASH = 128
"""Characters of a hash: 512 bits take 88 in Base64."""
_LONGEST_NODE = 1_024
"""Characters of a client's name, which is repeated in each query."""
MOST_PARTS = 1_000
"""Elements of an answer that are read: a client with many abilities has a hundred features."""


@dataclass(frozen=True, slots=True)
class CapsKey:
    """The capabilities hash in a presence.

    `node` is the disco#info node to query for it.
    """

    scheme: str
    algorithm: str
    digest: str
    node: str

    @property
    def cache_key(self) -> str:
        """The key under which the verified answer is cached, without the client's name."""
        return f"{self.scheme}:{self.algorithm}:{self.digest}"


def caps_keys(presence: ET.Element) -> CapsKey | None:
    """Give the best capabilities hash of a presence; None if it has none that can be verified."""
    caps2 = presence.find(_CAPS2_TAG)
    if caps2 is not None:
        for child in list(caps2.iterfind(_HASH_TAG))[:_MAX_HASHES]:
            algorithm, digest = child.get("algo", ""), (child.text or "").strip()
            if algorithm.startswith("sha") and _supported(algorithm) and _is_short(digest):
                return CapsKey("390", algorithm, digest, f"{CAPS2}#{algorithm}.{digest}")
    caps = presence.find(_CAPS_TAG)
    if caps is not None and caps.get("hash") in _SUPPORTED_115:
        node, ver = caps.get("node", ""), caps.get("ver", "")
        if _is_short(ver) and len(node) <= _LONGEST_NODE:
            return CapsKey("115", caps.get("hash", ""), ver, f"{node}#{ver}")
    return None


def _supported(algorithm: str) -> bool:
    try:
        return bool(is_algo_supported(algorithm))
    except ValueError:
        return False


def _is_short(digest: str) -> bool:
    return 0 < len(digest) <= _LONGEST_HASH


def features_of(query: ET.Element) -> frozenset[str]:
    """Give the features that a disco#info answer lists; of one that is too long, the first."""
    features = islice(query.iterfind(_FEATURE_TAG), MOST_PARTS)
    return frozenset(feature.get("var", "") for feature in features)


def verified(key: CapsKey, query: ET.Element) -> frozenset[str] | None:
    """Give the namespaces that a hash stands for; None if the answer does not give that hash.

    They are the same for every client that answers, and may be more than the features: they include
    everything else between two separators in the hashed text. An answer that breaks the rules of
    XEP-0115 §5.4 (duplicates, forms of several types) matches nothing, nor does one that is too
    long.
    """
    if next(islice(query.iter(), MOST_PARTS, None), None) is not None:
        return None
    try:
        hashed = _input_115(query) if key.scheme == "115" else _input_390(query)
        digest = hash_from_algo(key.algorithm)
        digest.update(hashed)
        if base64.b64encode(digest.digest()).decode() != key.digest:
            return None
        parts = (
            hashed.split(b"<") if key.scheme == "115" else hashed.partition(_ALL)[0].split(_PART)
        )
        return frozenset(part.decode() for part in parts)
    except (ValueError, NotImplementedError):
        return None


def matches(key: CapsKey, query: ET.Element) -> bool:
    """Tell whether a disco#info answer gives the hash that was claimed."""
    return verified(key, query) is not None


# -- what is hashed, by XEP-0115 §5.1 ------------------------------------------------------


def _input_115(query: ET.Element) -> bytes:
    identities = sorted(
        "/".join(escape(part) for part in _identity(each)).encode()
        for each in query.iterfind(_IDENTITY_TAG)
    )
    features = sorted(escape(_var(each)).encode() for each in query.iterfind(_FEATURE_TAG))
    forms = sorted(form for each in query.iterfind(_FORM_TAG) if (form := _form_115(each)))
    types = [form[0] for form in forms]
    for listed in (identities, features, types):
        if len(set(listed)) != len(listed):
            raise ValueError("the same twice")
    parts = [*identities, *features, *(part for form in forms for part in form)]
    return b"".join(part + b"<" for part in parts)


def _form_115(form: ET.Element) -> list[bytes]:
    """Give the parts of a form, its type first; nothing for a form without a type."""
    types: set[str] = set()
    fields: list[tuple[bytes, list[bytes]]] = []
    for each in form.iterfind(_FIELD_TAG):
        values = _values(each)
        if _var(each) == "FORM_TYPE":
            types.update(values)
        else:
            listed = sorted(escape(value).encode() for value in values)
            fields.append((escape(_var(each)).encode(), listed))
    if len(types) > 1:
        raise ValueError("a form of several types")
    if not types:
        return []
    fields.sort(key=lambda field: field[0])
    return [escape(types.pop()).encode(), *(part for var, some in fields for part in (var, *some))]


# -- and by XEP-0390 §4.1 ------------------------------------------------------------------

_PART, _END, _FORM, _ALL = b"\x1f", b"\x1e", b"\x1d", b"\x1c"


def _input_390(query: ET.Element) -> bytes:
    features = sorted(_part(_var(each)) for each in query.iterfind(_FEATURE_TAG))
    identities = sorted(
        b"".join(_part(part) for part in _identity(each)) + _END
        for each in query.iterfind(_IDENTITY_TAG)
    )
    forms = sorted(
        b"".join(sorted(_field_390(each) for each in form.iterfind(_FIELD_TAG))) + _FORM
        for form in query.iterfind(_FORM_TAG)
    )
    for listed in (features, identities):
        if len(set(listed)) != len(listed):
            raise ValueError("the same twice")
    return b"".join(part for some in (features, identities, forms) for part in (*some, _ALL))


def _field_390(field: ET.Element) -> bytes:
    values = sorted(_part(value) for value in _values(field))
    return b"".join((_part(_var(field)), *values, _END))


def _part(text: str) -> bytes:
    """Append the separator to a text; one that could contain a separator is refused."""
    if any(character < " " and character not in "\t\n\r" for character in text):
        raise ValueError("a control character")
    return text.encode() + _PART


# -- and of both ---------------------------------------------------------------------------


def _identity(identity: ET.Element) -> Iterable[str]:
    return (identity.get(name, "") for name in ("category", "type", _LANG, "name"))


def _var(element: ET.Element) -> str:
    var = element.get("var")
    if var is None:
        raise ValueError("nameless")
    return var


def _values(field: ET.Element) -> list[str]:
    return [value.text or "" for value in field.iterfind(_VALUE_TAG)]


def own_info(name: str, features: list[str], contacts: list[str]) -> ET.Element:
    """Build the component's own disco#info (XEP-0030, contacts by XEP-0157)."""
    info = InfoQuery(identities=[Identity(category="component", type_="generic", name=name)])
    info.features.update(features)
    element = codec.from_xso(info)
    if contacts:
        element.append(_contact_form(contacts))
    return element


def _contact_form(contacts: list[str]) -> ET.Element:
    namespace = "{jabber:x:data}"
    form = ET.Element(f"{namespace}x", {"type": "result"})
    for var, type_, values in (
        ("FORM_TYPE", "hidden", ["http://jabber.org/network/serverinfo"]),
        ("admin-addresses", "list-multi", contacts),
    ):
        field = ET.SubElement(form, f"{namespace}field", {"var": var, "type": type_})
        for value in values:
            ET.SubElement(field, f"{namespace}value").text = value
    return form
