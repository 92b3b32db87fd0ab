"""Which process serves, where several run as one component: one state machine.

The server accepts one process. The others follow its writes in Redis, and one of them takes over
when the server accepts it. A serving process that finds another's write as the last one in Redis
has been deposed: it reads all records again.

The machine is pure. It takes `Event`s of the link and the store and gives `Action`s, which
`component.failover` carries out in order.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class State(Enum):
    """Where a process stands. In the first four what it knows is its own, not followed."""

    CONNECTING = "connecting"
    """There is no link; no other process is known to have served since Redis was read."""
    ADMITTED = "admitted"
    """The link is up and no stanza has come. ejabberd accepts a second process and closes
    its link with a conflict, so this one may still turn out to be a standby."""
    LEADING = "leading"
    """Stanzas are dealt with, and what Redis holds is answered for."""
    DEPOSED = "deposed"
    """Another process has written to Redis meanwhile; the link is being closed."""
    FOLLOWING = "following"
    """There is no link. Another process serves, or has served since Redis was read; what it
    writes is followed until this process leads, through all states below."""
    PROBATION = "probation"
    """The link is up again, and may be closed with a conflict as in `ADMITTED`."""
    ACCEPTED = "accepted"
    """The link has outlasted probation, and no stanza has come; or taking over has failed."""
    TAKING_OVER = "taking over"
    """Stanzas come and are held until the last of what was written is known."""


class Event(Enum):
    """An event of the link or the store."""

    LINK_UP = "link up"
    """The server has accepted the handshake."""
    STANZA = "stanza"
    """A stanza has come over the link."""
    PROBATION_OVER = "probation over"
    """The time of probation has passed."""
    TAKEN_OVER = "taken over"
    """All that was written is known, and the store's epoch is this process's."""
    TAKEOVER_FAILED = "takeover failed"
    """An exception has ended taking over; another link tries again."""
    SUPERSEDED = "superseded"
    """The store has found what another process wrote."""
    LINK_LOST = "link lost"
    """A link that was up has ended, for any reason but a conflict."""
    CONFLICT = "conflict"
    """A link, or an attempt at one, has ended because another process has the place."""


class Action(Enum):
    """An action, carried out in the order given."""

    REPORT_LINK = "report link"
    """Report that the link is up."""
    START_PROBATION = "start probation"
    END_PROBATION = "end probation"
    BEGIN_SERVING = "begin serving"
    """Give the link to the core."""
    LEAD = "lead"
    """Have the store answer for what Redis holds."""
    RESIGN = "resign"
    """Have the store no longer do so."""
    FOLLOW = "follow"
    """Have the store keep the core current with what another process writes."""
    TAKE_OVER = "take over"
    """Start to learn the last of what was written; `TAKEN_OVER` or `TAKEOVER_FAILED` ends it."""
    ABANDON = "abandon"
    """Give up taking over."""
    RELEASE = "release"
    """Deal with the stanzas that were held."""
    CLOSE_LINK = "close link"


_Step = tuple[State, tuple[Action, ...]]

TRANSITIONS: Final[dict[tuple[State, Event], _Step]] = {
    (State.CONNECTING, Event.LINK_UP): (
        State.ADMITTED,
        (Action.REPORT_LINK, Action.BEGIN_SERVING),
    ),
    (State.CONNECTING, Event.CONFLICT): (State.FOLLOWING, (Action.FOLLOW,)),
    (State.ADMITTED, Event.STANZA): (State.LEADING, (Action.LEAD,)),
    (State.ADMITTED, Event.LINK_LOST): (State.CONNECTING, ()),
    (State.ADMITTED, Event.CONFLICT): (State.FOLLOWING, (Action.FOLLOW,)),
    (State.LEADING, Event.LINK_LOST): (State.CONNECTING, (Action.RESIGN,)),
    (State.LEADING, Event.CONFLICT): (State.FOLLOWING, (Action.RESIGN, Action.FOLLOW)),
    (State.LEADING, Event.SUPERSEDED): (State.DEPOSED, (Action.RESIGN, Action.CLOSE_LINK)),
    (State.DEPOSED, Event.LINK_LOST): (State.FOLLOWING, (Action.FOLLOW,)),
    (State.DEPOSED, Event.CONFLICT): (State.FOLLOWING, (Action.FOLLOW,)),
    (State.FOLLOWING, Event.LINK_UP): (State.PROBATION, (Action.START_PROBATION,)),
    (State.PROBATION, Event.STANZA): (
        State.TAKING_OVER,
        (Action.END_PROBATION, Action.REPORT_LINK, Action.TAKE_OVER),
    ),
    (State.PROBATION, Event.PROBATION_OVER): (State.ACCEPTED, (Action.REPORT_LINK,)),
    (State.PROBATION, Event.LINK_LOST): (State.FOLLOWING, (Action.END_PROBATION,)),
    (State.PROBATION, Event.CONFLICT): (State.FOLLOWING, (Action.END_PROBATION,)),
    (State.ACCEPTED, Event.STANZA): (State.TAKING_OVER, (Action.TAKE_OVER,)),
    (State.ACCEPTED, Event.LINK_LOST): (State.FOLLOWING, ()),
    (State.ACCEPTED, Event.CONFLICT): (State.FOLLOWING, ()),
    (State.TAKING_OVER, Event.TAKEN_OVER): (
        State.LEADING,
        (Action.BEGIN_SERVING, Action.LEAD, Action.RELEASE),
    ),
    (State.TAKING_OVER, Event.TAKEOVER_FAILED): (State.ACCEPTED, (Action.CLOSE_LINK,)),
    (State.TAKING_OVER, Event.LINK_LOST): (State.FOLLOWING, (Action.ABANDON,)),
    (State.TAKING_OVER, Event.CONFLICT): (State.FOLLOWING, (Action.ABANDON,)),
}
"""Next state and actions. An event that is missing for a state changes nothing: it is of a
link or a task that has ended, or says what is known."""

_SERVING: Final = frozenset({State.ADMITTED, State.LEADING, State.DEPOSED})


class Leadership:
    """The state of this process among those that run as the same component."""

    def __init__(self) -> None:
        self.state = State.CONNECTING

    @property
    def serves(self) -> bool:
        """Tell whether the core has the link: what it learnt there must be forgotten with it."""
        return self.state in _SERVING

    def advance(self, event: Event) -> tuple[Action, ...]:
        """Go to the next state; give what is to be done."""
        self.state, actions = TRANSITIONS.get((self.state, event), (self.state, ()))
        return actions
