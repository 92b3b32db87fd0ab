"""A server's users, for the benchmarks that run a whole component.

Realistic: participant ids of twenty hexadecimal digits, different in each channel (ejabberd's), a
nick for each user, resources with a random part, and a few dozen different presences; with
`distinct` every one differs.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.redis import Redis
from redis.asyncio import Redis as Client

from benchmarks import traffic
from component.core.presence.announce import digest_of
from component.core.users.sessions import said
from component.store.keys import CAPABILITY, Keys
from component.wire.framing import Frame
from schemas import codec, disco
from schemas.records import CapabilityRecord, MembershipRecord

_BATCH = 500
_CLIENTS = 12
_SHOWS = ("", "<show>away</show>", "<show>xa</show><status>gone home</status>")
_NODES = ["urn:xmpp:mix:nodes:messages", "urn:xmpp:mix:nodes:participants"]
PRESENCE_NODE = "urn:xmpp:mix:nodes:presence"


@dataclass(frozen=True)
class Population:
    """Users, with their numbers of devices and channels."""

    users: int
    devices: int
    channels: int
    distinct: bool = False
    presence_node: bool = False

    def rooms(self, user: int) -> list[str]:
        """Return the addresses of a user's channels."""
        some = traffic.channels_of(user, self.channels)
        return [traffic.channel(each) for each in some]

    def roster(self, address: str) -> list[str]:
        """Return the channels of a user, given by address."""
        return self.rooms(int(address.partition("@")[0].removeprefix("user")))

    def full(self, user: int, device: int) -> str:
        """Return a device's full JID."""
        return f"{traffic.user(user)}/client.{(user * 31 + device * 7) % 65536:04x}"

    def presence(self, user: int, device: int) -> bytes:
        """Return a device's presence."""
        kind = (user + device) % _CLIENTS
        show = _SHOWS[(user // 7 + device) % len(_SHOWS)]
        photo = hashlib.sha1(b"%d" % (user if self.distinct else 0)).hexdigest()  # noqa: S324
        return (
            f"<presence from='{self.full(user, device)}' to='{traffic.COMPONENT}'"
            f" id='{user:08x}{device}' xml:lang='en'>{show}"
            f"<x xmlns='vcard-temp:x:update'><photo>{photo}</photo></x>"
            "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:example:client'"
            f" ver='q07IKJEyjvHSyhy//CH0CxmKi{kind:02d}='/></presence>"
        ).encode()

    def presences(self) -> Iterator[bytes]:
        """Give the presence of all devices, as in a tap's replay."""
        for user in range(self.users):
            for device in range(self.devices):
                yield self.presence(user, device)

    def memberships(self, user: int) -> list[MembershipRecord]:
        """Return a user's memberships."""
        nodes = [*_NODES, PRESENCE_NODE] if self.presence_node else _NODES
        return [
            MembershipRecord(
                channel=room,
                participant_id=hashlib.sha1(b"%d/%d" % (user, number)).hexdigest()[:20],  # noqa: S324
                nick=f"nick{user:06d}",
                nodes=nodes,
            )
            for number, room in enumerate(self.rooms(user))
        ]

    async def remember(self, redis: Redis) -> None:
        """Fill Redis with the records of a component that ran before."""
        keys = Keys("mixpam")
        client: Any = Client.from_url(redis.url)
        for kind in range(_CLIENTS):
            key = disco.caps_keys(codec.read(self.presence(kind, 0)))
            assert key is not None
            record = CapabilityRecord(features=["urn:xmpp:mix:core:1"])
            await client.hset(
                keys.capabilities, CAPABILITY + key.cache_key, record.model_dump_json()
            )
        for first in range(0, self.users, _BATCH):
            async with client.pipeline(transaction=False) as pipeline:
                for user in range(first, min(first + _BATCH, self.users)):
                    self._remember_user(pipeline, keys, user)
                await pipeline.execute()
        await client.aclose()

    def _remember_user(self, pipeline: Any, keys: Keys, user: int) -> None:
        address = traffic.user(user)
        records = self.memberships(user)
        fields = {record.channel: record.model_dump_json() for record in records}
        if fields:
            pipeline.hset(keys.channels(address), mapping=fields)
            digests = {
                self.full(user, device).partition("/")[2]: digest_of(
                    said(Frame(self.presence(user, device)))
                )
                for device in range(self.devices)
            }
            pipeline.hset(keys.shown(address), mapping=digests)
