"""Sums over users: fresh where they are few, counted in steps where they are many."""

import asyncio
from collections import Counter
from typing import Any, cast

import pytest
from driver import Play

from component.http import sources
from component.http.sources import Sources
from schemas import jid


def made(users: int) -> Sources:
    play = Play()
    for number in range(users):
        play.core.mirror.row(jid.parse(f"u{number}@example.org")).devices.come("phone")
    nothing = cast("Any", None)
    return Sources(nothing, play.core, nothing, nothing, Counter(), nothing)


async def test_few_users_are_counted_whenever_somebody_asks() -> None:
    few = made(3)
    assert few.totals().users_online == 3
    few.core.mirror.row(jid.parse("new@example.org")).devices.come("phone")
    assert few.totals().users_online == 4


async def test_many_users_are_counted_while_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "FEW_ROWS", 100)
    many = made(1_000)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    neighbour = asyncio.create_task(others())
    await many.counted()
    neighbour.cancel()
    assert turns >= 4
    assert many.totals().users_online == 1_000


async def test_many_users_are_counted_anew_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "FEW_ROWS", 100)
    many = made(200)
    await many.counted()
    many.core.mirror.row(jid.parse("new@example.org")).devices.come("phone")
    counting = asyncio.create_task(many.count())
    assert many.totals().users_online == 200
    for _ in range(10):
        await asyncio.sleep(0)
    counting.cancel()
    assert many.totals().users_online == 201
