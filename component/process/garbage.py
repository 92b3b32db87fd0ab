"""Keeps Python's garbage collector away from long-lived objects.

A full collection walks every row of every user and blocks the event loop, the longer the more users
there are. Users' rows are freed without it, because the core makes no reference cycles
(tests/unit/test_collector.py). So everything that survives a full collection is frozen: the next
one walks only newer objects.
"""

from __future__ import annotations

import gc


def begin() -> None:
    """Freeze the survivors of each full collection of this process."""
    if _freeze not in gc.callbacks:
        gc.callbacks.append(_freeze)


def settle() -> None:
    """Run a full collection now, when the pause does no harm."""
    gc.collect()
    gc.freeze()


def _freeze(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == 2:  # noqa: PLR2004 - the full one
        gc.freeze()
