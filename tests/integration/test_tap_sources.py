"""What ejabberd's authors would ask of the tap's sources, by Erlang's own tools.

No warning, a `-spec` on every function, no call of what this ejabberd has not (xref). Not
dialyzer: a stanza is any tuple in those specs, of which it would have little to say.
"""

from pathlib import Path

import pytest
from harness.erlang import run
from harness.machines import REPOSITORY, Machine, host_suite

SOURCES = sorted((REPOSITORY / "deploy/ejabberd/src").glob("*.erl"))
WIDEST = 100
XREF = (
    'io:format("~0tp~n", [[{What, Found} || {What, Found} <- xref:d("."), Found /= []]]), halt().'
)


@pytest.mark.timeout(120)
async def test_nothing_is_warned_of_and_every_call_is_of_something(tmp_path: Path) -> None:
    await run(
        tmp_path, "erlc", "-Wall", "-Werror", "+debug_info", "+warn_missing_spec_all",
        "+warn_unused_import", *Machine(host_suite()).headers(), *map(str, SOURCES),
    )  # fmt: skip
    assert await run(tmp_path, "erl", "-noshell", "-eval", XREF) == "[]"


async def test_no_line_is_wide() -> None:
    for source in SOURCES:
        wide = [line for line in source.read_text("utf-8").splitlines() if len(line) > WIDEST]
        assert not wide, source.name
