"""Marks: by which a process knows Redis for the one it wrote to last.

Every transaction leaves a mark, which is higher than all before, and reads the one that
was there. A lower one than expected, or none: what was written is not there any more.
Redis was flushed, or restarted empty or from an old copy, or a replica took over that
missed the last of it. A higher one of another process: that one has served since.

Beside it stands whose the records are: the component's JID. Nobody writes below another's
(`component.store.ownership`); a mark of an earlier version has no owner yet.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

FIELD = "written"
"""The field of the mark's hash that has the mark."""

OWNER = "component"
"""The field that has the JID of the component whose records these are."""


class Mark(NamedTuple):
    """The number of a process, in the order in which they took over, and of its writing."""

    process: int
    number: int

    @classmethod
    def read(cls, fields: dict[str, str]) -> Mark:
        """Read what the hash has; nothing, or what is no mark, is the lowest there is."""
        return cls.parse(fields.get(FIELD, ""))

    @classmethod
    def parse(cls, text: str) -> Mark:
        """Read one as `str` writes it; what is no mark is the lowest there is."""
        process, _, number = text.partition(":")
        if process.isdecimal() and number.isdecimal():
            return cls(int(process), int(number))
        return NOTHING

    def __str__(self) -> str:
        return f"{self.process}:{self.number}"


NOTHING = Mark(0, 0)


class Marks:
    """The marks of this process, and the highest that is known to be in Redis."""

    def __init__(self) -> None:
        self._known = self._last = NOTHING

    def begin(self, found: Mark) -> None:
        """Begin anew behind the mark that was found when everything was read."""
        self._known, self._last = found, Mark(found.process + 1, 0)

    def next(self) -> Mark:
        """Make the next mark."""
        self._last = Mark(self._last.process, self._last.number + 1)
        return self._last

    @property
    def known(self) -> Mark:
        """The highest mark that is known to have been in Redis."""
        return self._known

    def written(self) -> None:
        """Note that the last mark has arrived."""
        self._known = self._last

    def judge(self, found: Mark) -> Literal["ours", "lost", "superseded"]:
        """Tell what a mark that was found says about all that was written."""
        if found.process > self._last.process:
            return "superseded"
        return "lost" if found < self._known else "ours"
