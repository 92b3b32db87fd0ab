"""Tests of one server share a process, whatever else they are called."""

import pytest
from harness.machines import KINDS
from harness.spread import HEAPS, place, scope


@pytest.mark.parametrize(
    ("nodeid", "together"),
    [
        ("tests/scenarios/test_join.py::test_a[prosody-0.12]", "prosody-0.12 tests/scenarios"),
        (
            "tests/integration/test_cli.py::test_b[ejabberd-24.12-online]",
            "ejabberd-24.12 tests/integration",
        ),
        ("tests/integration/test_x.py::test_c[trixie-prosody-13]", "prosody-13 tests/integration"),
        ("tests/deploy/test_demo.py::test_d[prosody]", "test_demo.py"),
        ("tests/unit/test_prosody-13.py::test_e", "tests/unit/test_prosody-13.py::test_e"),
    ],
)
def test_what_shares_a_process(nodeid: str, together: str) -> None:
    assert scope(nodeid) == together


def test_both_sorts_of_tests_begin_at_once_and_small_ones_come_last() -> None:
    first = HEAPS[: len(KINDS)]
    assert {heap.partition(" ")[0] for heap in first} == {*KINDS}
    assert len({heap.partition(" ")[2] for heap in first}) == 2
    assert len({*HEAPS}) == len(HEAPS)
    large = place("tests/scenarios/test_join.py::test_a[ejabberd-24.12]")
    assert large < place("tests/deploy/test_image.py::test_a")
