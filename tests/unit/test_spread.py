"""Tests of one server share a process, whatever else they are called."""

import pytest
from harness.spread import scope


@pytest.mark.parametrize(
    ("nodeid", "together"),
    [
        ("tests/scenarios/test_join.py::test_a[prosody-0.12]", "prosody-0.12"),
        ("tests/integration/test_cli.py::test_b[ejabberd-24.12-online]", "ejabberd-24.12"),
        ("tests/integration/test_x.py::test_c[trixie-prosody-13]", "prosody-13"),
        ("tests/deploy/test_demo.py::test_d[prosody]", "test_demo.py"),
        ("tests/unit/test_prosody-13.py::test_e", "tests/unit/test_prosody-13.py::test_e"),
    ],
)
def test_what_shares_a_process(nodeid: str, together: str) -> None:
    assert scope(nodeid) == together
