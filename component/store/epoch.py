"""Epochs: fencing tokens by which a process recognizes the Redis it last wrote to.

An epoch is the number of a process and the number of its write. Each transaction reads the
epoch that Redis has and leaves a higher one. A lower one than expected, or none, means that
writes were lost: Redis was flushed, was restarted empty or from an old copy, or failed over to
a replica that missed them. A higher one of another process means that it has served since.

The JID of the component whose records these are stands in the same hash, the key `mark`.
No process writes to records of another owner (`component.store.ownership`); an epoch of an earlier
version has no owner yet.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

FIELD = "written"
"""The hash field of the epoch, and that of an entry in the stream of changes."""

OWNER = "component"
"""The hash field of the owner: the JID of the component whose records these are."""


class Epoch(NamedTuple):
    """The number of a process, in order of takeover, and the number of its write."""

    process: int
    number: int

    @classmethod
    def read(cls, fields: dict[str, str]) -> Epoch:
        """Read the epoch of a hash or entry; `NO_EPOCH` if it has none."""
        return cls.parse(fields.get(FIELD, ""))

    @classmethod
    def parse(cls, text: str) -> Epoch:
        """Parse `process:number`; `NO_EPOCH` for anything else."""
        process, _, number = text.partition(":")
        if process.isdecimal() and number.isdecimal():
            return cls(int(process), int(number))
        return NO_EPOCH

    def __str__(self) -> str:
        return f"{self.process}:{self.number}"


NO_EPOCH = Epoch(0, 0)
"""Lower than any epoch that is written."""


class Fence:
    """The epochs of this process, and the highest one known to be in Redis."""

    def __init__(self) -> None:
        self._known = self._last = NO_EPOCH

    def begin(self, found: Epoch) -> None:
        """Begin a new process number, one higher than that of the epoch found in Redis."""
        self._known, self._last = found, Epoch(found.process + 1, 0)

    def next(self) -> Epoch:
        """Make the epoch of the next write."""
        self._last = Epoch(self._last.process, self._last.number + 1)
        return self._last

    @property
    def known(self) -> Epoch:
        """The highest epoch known to have been in Redis."""
        return self._known

    def written(self) -> None:
        """Note that Redis has the last epoch made."""
        self._known = self._last

    def compare(self, found: Epoch) -> Literal["ours", "lost", "superseded"]:
        """Compare an epoch found in Redis with the epochs that this process has written.

        The epoch of a write whose outcome is unknown may be there or not: both are "ours".
        """
        if found.process > self._last.process:
            return "superseded"
        return "lost" if found < self._known else "ours"
