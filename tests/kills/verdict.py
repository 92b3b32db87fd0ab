"""The conditions that must hold after a fault, without any intervention."""

import asyncio
import json
import time
from collections import Counter
from typing import Any, Final

import aiohttp
from harness import caps, ns
from harness.client import RawClient
from harness.house import archived
from harness.http import PORT
from harness.stanza import match
from harness.stream import fresh

from kills.actions import Cast
from kills.plan import Point
from kills.world import Watched

RECOVERED_WITHIN: Final = 20.0
"""Seconds within which everything agrees again."""

ONLY_SERVER: Final = "the server forgot "
"""The beginning of a line about something that the server itself had confirmed and lost."""


class Verdict:
    """Checks everything after one fault; `failures` and `forgotten` are sentences.

    A loss at kill -9 of something that the server had confirmed goes into `forgotten`: no component
    can know of it. That happens only with ejabberd's Mnesia, and only to the last seconds before a
    fault of the server.
    """

    def __init__(self, cast: Cast, point: Point) -> None:
        self.cast, self.point, self.world = cast, point, cast.world
        self.failures: list[str] = []
        self.forgotten: list[str] = []
        self._may_forget = self.world.forgetful and point.fault == "server"

    async def reach(self) -> "Verdict":
        """Wait until all agree, then check that messages flow and nothing came twice."""
        if await self._agreement():
            await self._afterwards()
            await self._archives()
        self._once()
        self._answers()
        self.failures += [f"in the log: {json.dumps(each)}" for each in self.world.take_errors()]
        return self

    # -- agreement -----------------------------------------------------------------------

    async def _agreement(self) -> bool:
        deadline = time.monotonic() + RECOVERED_WITHIN
        while True:
            try:
                wrong = await self._disagreements()
            except AssertionError as error:
                # A session of an account that is just being deleted, for example.
                wrong = [str(error)]
            if not wrong:
                return True
            if time.monotonic() > deadline:
                self.failures += wrong
                return False
            await asyncio.sleep(0.05)

    async def _disagreements(self) -> list[str]:
        world, venue = self.world, self.world.venue
        stored = {
            user: {jid: json.loads(text)["participant_id"] for jid, text in fields.items()}
            for user, fields in (await world.stored("channels")).items()
        }
        users = set(stored) | {user for room in venue.rooms.values() for user in room.participants}
        wrong = [
            f"{user}: Redis has {stored.get(user, {})}, the channels {venue.of(user)}"
            for user in sorted(users)
            if stored.get(user, {}) != venue.of(user)
        ]
        wrong += [
            f"{user}: in the journal is {fields}"
            for user, fields in (await world.stored("journal")).items()
        ]
        for client in await self._speakers():
            wrong += await self._of_user(client)
        wrong += self._of_devices()
        if self.point.action == "kick" and self.cast.actor.jid in self.cast.room.participants:
            wrong.append("the kick was undone")
        return wrong

    async def _speakers(self) -> list[Watched]:
        """Return one session of each user of the cast."""
        spoken: dict[str, Watched] = {}
        for device in self.world.devices:
            if device.connected:
                spoken.setdefault(device.bare, device)
        return list(spoken.values())

    async def _of_user(self, client: Watched) -> list[str]:
        world, venue = self.world, self.world.venue
        wrong = []
        rostered = await world.channels_in_roster(client)
        believed = set(venue.of(client.bare))
        if self._may_forget and rostered > believed:
            await self._forget(client, rostered - believed)
        elif rostered != believed:
            wrong.append(f"{client.bare}: the roster has {rostered}, the channels {believed}")
        known = await self._api(client.bare)
        if known["operations"] or {each["channel"] for each in known["channels"]} != believed:
            wrong.append(f"{client.bare}: mixpam says {known}, the channels {believed}")
        return wrong

    async def _forget(self, client: RawClient, channels: set[str]) -> None:
        """Note that removals of roster items were lost, and repeat them."""
        for channel in channels:
            self.forgotten.append(f"{ONLY_SERVER}that {channel} was removed from the roster")
            await client.iq(
                f"<iq type='set'><query xmlns='{ns.ROSTER}'><item jid='{channel}'"
                " subscription='remove'/></query></iq>"
            )

    async def _api(self, user: str) -> dict[str, Any]:
        place = self.world.stack.server.place
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            url = f"http://{place.ip}:{PORT}/api/user/{user}"
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        said: dict[str, Any] = await answer.json()
                        return said
                    return {"operations": [], "channels": []}
            except aiohttp.ClientError as error:
                return {"operations": [str(error)], "channels": []}

    def _of_devices(self) -> list[str]:
        """Compare the devices known to a channel with those that are online."""
        room = self.cast.room
        there = {
            device.jid
            for device in self.world.devices
            if device.connected and device.features == caps.MIX and device.bare in room.participants
        }
        if room.available == there:
            return []
        return [f"{room.jid} was shown {sorted(room.available)}, online are {sorted(there)}"]

    # -- messages ------------------------------------------------------------------------

    def _members(self) -> list[Watched]:
        return [
            device
            for device in self.world.devices
            if device.connected and device.bare in self.cast.room.participants
        ]

    async def _afterwards(self) -> None:
        """Let the channel send one more message: every MIX device of a member receives it."""
        self.world.venue.say_to_all(self.cast.room, "afterwards")
        for device in self._members():
            if device.features == caps.MIX:
                try:
                    await device.expect(match("message", body="afterwards"))
                except AssertionError:
                    self.failures.append(f"{device.jid} does not hear the channel any more")
        await self.world.settle()

    async def _archives(self) -> None:
        room = self.cast.room
        seen = set()
        for device in self._members():
            if device.bare in seen:
                continue
            seen.add(device.bare)
            bodies = Counter(await self._archive(device))
            for body in room.accepted:
                if bodies[body] == 1 or device.bare not in room.owed[body]:
                    continue
                line = f"{body!r}, {bodies[body]} times in the archive of {device.bare}"
                if self._may_forget and not bodies[body] and body != "afterwards":
                    self.forgotten.append(ONLY_SERVER + line)
                else:
                    self.failures.append(line)
            twice = [body for body, times in bodies.items() if times > 1]
            if twice:
                self.failures.append(f"more than once in the archive of {device.bare}: {twice}")
            strange = set(bodies) - set(room.accepted) - set(room.unsure)
            if strange:
                self.failures.append(f"{strange} in the archive of {device.bare}")

    async def _archive(self, client: RawClient) -> list[str | None]:
        query = fresh("mam")
        answer = await client.iq(
            f"<iq type='set'><query xmlns='{ns.MAM}' queryid='{query}'>"
            f"<x xmlns='{ns.DATA}' type='submit'><field var='FORM_TYPE' type='hidden'>"
            f"<value>{ns.MAM}</value></field><field var='with'><value>{self.cast.room.jid}</value>"
            "</field></x></query></iq>"
        )
        if answer["type"] != "result":
            self.failures.append(f"the archive does not answer: {answer.raw}")
        return [stanza.body for stanza in archived(client, query)]

    def _once(self) -> None:
        """Look for copies that came twice, or to a device that must get none."""
        live = match("message", type="groupchat")
        for device in {*self.world.devices, *self.cast.devices}:
            ids = Counter(stanza["id"] for stanza in device.inbox.matching(live))
            twice = [id_ for id_, times in ids.items() if times > 1]
            if twice:
                self.failures.append(f"{device.jid} got {twice} more than once")
            if ids and device.features != caps.MIX:
                self.failures.append(f"{device.jid} knows no MIX and got {list(ids)}")

    # -- requests ------------------------------------------------------------------------

    def _answers(self) -> None:
        for asked in self.cast.asked:
            if asked.unanswered:
                self.failures.append(f"the {asked.what} was never answered")
            elif asked.answer is not None:
                times = asked.device.count(match("iq", id=asked.answer["id"], to=asked.device.jid))
                if times > 1:
                    self.failures.append(f"the {asked.what} was answered {times} times")
                if asked.answer["type"] == "result":
                    self._kept(asked.what)

    def _kept(self, what: str) -> None:
        """Compare the answer that the client got with the outcome."""
        inside = self.cast.actor.jid in self.cast.room.participants
        if (what == "join" and not inside) or (what == "leave" and inside):
            line = f"the client was told that its {what} is done, and it is not"
            if self._may_forget:
                self.forgotten.append(f"{ONLY_SERVER}what it took: {line}")
            else:
                self.failures.append(line)
