"""Reads the presence preference of MIX-ANON (XEP-0404, "User Preferences")."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from schemas.mix import USER_PREFERENCE

_FORM = "{jabber:x:data}x"
_FIELD = "{jabber:x:data}field"
_VALUE = "{jabber:x:data}value"


def shares_presence(element: ET.Element) -> bool | None:
    """Read the presence preference anywhere below an element; None if it says nothing."""
    for preference in element.iter(USER_PREFERENCE):
        form = preference.find(_FORM)
        for field in () if form is None else form.iterfind(_FIELD):
            if (field.get("var") or "").lower() == "presence":
                value = (field.findtext(_VALUE) or "").strip().lower()
                if value in {"share", "not share"}:
                    return value == "share"
    return None
