"""Every step can be the last: a few of the kill points of `tests/run --kills`.

The same seed each time, so that a failure is a change's and not the dice's; MIXPAM_KILLS_SEED
is another one. The long runs are in tests/README.md.
"""

import os
from typing import Any

import pytest
from harness.loopback import Block
from kills.drive import run
from kills.plan import FAULTS
from kills.world import World

SEED = int(os.environ.get("MIXPAM_KILLS_SEED", "2024"))
POINTS = 10
"""For each of the four servers."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.req("X24")
async def test_every_step_can_be_the_last(server_kind: str, block: Block, logs: Any) -> None:
    print(f"seed {SEED}")
    worlds: list[World] = []

    def remember(world: World) -> None:
        worlds.append(world)
        for folder in world.folders:
            logs.add(folder)

    outcome = await run(server_kind, block, seed=SEED, count=POINTS, say=print, worlds=remember)
    failed = "\n".join(failure.text for failure in outcome.failures)
    assert not failed, f"seed {SEED}\n{failed}"
    assert outcome.done == POINTS
    assert set(outcome.faults) == set(FAULTS)
    for world in worlds:
        for folder in world.folders:
            logs.done(folder)
