"""What a mark found in Redis says about all that was written to it."""

import pytest

from component.store.epoch import NO_EPOCH, Epoch, Fence


@pytest.mark.parametrize("text", ["", "7", "7:", "x:1", "-1:2", "7:1:2"])
def test_what_is_no_mark_is_the_lowest(text: str) -> None:
    assert Epoch.read({"written": text}) == NO_EPOCH
    assert Epoch.read({}) == NO_EPOCH


def test_a_mark_is_read_as_it_was_written() -> None:
    assert Epoch.read({"written": str(Epoch(7, 1523))}) == Epoch(7, 1523)


def test_marks_rise_over_all_that_were_there() -> None:
    fence = Fence()
    fence.begin(Epoch(4, 99))
    assert Epoch(4, 99) < fence.next() < fence.next() < Epoch(6, 0)


@pytest.mark.abuse(22)
def test_what_is_missing_was_lost() -> None:
    fence = Fence()
    assert fence.compare(NO_EPOCH) == "ours"  # a new Redis has nothing to lose
    fence.begin(Epoch(4, 99))
    assert fence.compare(Epoch(4, 99)) == "ours"
    assert fence.compare(Epoch(4, 98)) == "lost"
    first, second = fence.next(), fence.next()
    # Whether a write that failed was done is not known; either is right.
    for found in (Epoch(4, 99), first, second):
        assert fence.compare(found) == "ours"
    fence.written()
    assert fence.compare(second) == "ours"
    assert fence.compare(first) == "lost"
    assert fence.compare(NO_EPOCH) == "lost"


@pytest.mark.abuse(23)
def test_a_process_that_came_later_is_known() -> None:
    fence = Fence()
    fence.begin(Epoch(4, 99))
    fence.next()
    fence.written()
    assert fence.compare(Epoch(6, 1)) == "superseded"
