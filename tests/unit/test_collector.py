"""The garbage collector finds nothing: what the core makes does not refer to itself.

`component.process.garbage` relies on it.
"""

import contextlib
import gc
from collections.abc import Iterator

import pytest
from driver import PHONE, Play
from scenes import (
    asked_to_leave,
    asks_to_join,
    channel_answers,
    error,
    granted,
    in_the_coven,
    refused,
    roster_is_set,
    tap_is_up,
)

from component.process import garbage
from component.wire.framing import Framer, FramingError


@pytest.fixture
def play() -> Play:
    return Play()


@pytest.fixture(autouse=True)
def _by_hand() -> Iterator[None]:
    """Keep the collector from running by itself, and what it finds."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def found() -> set[str]:
    """Name the classes of ours that only the collector can free."""
    gc.collect()
    found = {type(each) for each in gc.garbage}
    gc.garbage.clear()
    return {each.__name__ for each in found if each.__module__.startswith(("component", "schemas"))}


def test_of_a_join_with_devices_nothing_is_left_to_collect(play: Play) -> None:
    in_the_coven(play, PHONE)
    assert found() == set()


def test_of_a_join_that_the_channel_refuses(play: Play) -> None:
    tap_is_up(play)
    asks_to_join(play)
    play.says(channel_answers(error("not-allowed"), type_="error"))
    play.hears(refused("not-allowed", "cancel"))
    assert found() == set()


def test_of_a_join_that_the_roster_refuses_and_that_is_undone(play: Play) -> None:
    tap_is_up(play)
    asks_to_join(play)
    play.says(channel_answers(granted()))
    roster_is_set(play, answer=error("resource-constraint", "wait"))
    play.hears(refused("resource-constraint", "wait"))
    leaving = asked_to_leave(play)
    play.says(channel_answers("", id_=leaving))
    assert found() == set()


def test_what_a_full_collection_leaves_is_not_walked_again() -> None:
    before = gc.get_freeze_count()
    garbage.begin()
    garbage.begin()
    try:
        mine = [[] for _ in range(1_000)]
        gc.collect(1)
        assert gc.get_freeze_count() == before
        gc.collect()
        assert gc.get_freeze_count() >= before + len(mine)
        assert len([each for each in gc.callbacks if each.__module__ == garbage.__name__]) == 1
    finally:
        gc.callbacks[:] = [each for each in gc.callbacks if each.__module__ != garbage.__name__]
        gc.unfreeze()


@pytest.mark.parametrize("end", ["</m>", "</n>", "<m", "<!-- -->"])
@pytest.mark.parametrize("limit", [10, 10_000])
def test_of_a_stanza_in_pieces_whether_it_ends_or_not(limit: int, end: str) -> None:
    """What is as large as a stanza may be must not wait for a collector that seldom comes."""
    text = f"<m a='1' to='b@c'><x xmlns='u'>{'y' * 500}<![CDATA[z]]></x>{end}<a/>".encode()

    def take() -> None:
        framer = Framer(limit, lambda _: None)
        for at in range(0, len(text), 7):
            list(framer.feed(text[at : at + 7]))

    for _ in range(3):
        with contextlib.suppress(FramingError):
            take()
    assert found() == set()
