"""A fault of ours within a change ends that change, and nothing else.

The kind: whatever step of a join or a leave fails, before or after it has done its work, its
client is told once, the next request works, and in the end all agree, as after a restart.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from driver import ANNA, PHONE
from scenes import client_join, client_leave
from test_model_membership import ACTIONS, World

from component.core.membership.memberships import Memberships
from schemas import codec

STEPS = [
    "_ask",
    "_checked",
    "_close",
    "_finish",
    "_joined",
    "_journal_then_ask",
    "_late",
    "_left",
    "_looked_up",
    "_note",
    "_over",
    "_part",
    "_refused",
    "_replied",
    "_respond",
    "_rostered",
    "_settle",
    "_start",
    "_take",
    "_timed_out",
    "_wait_on",
    "_write_roster",
]

STORIES = {
    "join": "join works answers",
    "leave": "join works answers leave works answers",
    "join refused": "join refuses works answers",
    "join late": "join works time answers",
    "join never": "join time",
    "leave late": "join works answers leave works time answers",
    "again": "join works answers join works answers",
    "leave of a stranger": "leave works answers",
    "kick": "join works answers kicks answers",
    "item": "join works answers item works answers",
    "cut": "join works link answers",
    "cut and answers": "join works link-and-answers answers",
}


class Answers(World):
    """A world that counts what the client gets."""

    def __init__(self, *, idempotent: bool) -> None:
        self.answered: list[tuple[str, str]] = []
        super().__init__(idempotent=idempotent)

    def _route(self, data: bytes) -> None:
        element = codec.read(data)
        if element.get("to") == PHONE and element.tag.endswith("iq"):
            self.answered.append((element.get("id", ""), element.get("type", "")))
        super()._route(data)


def breaks_once(memberships: Memberships, step: str, when: str) -> list[str]:
    """Have a step of changes fail the first time it is taken; gives what has failed."""
    broken: list[str] = []
    real: Callable[..., Any] = getattr(memberships, step)

    def failing(*args: Any, **kwargs: Any) -> Any:
        if broken:
            return real(*args, **kwargs)
        if when == "before":
            broken.append(step)
            raise RuntimeError(step)
        result = real(*args, **kwargs)
        if not broken:
            broken.append(step)
            raise RuntimeError(step)
        return result

    setattr(memberships, step, failing)
    return broken


@pytest.mark.req("J5", "L1")
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
@pytest.mark.parametrize(("step", "when"), [*product(STEPS, ["before", "after"])])
def test_a_fault_in_a_step_ends_the_change(step: str, when: str, story: str) -> None:
    world = Answers(idempotent=True)
    world.play.may_fail = True
    broken = breaks_once(world.play.core.parts.memberships, step, when)
    for action in story.split():
        ACTIONS[action.replace("-", " ")](world)
        world.listen()
    world.calms_down()
    assert len(world.play.faults) == len(broken)
    if not broken:
        return  # that step is not taken here
    if "link" not in story:  # else the tap answers
        ids = [id_ for id_, _ in world.answered]
        assert len(ids) == len(set(ids)) == story.count("join") + story.count("leave"), ids
    agrees(world)
    world.refuses, world.play.may_fail = False, False
    broken.append("no more")
    for request in (client_join(id_="x1"), client_leave(id_="x2")):
        world.client(request)
        world.listen()
        world.calms_down()
    assert world.answered[-2:] == [("x1", "result"), ("x2", "result")]
    agrees(world)
    assert not world.participants


def agrees(world: World) -> None:
    """See that nothing is busy, and all know the same, or what is left waits for the next link."""
    row = world.play.core.mirror.rows.get(ANNA.encode())
    assert row is None or not (row.changes or row.holding)
    if world.play.stored.journal:
        world.play.link_is_cut()
        world._begin()
        world.calms_down()
    world.agrees()
