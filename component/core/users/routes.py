"""Lines: the cached routing entry of each user, for the hot lane.

With many users, the time of a look-up is that of fetching each object from memory. So there is
one bytes object for each user:

    kind and number, codes of the channels (component.core.users.packed), newline, targets

Targets are full JIDs, escaped for an attribute, separated by newlines. The first byte has their
number and the core namespaces that all of them understand. If they differ, or are more than
nine, it is MIXED, and each target begins with a kind of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from component.core.users.packed import OFF

Lines = dict[bytes, bytes]
"""User (bare JID) -> line. A change of the row removes its line."""

MOST = 32_768
"""Users whose lines are cached: those with recent traffic."""

EITHER, ONLY_0, ONLY_1, MIXED = 0x00, 0x10, 0x20, 0x30
"""Kinds: both core namespaces, just the one, just the other, or each target its own."""

NUMBER = 0x0F
"""The bits of the first byte that have the number of targets, but for MIXED."""

NOT_UNDERSTOOD: Mapping[int, int] = {ONLY_0: 1, ONLY_1: 0}
"""Kind -> the core namespace that it does not understand."""

_LARGEST = 9
"""Ten would be a newline."""


def line(codes: bytes, targets: list[tuple[int, bytes]]) -> bytes:
    """Write a line of the channels' codes, and of targets with the kind of each."""
    kinds = {kind for kind, _ in targets}
    if len(kinds) > 1 or len(targets) > _LARGEST:
        first, listed = MIXED, [b"%c%b" % target for target in targets]
    else:
        first, listed = sum(kinds) + len(targets), [target for _, target in targets]
    return b"%c%b%b%b" % (first, codes, OFF, OFF.join(listed))


def targets_of(line: bytes) -> list[tuple[int, bytes]]:
    """Give the targets of a line, with the kind of each."""
    first, targets = line[0], line[line.find(OFF) + 1 :]
    if not first:
        return []
    kind = first & ~NUMBER
    if kind != MIXED:
        return [(kind, target) for target in targets.split(OFF)]
    return [(target[0], target[1:]) for target in targets.split(OFF)]


def keep(lines: Lines, user: bytes, made: bytes) -> bytes:
    """Keep a user's line, and give it."""
    if len(lines) >= MOST:
        lines.clear()
    lines[user] = made
    return made
