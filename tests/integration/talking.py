"""A channel that goes on talking while something happens to the tap."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from harness import ns
from harness.client import RawClient
from harness.house import TapHouse
from harness.stanza import match

USERS = 4
RSM = "http://jabber.org/protocol/rsm"


class Traffic:
    """A channel that goes on talking to some members."""

    def __init__(self, house: TapHouse, channel: str, members: list[RawClient]) -> None:
        self.house = house
        self.channel = channel
        self.members = members
        self.sent = 0
        self._task: asyncio.Task[None] | None = None

    async def _talk(self) -> None:
        while True:
            self.say()
            await asyncio.sleep(0.01)

    def say(self) -> None:
        """Send one message to everybody."""
        for member in self.members:
            self.house.fake.send(
                f"<message from='{self.channel}' to='{member.bare}' id='t{self.sent}' "
                f"type='groupchat'><body>t{self.sent}</body><mix xmlns='{ns.CORE1}'/></message>"
            )
        self.sent += 1

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Talk while something happens, and a little longer."""
        self._task = asyncio.create_task(self._talk())
        await asyncio.sleep(0.3)
        try:
            yield
            await asyncio.sleep(0.3)
        finally:
            self._task.cancel()
        await self.house.fake.fence()

    def live(self) -> set[tuple[str, str]]:
        """Return who was told what over the link, by T1 or T10."""
        seen = []
        for stanza in self.house.link.inbox.matching(match("message", from_=self.channel)):
            addresses = stanza.all(f"{{{ns.ADDRESS}}}addresses/{{{ns.ADDRESS}}}address")
            to = [e.get("jid", "") for e in addresses] or [stanza["to"]]
            seen += [(jid, stanza["id"]) for jid in to]
            if addresses:
                body = stanza.body
                seen = [
                    (j, body or i) if j in to and i == stanza["id"] else (j, i) for j, i in seen
                ]
        assert len(seen) == len(set(seen)), "twice"
        return set(seen)

    async def archived(self, member: RawClient) -> int:
        """Return how many of the channel's messages a member's archive has."""
        answer = await member.iq(
            f"<iq type='set'><query xmlns='{ns.MAM}'><x xmlns='{ns.DATA}' type='submit'>"
            f"<field var='FORM_TYPE' type='hidden'><value>{ns.MAM}</value></field>"
            f"<field var='with'><value>{self.channel}</value></field></x>"
            f"<set xmlns='{RSM}'><max>0</max></set></query></iq>"
        )
        return int(answer.text(f"{{{ns.MAM}}}fin/{{{RSM}}}set/{{{RSM}}}count") or "0")

    async def check(self, *, lost: int = 0) -> None:
        """Check that nothing was bounced, and all is archived and but for `lost` live."""
        await self.house.fence()
        self.house.fake.none(match("message", type="error"))
        wanted = [f"t{n}" for n in range(self.sent)]
        for member in self.members:
            assert await self.archived(member) == self.sent
        missing = {(m.bare, b) for m in self.members for b in wanted} - self.live()
        assert len(missing) <= lost, sorted(missing)[:10]


async def talking(house: TapHouse, resource: str) -> Traffic:
    """Return a channel with members; the component takes T10 at `resource`, if that is given."""
    await house.up()
    if resource:
        await house.services(
            house.fake.jid, complete=True, multicast=f"{house.component}/{resource}"
        )
    members = [await house.client() for _ in range(USERS)]
    channel = house.channel()
    for member in members:
        await house.roster_set(member.bare, channel)
    await house.fence()
    house.drop_idle()
    return Traffic(house, channel, members)
