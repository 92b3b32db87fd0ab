"""Which kill points there are, and how a seed chooses among them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kills.steps import MOMENTS

DEEDS: Final = ("join", "leave", "kick", "roster-remove", "account-delete", "presence", "fan-out")
BLOWS: Final = ("component",) * 4 + ("link",) * 3 + ("redis",) * 2 + ("server",)
"""What is struck, as often as it is named: a server takes longest to come back."""


class NoSuchPointError(ValueError):
    """The text names no kill point."""


@dataclass(frozen=True)
class Point:
    """While somebody does `deed`, `blow` falls at step number `step`."""

    deed: str
    blow: str
    step: int
    moment: str

    def __str__(self) -> str:
        """Write the point as `parse` reads it."""
        return f"{self.deed}:{self.blow}:{self.step}:{self.moment}"


def parse(text: str) -> Point:
    """Read a point. Raises NoSuchPointError with what would be one."""
    deed, _, rest = text.partition(":")
    blow, _, rest = rest.partition(":")
    step, _, moment = rest.partition(":")
    if deed not in DEEDS or blow not in BLOWS or moment not in MOMENTS or not step.isdigit():
        raise NoSuchPointError(
            f"no kill point: {text!r}. One is DEED:BLOW:STEP:MOMENT, such as join:component:7:torn;"
            f" deeds: {', '.join(DEEDS)}; blows: {', '.join(dict.fromkeys(BLOWS))};"
            f" moments: {', '.join(MOMENTS)}"
        )
    return Point(deed, blow, int(step), moment)


def choose(seed: int, count: int, lengths: dict[str, int]) -> Iterator[Point]:
    """Give `count` points; `lengths` says how many steps each deed took undisturbed.

    Deeds and blows are dealt out like cards, so that few points, too, have all of them.
    """
    rng = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    deeds, blows = _dealt(rng, DEEDS), _dealt(rng, BLOWS)
    for _ in range(count):
        deed, blow = next(deeds), next(blows)
        yield Point(deed, blow, rng.randint(0, lengths[deed]), rng.choice(MOMENTS))


def _dealt(rng: random.Random, cards: tuple[str, ...]) -> Iterator[str]:
    while True:
        yield from rng.sample(cards, len(cards))
