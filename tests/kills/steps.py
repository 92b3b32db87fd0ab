"""Counts the steps on all wires, and injects a fault at one of them.

A step is one stanza on the component's link, one command or answer of Redis, or one stanza that the
channel service or a device sends or receives, in order of arrival.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

BEFORE: Final = "before"
AFTER: Final = "after"
TORN: Final = "torn"
MOMENTS: Final = (BEFORE, AFTER, TORN)
"""The fault is injected when the stanza or command has not arrived, has arrived, or has half
arrived."""

SHOWN: Final = 110

OUR_OWN: Final = (b"urn:xmpp:ping", b"fence-", b"PING\r\n", b"PONG\r\n")
"""Marks of the tests' own pings, and of keepalives, which are no steps."""

Forward = Callable[[bytes], None]


@dataclass
class _Trap:
    number: int
    moment: str
    inject: Callable[[], None]


class Steps:
    """The steps of one action, in their order; `trace` lists them."""

    def __init__(self) -> None:
        self.trace: list[str] = []
        self.injected_at: int | None = None
        self._trap: _Trap | None = None
        self._counting = False

    def begin(self) -> None:
        """Count from now on."""
        self.trace = []
        self.injected_at = None
        self._counting = True

    def inject_at(self, number: int, moment: str, inject: Callable[[], None]) -> None:
        """Count from now on, and call `inject` at step `number`; 0 is before all steps."""
        self.begin()
        self._trap = _Trap(number, moment, inject)
        if number == 0:
            self._spring(lambda _: None, b"")

    def end(self) -> None:
        """Stop counting. A fault that is still pending is injected now: after the last step."""
        if self._trap is not None:
            self._spring(lambda _: None, b"")
        self._counting = False

    def note(self, wire: str, text: str) -> None:
        """Count something that cannot be held back or torn."""
        self.carry(wire, text.encode(), lambda _: None)

    def carry(self, wire: str, unit: bytes, forward: Forward) -> None:
        """Count `unit` and forward it; inject the fault if its step has come."""
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
        self.injected_at = len(self.trace)
        arrived = {BEFORE: 0, AFTER: len(unit), TORN: len(unit) // 2}[trap.moment]
        if arrived:
            forward(unit[:arrived])
        trap.inject()
        # If the receiving end is dead by now, this does nothing.
        if arrived < len(unit):
            forward(unit[arrived:])
