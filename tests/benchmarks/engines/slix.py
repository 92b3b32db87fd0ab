"""slixmpp's ComponentXMPP: a handler that sends each message on to every device."""

import asyncio
import copy
import sys

from slixmpp import Message
from slixmpp.componentxmpp import ComponentXMPP
from slixmpp.jid import JID

from benchmarks import traffic


def _main(port: int, devices: int) -> None:
    # slixmpp makes its own loop from the policy's.
    asyncio.set_event_loop(asyncio.new_event_loop())
    component = ComponentXMPP(  # type: ignore[no-untyped-call] # slixmpp says no types here
        traffic.COMPONENT, "secret", "127.0.0.1", port
    )

    def fan_out(message: Message) -> None:
        bare = message["to"].bare
        for number in range(1, devices + 1):
            each = copy.copy(message)
            each["to"] = JID(f"{bare}/d{number}")
            each.send()

    component.add_event_handler("message", fan_out)
    component.connect()
    print("ready", flush=True)
    component.loop.run_until_complete(component.disconnected)


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]))
