"""Asks an archive (XEP-0313) for the number of messages in it, and for none of them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

_QUERY_TAG = "{urn:xmpp:mam:2}query"
_SET_TAG = "{http://jabber.org/protocol/rsm}set"
_MAX_TAG = "{http://jabber.org/protocol/rsm}max"


def count() -> ET.Element:
    """Build the query for the number of messages (XEP-0059 §2.7)."""
    query = ET.Element(_QUERY_TAG)
    ET.SubElement(ET.SubElement(query, _SET_TAG), _MAX_TAG).text = "0"
    return query
