"""Actions of users and channels during which a fault is injected."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from harness import caps, ns
from harness.client import Account
from harness.stack import client_join, client_leave
from harness.stanza import Stanza
from harness.stream import fresh

from kills.venue import Room
from kills.world import Watched, World

PATIENCE: Final = 20.0
"""Seconds within which a request is answered in any case: mixpam waits 2 for the channel (as the
tests set it), 5 for Redis, and taps deliver a roster after 5."""

BURST: Final = 6


@dataclass
class Asked:
    """One request of a client and its outcome; `answer` is None if the client's stream broke."""

    what: str
    device: Watched
    answer: Stanza | None = None
    unanswered: bool = False

    async def ask(self, xml: str) -> None:
        """Send the request and wait for its answer."""
        try:
            self.answer = await self.device.iq(xml, PATIENCE)
        except AssertionError:
            self.unanswered = self.device.inbox.closed is None


@dataclass
class Cast:
    """The participants: the actor's devices, the witness's, and the channel.

    The witness is in the channel all the time; whether the actor is depends on the action.
    """

    world: World
    actor: Account
    first: Watched
    second: Watched
    plain: Watched
    witness: Watched
    room: Room
    asked: list[Asked] = field(default_factory=list)

    @property
    def devices(self) -> list[Watched]:
        """Return all sessions."""
        return [self.first, self.second, self.plain, self.witness]

    async def ask(self, what: str, device: Watched, xml: str) -> Stanza | None:
        """Let a client send a request, and keep its outcome."""
        asked = Asked(what, device)
        self.asked.append(asked)
        await asked.ask(xml)
        return asked.answer


async def join(cast: Cast) -> None:
    """Join from the first device; the channel sends a message before it answers."""
    await cast.ask("join", cast.first, client_join(cast.actor.jid, cast.room.jid))


async def leave(cast: Cast) -> None:
    """Leave from the first device."""
    await cast.ask("leave", cast.first, client_leave(cast.actor.jid, cast.room.jid))


async def kick(cast: Cast) -> None:
    """Let the channel kick the actor."""
    cast.world.venue.kick(cast.room, cast.actor.jid)
    await _settle(cast)


async def roster_remove(cast: Cast) -> None:
    """Delete the channel from the roster on the second device."""
    xml = (
        f"<iq type='set'><query xmlns='{ns.ROSTER}'><item jid='{cast.room.jid}'"
        " subscription='remove'/></query></iq>"
    )
    await cast.ask("roster remove", cast.second, xml)
    await _settle(cast)


async def account_delete(cast: Cast) -> None:
    """Delete the account by in-band registration, which ends its sessions."""
    gone = fresh("gone")
    cast.first.send(
        f"<iq type='set' id='{gone}'><query xmlns='{ns.REGISTER}'><remove/></query></iq>"
    )
    with contextlib.suppress(AssertionError):
        await cast.first.expect(lambda s: s.name == "error" or s["id"] == gone, 5)
    await _settle(cast)


async def presence(cast: Cast) -> None:
    """Come online with a new device, change its presence, and go offline with the second."""
    world = cast.world
    with contextlib.suppress(AssertionError, OSError):
        newcomer = Watched(cast.actor, fresh("new"), world.steps)
        newcomer.features = caps.MIX
        await newcomer.login()
        world.devices.append(newcomer)
        query = f"<query xmlns='{ns.ROSTER}'><annotate xmlns='{ns.MIX_ROSTER}'/></query>"
        await cast.ask("roster", newcomer, f"<iq type='get'>{query}</iq>")
        newcomer.presence(caps.element(caps.MIX))
        await newcomer.iq(f"<iq type='get' to='{cast.actor.domain}'><ping xmlns='{ns.PING}'/></iq>")
        newcomer.presence("<show>away</show>" + caps.element(caps.MIX))
        await _settle(cast)
        world.devices.remove(cast.second)
        await cast.second.close()
    await _settle(cast)


async def fan_out(cast: Cast) -> None:
    """Let the channel send some messages, and wait until the server has them."""
    for number in range(BURST):
        cast.world.venue.say_to_all(cast.room, f"burst {number}")
        await asyncio.sleep(0)
    await _settle(cast)


async def _settle(cast: Cast) -> None:
    """Wait until all effects have arrived, except through a part that was killed."""
    with contextlib.suppress(AssertionError, OSError, TimeoutError):
        async with asyncio.timeout(1):
            await cast.world.settle()


Action = Callable[[Cast], Awaitable[None]]

ACTIONS: Final[dict[str, Action]] = {
    "join": join,
    "leave": leave,
    "kick": kick,
    "roster-remove": roster_remove,
    "account-delete": account_delete,
    "presence": presence,
    "fan-out": fan_out,
}
