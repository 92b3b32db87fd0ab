"""Service discovery, capabilities hashes and software version, by aioxmpp's classes.

A capabilities hash is believed only when the disco#info it stands for gives it again
(XEP-0115 §5.4, XEP-0390 §4.3).
"""

from __future__ import annotations

import base64
import binascii
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from aioxmpp.disco.xso import Identity, InfoQuery, ItemsQuery
from aioxmpp.entitycaps import caps115, caps390
from aioxmpp.hashes import is_algo_supported
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
]

QUERY_TAG = f"{{{DISCO_INFO}}}query"
_FEATURE_TAG = f"{{{DISCO_INFO}}}feature"
_CAPS_TAG = f"{{{CAPS}}}c"
_CAPS2_TAG = f"{{{CAPS2}}}c"
_HASH_TAG = "{urn:xmpp:hashes:2}hash"
_SUPPORTED_115 = frozenset({"sha-1", "sha-256", "sha-512"})
_MAX_HASHES = 5
"""Hashes read from one XEP-0390 element; more are a client's joke."""


@dataclass(frozen=True, slots=True)
class CapsKey:
    """What a presence claims its client can do, as a hash.

    `node` is the disco#info node that must answer for it.
    """

    scheme: str
    algorithm: str
    digest: str
    node: str

    @property
    def cache_key(self) -> str:
        """The name under which the verified answer is remembered, client name left out."""
        return f"{self.scheme}:{self.algorithm}:{self.digest}"


def caps_keys(presence: ET.Element) -> CapsKey | None:
    """Give the best capabilities hash of a presence, or None if it has none we can verify."""
    caps2 = presence.find(_CAPS2_TAG)
    if caps2 is not None:
        for child in list(caps2.iterfind(_HASH_TAG))[:_MAX_HASHES]:
            algorithm, digest = child.get("algo", ""), (child.text or "").strip()
            if algorithm.startswith("sha") and _supported(algorithm) and digest:
                return CapsKey("390", algorithm, digest, f"{CAPS2}#{algorithm}.{digest}")
    caps = presence.find(_CAPS_TAG)
    if caps is not None and caps.get("hash") in _SUPPORTED_115:
        node, ver = caps.get("node", ""), caps.get("ver", "")
        if ver:
            return CapsKey("115", caps.get("hash", ""), ver, f"{node}#{ver}")
    return None


def _supported(algorithm: str) -> bool:
    try:
        return bool(is_algo_supported(algorithm))
    except ValueError:
        return False


def features_of(query: ET.Element) -> frozenset[str]:
    """Give the features a disco#info answer lists."""
    return frozenset(feature.get("var", "") for feature in query.iterfind(_FEATURE_TAG))


def matches(key: CapsKey, query: ET.Element) -> bool:
    """Tell whether a disco#info answer gives the hash that was claimed.

    An answer that breaks the rules of XEP-0115 §5.4 (duplicates, forms of several types)
    matches nothing.
    """
    try:
        info = codec.to_xso(query, InfoQuery)
        if len(info.features) != sum(1 for _ in query.iterfind(_FEATURE_TAG)):
            return False  # a duplicate feature, which the set has swallowed
        if key.scheme == "115":
            return bool(caps115.Key(key.algorithm, key.node).verify(info))
        digest = base64.b64decode(key.digest, validate=True)
        return bool(caps390.Key(key.algorithm, digest).verify(info))
    except (ValueError, TypeError, AttributeError, KeyError, binascii.Error):
        return False


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
