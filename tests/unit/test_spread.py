"""Tests of one server share a process, whatever else they are called."""

import pytest
from harness.machines import KINDS
from harness.spread import GROUPS, place, scope


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
    first = GROUPS[: len(KINDS)]
    assert {group.partition(" ")[0] for group in first} == {*KINDS}
    assert len({group.partition(" ")[2] for group in first}) == 2
    assert len({*GROUPS}) == len(GROUPS)
    large = place("tests/scenarios/test_join.py::test_a[ejabberd-24.12]")
    assert large < place("tests/deploy/test_image.py::test_a")
