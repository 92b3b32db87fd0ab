"""Counts what goes over the wires, and strikes at one step of it.

A step is one stanza on the component's link, one command or answer of Redis, or one stanza
that the channel service or a device sends or gets: whatever came first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

BEFORE: Final = "before"
AFTER: Final = "after"
TORN: Final = "torn"
MOMENTS: Final = (BEFORE, AFTER, TORN)
"""The blow falls when the thing has not arrived, when it has, or when half of it has."""

SHOWN: Final = 110

OUR_OWN: Final = (b"urn:xmpp:ping", b"fence-", b"PING\r\n", b"PONG\r\n")
"""What the tests' own waiting, and keepalives, put on the wires: no steps."""

Forward = Callable[[bytes], None]


@dataclass
class _Trap:
    number: int
    moment: str
    strike: Callable[[], None]


class Steps:
    """The steps of one deed, in the order in which they happened; `trace` shows them."""

    def __init__(self) -> None:
        self.trace: list[str] = []
        self.struck_at: int | None = None
        self._trap: _Trap | None = None
        self._counting = False

    def begin(self) -> None:
        """Count from now on."""
        self.trace = []
        self.struck_at = None
        self._counting = True

    def strike_at(self, number: int, moment: str, strike: Callable[[], None]) -> None:
        """Count from now on, and `strike` at step `number`; 0 is before all else."""
        self.begin()
        self._trap = _Trap(number, moment, strike)
        if number == 0:
            self._spring(lambda _: None, b"")

    def end(self) -> None:
        """Stop counting. A trap that nothing has sprung springs now: after the last step."""
        if self._trap is not None:
            self._spring(lambda _: None, b"")
        self._counting = False

    def note(self, wire: str, text: str) -> None:
        """Count something that cannot be held up or torn."""
        self.carry(wire, text.encode(), lambda _: None)

    def carry(self, wire: str, unit: bytes, forward: Forward) -> None:
        """Count `unit` and have it forwarded; the blow falls if its step has come."""
        if not self._counting or any(mark in unit for mark in OUR_OWN):
            forward(unit)
            return
        shown = " ".join(unit[:SHOWN].decode("utf-8", "replace").split())
        self.trace.append(f"{wire} {shown}")
        if self._trap is None or len(self.trace) != self._trap.number:
            forward(unit)
            return
        self._spring(forward, unit)

    def _spring(self, forward: Forward, unit: bytes) -> None:
        trap, self._trap = self._trap, None
        assert trap is not None
        self.struck_at = len(self.trace)
        arrived = {BEFORE: 0, AFTER: len(unit), TORN: len(unit) // 2}[trap.moment]
        if arrived:
            forward(unit[:arrived])
        trap.strike()
        # To an end that is dead by now this does nothing.
        if arrived < len(unit):
            forward(unit[arrived:])
