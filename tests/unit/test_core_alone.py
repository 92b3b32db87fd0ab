"""Two cores in one process share nothing: what a core knows goes with it.

Of this kind are tables that modules keep (channels, terms, states, devices), memos, and stand-ins
that somebody might write to. Constants are shared: mappings that the types keep from being
written. So are the memos of `schemas` and `wire`, which have a bound each and hold what bytes
mean; whether a value was in one can be told by time alone.
"""

import gc
import importlib
import pkgutil
from collections import Counter
from collections.abc import (
    Callable,
    Iterator,
    MutableMapping,
    MutableSequence,
    MutableSet,
)
from enum import Enum
from functools import _lru_cache_wrapper
from inspect import get_annotations
from types import FunctionType, ModuleType

import pytest
from driver import ANNA, BEN, COVEN, LAPTOP, PHONE, Play
from scenes import in_the_coven

import component.core
import component.wire
import schemas
from component.core.users.activity import Activity
from component.core.users.packed import Shared

CAN_CHANGE = (MutableMapping, MutableSequence, MutableSet, Iterator)


def modules(package: ModuleType) -> list[ModuleType]:
    """Give a package and all modules in it."""
    walk = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [package, *(importlib.import_module(each.name) for each in walk)]


CORE = [*modules(component.core), *modules(component.wire)]
CORE_NAMES = {each.__name__ for each in modules(component.core)}
ALL = [*CORE, *modules(schemas)]

CONSTANT = {
    id(vars(module)[name])
    for module in ALL
    for name, annotation in get_annotations(module).items()
    if annotation.startswith("Mapping[")
}
"""Mappings that the types keep from being written, wherever they are imported."""


def is_of_the_core(kind: type) -> bool:
    """Tell whether a class is defined in the core."""
    return str(kind.__module__).startswith(("component.core", "component.wire"))


def changeable(module: ModuleType) -> Iterator[str]:
    """Name the values of a module that somebody could change."""
    for name, value in vars(module).items():
        if name.startswith("__") or id(value) in CONSTANT:
            continue
        ours = is_of_the_core(type(value)) and not isinstance(value, tuple | Enum)
        memo = isinstance(value, _lru_cache_wrapper) and module.__name__ in CORE_NAMES
        if isinstance(value, CAN_CHANGE) or ours or memo:
            yield f"{module.__name__}.{name}"


@pytest.mark.parametrize("module", ALL, ids=lambda each: each.__name__)
def test_a_module_keeps_nothing_that_can_change(module: ModuleType) -> None:
    assert not list(changeable(module))


MAKERS: dict[str, Callable[[], object]] = {
    "dict": dict, "list": list, "set": set, "Counter": Counter, "Shared": Shared,
    "Activity": Activity, "iterator": lambda: iter([1]),
}  # fmt: skip


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_what_can_change_is_found(make: Callable[[], object]) -> None:
    module = ModuleType("component.core")
    vars(module)["_known"] = make()
    assert list(changeable(module)) == ["component.core._known"]


def alive() -> Counter[str]:
    """Count the objects of the core's classes."""
    gc.collect()
    kinds = [type(each) for each in gc.get_objects()]
    return Counter(kind.__qualname__ for kind in kinds if is_of_the_core(kind))


def reached() -> list[bytes]:
    """Give all text that the core's modules lead to, without that in code."""
    todo: list[object] = [vars(each) for each in CORE]
    seen, found = set[int](), list[bytes]()
    while todo:
        each = todo.pop()
        foreign = isinstance(each, type) and not is_of_the_core(each)
        if id(each) in seen or foreign or isinstance(each, ModuleType | FunctionType):
            continue
        seen.add(id(each))
        if isinstance(each, str | bytes):
            found.append(each.encode() if isinstance(each, str) else each)
        todo += gc.get_referents(each)
    return found


def test_a_core_leaves_nothing_behind() -> None:
    before = alive()
    play = Play()
    in_the_coven(play, PHONE, LAPTOP)
    play.says(f"<presence from='1#{COVEN}/x' to='{ANNA}'><status>here</status></presence>")
    assert alive() - before
    assert not [each for each in reached() if COVEN.encode() in each or b"phone" in each]
    del play
    assert not alive() - before


def test_two_cores_do_not_know_of_one_another() -> None:
    one, other = Play(), Play()
    in_the_coven(one, PHONE)
    in_the_coven(other, PHONE, LAPTOP)
    assert one.members() == other.members() == {COVEN: "123"}
    assert not one.members(BEN)
    tables = [
        [each.mirror.common.channels, each.mirror.common.states, each.mirror.services]
        for each in (one.core, other.core)
    ]
    assert all(mine is not theirs for mine, theirs in zip(*tables, strict=True))
    one.link_is_cut()
    one.core.start_over()
    assert [len(each) for each in tables[0]] == [0, 0, 0]
    assert other.members() == {COVEN: "123"}
    to_anna = f"from='{COVEN}/1' to='{ANNA}'"
    message = f"<message type='groupchat' {to_anna} id='1'><body>x</body></message>"
    one.says(message)
    assert b"service-unavailable" in one.hears_all()[0]
    other.says(message)
    assert len(other.hears_all()) == 2
