"""Growth of what is fuzzed is found, whichever way it grows; what only fills is none.

The kind: something of an input stays, of small objects or of a single large one, seen while
libFuzzer runs (`watched`) or where each byte is counted (`fresh`). Each leak is planted here
once, and so is what is none: a cache with a bound, and objects that only refer to themselves.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

import pytest
from fuzz import engine, memory

from component.process import garbage

INPUTS = [bytes([number]) * 40 for number in range(50)]
kept: list[object] = []


def small(data: bytes) -> None:
    """Keep a few small objects."""
    kept.append({data[:4]: str(data)})


def large(data: bytes) -> None:
    """Keep one object that is no block of Python's own."""
    kept.append(data * 100)


def seldom(data: bytes) -> None:
    """Keep something of one input in ten."""
    if data and data[-1] % 10 == 0:
        kept.append(data * 100)


@cache
def _for_ever(data: bytes) -> bytes:
    return data * 2


@lru_cache(maxsize=1_000)
def _bounded(data: bytes) -> bytes:
    return data * 2


def unbounded_cache(data: bytes) -> None:
    """Remember every input."""
    _for_ever(data)


def bounded_cache(data: bytes) -> None:
    """Remember the last thousand inputs."""
    _bounded(data)


def ring(data: bytes) -> None:
    """Leave what only refers to itself."""
    itself: list[object] = [data * 2]
    itself.append(itself)


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LOOKS", 2 * memory.ENOUGH)
    kept.clear()
    _for_ever.cache_clear()


@pytest.mark.parametrize("leak", [small, large, seldom, unbounded_cache])
def test_what_stays_of_new_inputs_is_found(leak: Callable[[bytes], None]) -> None:
    assert memory.grown(memory.fresh(leak, INPUTS, 0.4))


@pytest.mark.parametrize("harmless", [bounded_cache, ring, len])
def test_what_only_fills_is_no_growth(harmless: Callable[[bytes], None]) -> None:
    assert not memory.grown(memory.fresh(harmless, INPUTS, 0.4))


@pytest.mark.parametrize(("tried", "grows"), [(small, True), (bounded_cache, False)])
def test_small_objects_are_seen_while_it_fuzzes(
    tried: Callable[[bytes], None],
    grows: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "EVERY", 0.05)
    log = tmp_path / "memory"
    check = memory.watched(tried, log)
    number = 0
    while len(memory.looks(log)) < memory.ENOUGH:
        number += 1
        check(number.to_bytes(4))
    assert bool(memory.grown(memory.looks(log))) is grows


def test_a_cache_is_emptied_though_the_collector_has_been_kept_off_it() -> None:
    garbage.settle()
    _bounded(b"frozen")
    memory.settle()
    assert _bounded.cache_info().currsize == 0


def test_an_input_without_an_end_is_told_by_the_processors_time() -> None:
    def for_ever(_: bytes) -> None:
        while True:
            pass

    with pytest.raises(AssertionError, match="no end"):
        engine.in_time(for_ever, 0.1)(b"")
