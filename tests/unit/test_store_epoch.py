"""What a mark found in Redis says about all that was written to it."""

import pytest

from component.store.mark import NOTHING, Mark, Marks


@pytest.mark.parametrize("text", ["", "7", "7:", "x:1", "-1:2", "7:1:2"])
def test_what_is_no_mark_is_the_lowest(text: str) -> None:
    assert Mark.read({"written": text}) == NOTHING
    assert Mark.read({}) == NOTHING


def test_a_mark_is_read_as_it_was_written() -> None:
    assert Mark.read({"written": str(Mark(7, 1523))}) == Mark(7, 1523)


def test_marks_rise_over_all_that_were_there() -> None:
    marks = Marks()
    marks.begin(Mark(4, 99))
    assert Mark(4, 99) < marks.next() < marks.next() < Mark(6, 0)


@pytest.mark.abuse(22)
def test_what_is_missing_was_lost() -> None:
    marks = Marks()
    assert marks.judge(NOTHING) == "ours"  # a new Redis has nothing to lose
    marks.begin(Mark(4, 99))
    assert marks.judge(Mark(4, 99)) == "ours"
    assert marks.judge(Mark(4, 98)) == "lost"
    first, second = marks.next(), marks.next()
    # Whether a write that failed was done is not known; either is right.
    for found in (Mark(4, 99), first, second):
        assert marks.judge(found) == "ours"
    marks.written()
    assert marks.judge(second) == "ours"
    assert marks.judge(first) == "lost"
    assert marks.judge(NOTHING) == "lost"


@pytest.mark.abuse(23)
def test_a_process_that_came_later_is_known() -> None:
    marks = Marks()
    marks.begin(Mark(4, 99))
    marks.next()
    marks.written()
    assert marks.judge(Mark(6, 1)) == "superseded"
