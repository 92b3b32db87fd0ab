"""Attacks, and the neighbour who must not notice: nothing is the plainest of them.

Each attack is one of a kind that once hurt somebody else. What it did to its own user is shown
elsewhere; here an honest channel goes on talking to another user (`harness.bystander`).
"""

import asyncio

import pytest
from harness.bystander import Bystander, Neighbour, Withstands
from harness.stack import Stack


async def test_nothing_at_all(withstands: Withstands) -> None:
    """The quiet run itself: without it no other figure says anything."""
    report = await withstands(lambda: asyncio.sleep(1))
    assert report.sent >= 100
    assert report.live == (report.sent, report.sent)


async def test_a_neighbour_that_is_hurt_says_so(breakable: Stack, neighbour: Neighbour) -> None:
    """Whoever watches must be able to see: here mixpam itself is killed."""
    async with Bystander(breakable, neighbour=neighbour) as bystander:
        await breakable.mixpam.stop(kill=True)
        await breakable.mixpam.start()
        report = await bystander.finish(keep=False)
    assert report.restarted
    assert min(report.live) < report.sent
    with pytest.raises(AssertionError, match="not live"):
        report.check()
