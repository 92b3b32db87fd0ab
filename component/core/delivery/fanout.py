"""Copies of a stanza for each MIX device of one user (XEP-0405 §5.2).

Each copy is the channel's bytes with another `to`, in the core namespace that the device
speaks. No tree, no clock, no store. Who may get one, `passage` tells.
"""

from __future__ import annotations

from component.core.delivery.translation import FORWARDED, in_other_namespace
from component.core.users.sessions import Copies
from component.wire.framing import ATTRIBUTE, START_TAG, Frame
from schemas.namespaces import MIX_CORE

CORE = tuple(namespace.encode() for namespace in MIX_CORE)
_CDATA = b"<![CDATA["


def copies(targets: Copies, frame: Frame) -> list[bytes]:
    """Address a stanza to each target, in the core namespace that target speaks."""
    data = frame.data
    head, tail = data[: frame.to_start], data[frame.to_end :]
    old, others = others_of(targets, frame)
    if not others:
        return [b"".join((head, target, tail)) for target in targets.every]
    other = translated(frame, old)
    new_head, new_tail = other.data[: other.to_start], other.data[other.to_end :]
    return [
        new_head + target + new_tail if target in others else head + target + tail
        for target in targets.every
    ]


def others_of(targets: Copies, frame: Frame) -> tuple[int, tuple[bytes, ...]]:
    """Give the core version of a stanza, and the devices that do not understand it."""
    # A stanza that mixes both namespaces is nobody's; the first decides.
    for old, others in enumerate((targets.only_1, targets.only_0)):
        if others and names(frame.data, old, frame.tag_end):
            return old, others
    return 0, ()


def names(data: bytes, core: int, start: int = 0) -> bool:
    """Tell whether a core namespace is named from a position on; maybe only in a text."""
    return data.find(CORE[core], start) >= 0


def translated(frame: Frame, old: int) -> Frame:
    """Give the stanza in the other core namespace than `old`."""
    data = translate(frame, CORE[old], CORE[1 - old])
    if data.startswith(frame.data[: frame.tag_end]):
        return frame.with_data(data)
    # Written from a tree: the position of the address has changed.
    return Frame(data)


def translate(frame: Frame, old: bytes, new: bytes) -> bytes:
    """Change the core namespace of the stanza's own MIX elements.

    Only declarations change, never texts or other attributes. A forwarded stanza inside is not
    changed.
    """
    data = frame.data
    # A prefix that the stanza itself declares is not its own, but of what is inside.
    if FORWARDED in data or _CDATA in data or data.find(old, 0, frame.tag_end) >= 0:
        return in_other_namespace(data, old, new)
    usual = translate_usual(data, old, new)
    if usual is not None:
        return usual
    pieces: list[bytes] = []
    done = 0
    # Tag by tag, once through: it may be a stranger's, made to be searched for long.
    for tag in START_TAG.finditer(data, frame.tag_end):
        if old not in tag[2]:
            continue
        for found in ATTRIBUTE.finditer(data, tag.start(2), tag.end(2)):
            group = 2 if found[2] is not None else 3
            if found[group] == old and (found[1] == b"xmlns" or found[1].startswith(b"xmlns:")):
                pieces += [data[done : found.start(group)], new]
                done = found.end(group)
    return b"".join([*pieces, data[done:]])


def translate_usual(data: bytes, old: bytes, new: bytes) -> bytes | None:
    """Do the same where it is declared once, by `<mix/>`, as channels do; None if not so.

    There must be neither CDATA nor a forwarded stanza.
    """
    declared = b"<mix xmlns='%b'" % old
    if data.count(old) != 1 or data.find(declared) < 0:
        return None
    return data.replace(declared, b"<mix xmlns='%b'" % new)
