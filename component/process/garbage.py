"""Python's garbage collector, kept off what has come to stay.

A full collection walks every row of every user, and everybody waits for it
the longer, the more have come since the start. What is left of users is freed without it, for
nothing that the core makes refers to itself (a test sees to that). So what a full
collection leaves is never walked again: each walks what is new since the last one.
"""

from __future__ import annotations

import gc


def begin() -> None:
    """Let each full collection of this process be the last for what it leaves."""
    if _freeze not in gc.callbacks:
        gc.callbacks.append(_freeze)


def settle() -> None:
    """Collect all now, a good moment to wait for it."""
    gc.collect()
    gc.freeze()


def _freeze(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == 2:  # noqa: PLR2004 - the full one
        gc.freeze()
