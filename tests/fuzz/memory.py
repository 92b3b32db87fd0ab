"""Divides the memory of the fuzzing process into Python's share and libFuzzer's.

libFuzzer keeps inputs, features and tables of its own in the same process, and texts of 400 kB that
are allocated and freed leave holes: the size of the process says little about the component's
memory. So Python's allocated blocks are counted while fuzzing, and the used part and the holes of
the C library's heap are recorded beside them. Large objects are not among these blocks, and
counting each byte makes fuzzing five times as slow: so new inputs are tried in a separate process,
without libFuzzer, while each byte that Python allocates is counted (`fresh`).

Before each look everything that is bounded by number is emptied: the rest must not grow at all.
"""

import ctypes
import functools
import gc
import json
import random
import re
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

EVERY = 5.0
"""Seconds between two looks."""
WARM = 0.25
"""Part of the looks that is skipped: by then everything that is made only once exists."""

LOOKS = 20
"""How often `fresh` looks."""
ENOUGH = 4
"""Looks needed to detect growth."""
BYTES_EACH = 5.0
"""Mean bytes that may remain of an input: no Python object is as small."""
BLOCKS_EACH = 0.1
"""Mean blocks that may remain of an input."""
SPARE_BYTES = 20_000
SPARE_BLOCKS = 300
"""Allowance for objects made only once, at any time: an imported module, a pattern, a list of
looks."""
_MOST_CHANGES = 4
_LONGEST_CHANGE = 30

Check = Callable[[bytes], None]


def settle() -> None:
    """Empty everything that is bounded by number, and collect reference cycles."""
    re.purge()
    gc.unfreeze()  # a component that was ready may have frozen caches, too
    for cache in [each for each in gc.get_objects() if _is_cache(each)]:
        if cache.cache_parameters()["maxsize"] is not None:
            cache.cache_clear()
    gc.collect()


def _is_cache(thing: object) -> bool:
    # By its own type: other objects may lie about their class.
    return type(thing) is functools._lru_cache_wrapper


class _Heap(ctypes.Structure):
    """glibc's statistics of its heap (`mallinfo2`)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def _heap() -> dict[str, int]:
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:  # no glibc, or an old one
        return {}
    mallinfo2.restype = _Heap
    told = mallinfo2()
    return {"used": told.uordblks + told.hblkhd, "free": told.fordblks}


def watched(check: Check, log: Path) -> Check:
    """Return `check`, which records the process's memory every few seconds."""
    began = last = time.monotonic()
    tried = 0
    log.unlink(missing_ok=True)

    def check_and_look(data: bytes) -> None:
        nonlocal last, tried
        check(data)
        tried += 1
        if time.monotonic() - last >= EVERY:
            settle()
            look = {"seconds": round(time.monotonic() - began), "tried": tried}
            look |= {"blocks": sys.getallocatedblocks(), **_heap()}
            with log.open("a", encoding="ascii") as out:
                print(json.dumps(look), file=out)
            last = time.monotonic()

    return check_and_look


def grown(looks: list[dict[str, int]]) -> str:
    """Describe the growth from the first look to the last, "" if there is none.

    The lists of looks themselves take far less than the limit: one object that remains of each
    input exceeds it.
    """
    if len(looks) < ENOUGH:
        return ""
    first, last = looks[0], looks[-1]
    tried = last["tried"] - first["tried"]
    for kind, each, spare in (
        ("bytes", BYTES_EACH, SPARE_BYTES),
        ("blocks", BLOCKS_EACH, SPARE_BLOCKS),
    ):
        more = last.get(kind, 0) - first.get(kind, 0)
        if more > spare + each * tried:
            return f"{kind} grew by {more:,} in {tried:,} inputs: {first} to {last}"
    return ""


def looks(log: Path) -> list[dict[str, int]]:
    """Return the looks that `watched` recorded, without the first ones."""
    lines = log.read_text(encoding="ascii").splitlines() if log.exists() else []
    found: list[dict[str, int]] = [json.loads(line) for line in lines]
    return found[int(len(found) * WARM) :]


def fresh(check: Check, kept: list[bytes], seconds: float) -> list[dict[str, int]]:
    """Try new inputs, and return the bytes and blocks that Python held meanwhile."""
    chance = random.Random(time.time_ns())  # noqa: S311 - no secret
    tracemalloc.start()
    found, tried = [], 0
    for _ in range(LOOKS):
        began = time.monotonic()
        while time.monotonic() - began < seconds / LOOKS:
            check(_changed(chance, kept))
            tried += 1
        settle()
        held, _ = tracemalloc.get_traced_memory()
        found.append({"tried": tried, "bytes": held, "blocks": sys.getallocatedblocks()})
    tracemalloc.stop()
    return found[int(len(found) * WARM) :]


def _changed(chance: random.Random, kept: list[bytes]) -> bytes:
    """Take a kept input and insert parts of another into it a few times, or random bytes."""
    data = chance.choice(kept)
    for _ in range(chance.randint(1, _MOST_CHANGES)):
        at, size = chance.randint(0, len(data)), chance.randint(0, _LONGEST_CHANGE)
        other = chance.choice(kept)
        there = chance.randint(0, len(other))
        new = chance.choice(
            [other[there : there + size], chance.randbytes(size % 5), data[at : at + size] * 2]
        )
        data = data[:at] + new + data[at + chance.choice([0, len(new), size]) :]
    return data
