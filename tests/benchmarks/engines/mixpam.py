"""The component's own lanes: link.stream, framing, routing and copying, as `run` has them.

Only Redis and the tap are left out: the state is put into the mirror by hand.
"""

import asyncio
import logging
import sys

import structlog
import uvloop

from benchmarks import traffic
from component.core.presence.announce import digest_of
from component.core.users.mirror import Membership, Mirror
from component.core.users.sessions import Speaks, said
from component.engine import Engine
from component.link.stream import Stream
from component.wire.framing import Frame
from schemas import jid
from schemas.settings import Settings

KEEPALIVE = 3_000
PRESENCE = (
    "<presence from='{full}' to='{component}' xml:lang='en'><show>away</show>"
    "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:example:client'"
    " ver='q07IKJEyjvHSyhy//CH0CxmKi8w='/></presence>"
)

# Only problems may appear among the tables.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def populate(
    mirror: Mirror,
    users: int,
    devices: int,
    *,
    per_user: int = traffic.CHANNELS_PER_USER,
    channels: int = traffic.CHANNELS,
    speaks: Speaks = Speaks.MIX,
) -> None:
    """Enter users with their devices and channels."""
    for number in range(users):
        user = jid.parse(traffic.user(number))
        row = mirror.row(user)
        rooms = [
            jid.parse(traffic.channel(each))
            for each in traffic.channels_of(number, per_user, channels)
        ]
        mirror.enter(
            user, [Membership(room, f"p{number}", None, ("messages",), 1, True) for room in rooms]
        )
        for device in range(1, devices + 1):
            full = jid.parse(f"{traffic.user(number)}/d{device}")
            presence = PRESENCE.format(full=full, component=traffic.COMPONENT).encode()
            session = row.devices.come(f"d{device}", said(Frame(presence)))
            session.speaks = speaks
            # Realistic: MIX devices have been announced to the channels.
            row.show(session.resource, digest_of(session.presence))


def settings(port: int = 5347) -> Settings:
    """Return the component's settings for this benchmark."""
    return Settings.model_validate(
        {
            "component_jid": traffic.COMPONENT,
            "secret": "secret",
            "domains": traffic.DOMAIN,
            "server_port": port,
            # The feeder answers no pings while it is busy with another engine.
            "keepalive": KEEPALIVE,
        }
    )


async def _main(port: int, devices: int, speaks: Speaks, *, gathers: bool) -> None:
    configured = settings(port)
    engine = Engine(configured)
    populate(engine.core.mirror, traffic.USERS, devices, speaks=speaks)
    if gathers:
        # Known to the feeder, which plays the tap.
        engine.core.multicast.begin(traffic.DOMAIN)
        engine.core.multicast.gathering = traffic.GATHERING.encode()
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(
        lambda: Stream(
            configured.component_jid,
            configured.secret.get_secret_value(),
            traffic.DOMAIN,
            engine,
            max_bytes=configured.max_stanza_bytes,
            keepalive=configured.keepalive,
        ),
        "127.0.0.1",
        port,
    )
    print(await stream.ended, file=sys.stderr)


if __name__ == "__main__":
    speaks = Speaks.CORE_1 if "core1" in sys.argv[3:] else Speaks.MIX
    gathers = "gathered" in sys.argv[3:]
    uvloop.run(_main(int(sys.argv[1]), int(sys.argv[2]), speaks, gathers=gathers))
