"""Which process serves: every state meets every event, and whatever comes, in any order.

The kind: two processes that both answer for what Redis holds, or one that serves from what it
knew before another one served; a stanza dealt with before its time, or never; a timer or a task
that outlives the state it is of and acts in another.
"""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from component.leadership import TRANSITIONS, Action, Event, Leadership, State

pytestmark = pytest.mark.abuse(23)

NEXT = """
             link-up    stanza       probation-over  taken-over  takeover-failed  superseded  link-lost   conflict
connecting   admitted   .            .               .           .                .           .           following
admitted     .          leading      .               .           .                .           connecting  following
leading      .          .            .               .           .                deposed     connecting  following
deposed      .          .            .               .           .                .           following   following
following    probation  .            .               .           .                .           .           .
probation    .          taking-over  accepted        .           .                .           following   following
accepted     .          taking-over  .               .           .                .           following   following
taking-over  .          .            .               leading     accepted         .           following   following
"""  # noqa: E501 - a table
"""The next state for each state and event; `.` where nothing changes."""


def grid() -> list[tuple[State, Event, State]]:
    """Read the table."""
    head, *lines = NEXT.strip().splitlines()
    events = [Event(name.replace("-", " ")) for name in head.split()]
    cells = []
    for line in lines:
        name, *after = line.split()
        state = State(name.replace("-", " "))
        cells += [
            (state, event, state if cell == "." else State(cell.replace("-", " ")))
            for event, cell in zip(events, after, strict=True)
        ]
    return cells


def test_the_table_has_every_state_and_every_event() -> None:
    assert {(state, event) for state, event, _ in grid()} == {
        (state, event) for state in State for event in Event
    }


@pytest.mark.parametrize(("state", "event", "after"), grid())
def test_every_state_meets_every_event(state: State, event: Event, after: State) -> None:
    leadership = Leadership()
    leadership.state = state
    actions = leadership.advance(event)
    assert leadership.state is after
    assert (state, event) in TRANSITIONS or actions == ()
    assert len(set(actions)) == len(actions)


@dataclass(frozen=True)
class World:
    """What the shell has been told to do, and what is the case."""

    state: State = State.CONNECTING
    linked: bool = False
    # Nobody else has served since this process learnt all that Redis holds.
    current: bool = True
    reported: bool = False
    on_probation: bool = False
    taking_over: bool = False
    holds_stanzas: bool = False
    core_has_link: bool = False
    store: str = "rests"

    def possible(self, event: Event) -> bool:
        """Tell whether link, timer, task and store can be the source of an event now."""
        match event:
            case Event.LINK_UP:
                return not self.linked
            case Event.STANZA | Event.LINK_LOST:
                return self.linked
            case Event.PROBATION_OVER:
                return self.on_probation
            case Event.TAKEN_OVER | Event.TAKEOVER_FAILED:
                return self.taking_over
            case Event.SUPERSEDED:
                return self.store == "leads"
        return True

    def met(self, event: Event) -> "World":
        """Return the world after an event."""
        leadership = Leadership()
        leadership.state = self.state
        actions = leadership.advance(event)
        world = replace(self, state=leadership.state)
        match event:
            case Event.LINK_UP:
                world = replace(world, linked=True)
            case Event.LINK_LOST | Event.CONFLICT:
                world = replace(
                    world,
                    linked=False,
                    reported=False,
                    holds_stanzas=False,
                    core_has_link=False,
                    current=self.current and event is Event.LINK_LOST,
                )
            case Event.PROBATION_OVER:
                world = replace(world, on_probation=False)
            case Event.TAKEN_OVER:
                world = replace(world, taking_over=False, current=True)
            case Event.TAKEOVER_FAILED:
                world = replace(world, taking_over=False)
            case Event.SUPERSEDED:
                world = replace(world, current=False)
        for action in actions:
            world = world.done(action)
        if event is Event.STANZA and world.state is not State.LEADING:
            world = replace(world, holds_stanzas=True)
        return world

    def done(self, action: Action) -> "World":
        """Return the world after an action, which must be one that can be done."""
        before, after = ACTIONS[action]
        assert before.items() <= vars(self).items(), (action, self)
        return replace(self, **after)


ACTIONS: dict[Action, tuple[dict[str, Any], dict[str, Any]]] = {
    Action.REPORT_LINK: ({"linked": True, "reported": False}, {"reported": True}),
    Action.START_PROBATION: ({"on_probation": False}, {"on_probation": True}),
    Action.END_PROBATION: ({"on_probation": True}, {"on_probation": False}),
    Action.BEGIN_SERVING: (
        {"linked": True, "current": True, "core_has_link": False},
        {"core_has_link": True},
    ),
    Action.LEAD: ({"current": True, "core_has_link": True}, {"store": "leads"}),
    Action.RESIGN: ({"store": "leads"}, {"store": "rests"}),
    Action.FOLLOW: ({"store": "rests", "current": False}, {"store": "follows"}),
    Action.TAKE_OVER: ({"store": "follows", "taking_over": False}, {"taking_over": True}),
    Action.ABANDON: ({"taking_over": True}, {"taking_over": False}),
    Action.RELEASE: ({"store": "leads"}, {"holds_stanzas": False}),
    Action.CLOSE_LINK: ({"linked": True}, {}),
}
"""What must be the case for each action, and what is after it."""


def worlds() -> set[World]:
    """Return all that can come about, by any events in any order."""
    found, new = {World()}, [World()]
    while new:
        world = new.pop()
        for event in filter(world.possible, Event):
            after = world.met(event)
            if after not in found:
                found.add(after)
                new.append(after)
    return found


def test_whatever_comes_in_any_order() -> None:
    found = worlds()
    assert {world.state for world in found} == set(State)
    for world in found:
        state = world.state
        leads = state is State.LEADING
        assert (world.store == "leads") is leads, world
        assert world.current or world.store == "follows" or state is State.DEPOSED, world
        # Nothing outlives the state it is of.
        assert world.on_probation is (state is State.PROBATION), world
        assert world.taking_over is (state is State.TAKING_OVER), world
        assert not (leads and world.holds_stanzas), world
        # What the core learns of a link is forgotten with it.
        leadership = Leadership()
        leadership.state = state
        assert leadership.serves is world.core_has_link, world
        # Operators know of each link that is not on probation.
        assert world.reported is (world.linked and state is not State.PROBATION), world


def test_one_that_has_met_another_learns_all_before_it_leads() -> None:
    """From wherever another process is met, there is no way to lead but by taking over."""
    without = set(Event) - {Event.TAKEN_OVER}
    reached = {State.FOLLOWING}
    while True:
        more = {
            TRANSITIONS.get((state, event), (state, ()))[0]
            for state in reached
            for event in without
        }
        if more <= reached:
            break
        reached |= more
    assert State.LEADING not in reached
