"""A XEP-0114 component under the test's control: a scripted peer."""

import hashlib

from harness import ns
from harness.loopback import Place
from harness.stanza import match
from harness.stream import Stream

SECRET = "component-secret-of-a-test"


class Link(Stream):
    """The connection of an external component with address `jid`."""

    content = ns.COMPONENT

    def __init__(self, jid: str, place: Place, *, port: int = 5347, secret: str = SECRET) -> None:
        super().__init__(jid)
        self.jid = jid
        self.place = place
        self.port = port
        self.secret = secret

    async def connect(self) -> "Link":
        """Connect and complete the handshake; everything after that is in the inbox."""
        await self._connect(self.place.ip, self.port)
        header = await self._open(self.jid)
        digest = hashlib.sha1((header["id"] + self.secret).encode()).hexdigest()  # noqa: S324
        self.send(f"<handshake>{digest}</handshake>")
        await self.expect(match("handshake"))
        return self

    async def fence(self) -> None:
        """Make a round trip to the server: everything on its way has arrived then."""
        await self.iq(
            f"<iq type='get' from='{self.jid}' to='{self.place.domain}'>"
            f"<ping xmlns='{ns.PING}'/></iq>"
        )
