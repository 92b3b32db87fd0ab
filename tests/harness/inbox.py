"""The stanzas that a peer has received, in order, with ways to wait for them."""

import asyncio
from collections.abc import Callable

from harness.stanza import Stanza

Matcher = Callable[[Stanza], bool]
SHOWN = 25


class Inbox:
    """Keep every stanza; hand out each at most once to `expect`."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.all: list[Stanza] = []
        self._open: list[Stanza] = []
        self._changed = asyncio.Event()
        self.closed: str | None = None

    def put(self, stanza: Stanza) -> None:
        """Add a stanza that has just arrived."""
        self.all.append(stanza)
        self._open.append(stanza)
        self._changed.set()

    def close(self, reason: str) -> None:
        """Note that nothing will follow."""
        self.closed = reason
        self._changed.set()

    def clear(self) -> None:
        """Forget everything received so far."""
        self.all.clear()
        self._open.clear()

    async def expect(self, matcher: Matcher, within: float = 5.0) -> Stanza:
        """Return the first stanza that matches and was not yet expected.

        Raises AssertionError after `within` seconds, listing the stanzas that came instead.
        """
        try:
            async with asyncio.timeout(within):
                while True:
                    self._changed.clear()
                    for position, stanza in enumerate(self._open):
                        if matcher(stanza):
                            return self._open.pop(position)
                    if self.closed is not None:
                        break
                    await self._changed.wait()
        except TimeoutError:
            pass
        why = self.closed or f"not in {within} s"
        raise AssertionError(f"{self.owner} expected {matcher}: {why}; got\n{self.transcript()}")

    def matching(self, matcher: Matcher) -> list[Stanza]:
        """Return everything ever received that matches, expected or not, in order."""
        return [stanza for stanza in self.all if matcher(stanza)]

    def count(self, matcher: Matcher) -> int:
        """Return how many stanzas ever received match."""
        return len(self.matching(matcher))

    def none(self, matcher: Matcher) -> None:
        """Assert that nothing received matches. Ask for a fence first."""
        assert not self.count(matcher), (
            f"{self.owner} should not have got {matcher}; got\n{self.transcript()}"
        )

    def position(self, matcher: Matcher) -> int:
        """Return the place of the first match in the order of arrival."""
        for place, stanza in enumerate(self.all):
            if matcher(stanza):
                return place
        raise AssertionError(f"{self.owner} never got {matcher}; got\n{self.transcript()}")

    def transcript(self) -> str:
        """Return the last stanzas received, one a line."""
        return "\n".join(f"    {stanza.raw[:600]}" for stanza in self.all[-SHOWN:]) or "    nothing"
