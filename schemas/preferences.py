"""Reads the presence preference of MIX-ANON (XEP-0404, "User Preferences").

It is in a form, either directly in the `<join/>`, as in the XEP's examples, or in
`<user-preference/>`, as in the iq that changes it later. Any statement that presence is not to be
shared counts, at any place and despite contradictory ones.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from schemas.mix import USER_PREFERENCE
from schemas.namespaces import MIX_ANON

_FORM = "{jabber:x:data}x"
_FIELD = "{jabber:x:data}field"
_VALUE = "{jabber:x:data}value"

_FAMILY = MIX_ANON.rpartition(":")[0]
"""The FORM_TYPE of preference forms, without the version."""


def shares_presence(element: ET.Element) -> bool | None:
    """Read the presence preference anywhere below an element; None if there is none.

    Contradictory values mean no.
    """
    said = {value for form in _forms(element) for value in _values(form)}
    if "not share" in said:
        return False
    return True if "share" in said else None


def agreed(wish: bool | None, word: bool | None) -> bool:
    """Combine the user's preference with the channel's answer.

    Presence is shared if neither has a value (XEP-0404: the default is 'share'), and not shared if
    either says so: the channel's answer can only restrict.
    """
    return wish is not False and word is not False


def _forms(element: ET.Element) -> Iterator[ET.Element]:
    """Give the forms with preferences, found by their parent element or their FORM_TYPE."""
    forms = list(element.iter(_FORM))
    if not forms:
        return
    around = {form for each in element.iter(USER_PREFERENCE) for form in each.iter(_FORM)}
    for form in forms:
        if form.get("type") == "cancel":
            continue
        kind = _kind(form)
        if form in around or kind is None or kind.rpartition(":")[0] == _FAMILY:
            yield form


def _kind(form: ET.Element) -> str | None:
    for field in form.iterfind(_FIELD):
        if field.get("var") == "FORM_TYPE":
            return (field.findtext(_VALUE) or "").strip()
    return None


def _values(form: ET.Element) -> Iterator[str]:
    for field in form.iterfind(_FIELD):
        if _plain(field.get("var")) == "presence":
            for value in field.iterfind(_VALUE):
                yield _plain(value.text)


def _plain(text: str | None) -> str:
    """Normalize words: differences of case and of separators do not count."""
    return " ".join((text or "").casefold().replace("-", " ").replace("_", " ").split())
