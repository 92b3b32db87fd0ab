"""The kill points, and how a seed chooses among them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kills.steps import MOMENTS

ACTIONS: Final = ("join", "leave", "kick", "roster-remove", "account-delete", "presence", "fan-out")
FAULTS: Final = ("component",) * 4 + ("link",) * 3 + ("redis",) * 2 + ("server",)
"""The faults, each repeated by its frequency: a server takes longest to come back."""


class NoSuchPointError(ValueError):
    """The text names no kill point."""


@dataclass(frozen=True)
class Point:
    """A kill point: during `action`, `fault` is injected at step number `step`."""

    action: str
    fault: str
    step: int
    moment: str

    def __str__(self) -> str:
        """Write the point as `parse` reads it."""
        return f"{self.action}:{self.fault}:{self.step}:{self.moment}"


def parse(text: str) -> Point:
    """Read a point. Raises NoSuchPointError, with a valid example."""
    action, _, rest = text.partition(":")
    fault, _, rest = rest.partition(":")
    step, _, moment = rest.partition(":")
    if action not in ACTIONS or fault not in FAULTS or moment not in MOMENTS or not step.isdigit():
        raise NoSuchPointError(
            f"no kill point: {text!r}. One is ACTION:FAULT:STEP:MOMENT, such as"
            f" join:component:7:torn; actions: {', '.join(ACTIONS)};"
            f" faults: {', '.join(dict.fromkeys(FAULTS))}; moments: {', '.join(MOMENTS)}"
        )
    return Point(action, fault, int(step), moment)


def choose(seed: int, count: int, lengths: dict[str, int]) -> Iterator[Point]:
    """Give `count` points; `lengths` has the number of steps of each action, undisturbed.

    Actions and faults are dealt out like cards, so that even a few points have all of them.
    """
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    actions, faults = _dealt(rng, ACTIONS), _dealt(rng, FAULTS)
    for _ in range(count):
        action, fault = next(actions), next(faults)
        yield Point(action, fault, rng.randint(0, lengths[action]), rng.choice(MOMENTS))


def _dealt(rng: random.Random, cards: tuple[str, ...]) -> Iterator[str]:
    while True:
        yield from rng.sample(cards, len(cards))
