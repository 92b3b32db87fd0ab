"""Two nodes of one ejabberd cluster, on loopback addresses of their own."""

import asyncio
import re
import socket
from typing import Final

from harness.client import Account, RawClient
from harness.ejabberd import Ejabberd
from harness.loopback import Block, Place, answering
from harness.machines import KINDS, Kind
from harness.stream import fresh

COOKIE: Final = "cookie-of-a-test"
DISTRIBUTION: Final = 4370
"""Port of each node on its own address, instead of one assigned by epmd."""

STARTED: Final = "ejabberd .* is started in the node"


class Node(Ejabberd):
    """An ejabberd node reachable by others; it serves the domain of `first`, if given."""

    def __init__(self, kind: Kind, block: Block, first: "Node | None" = None) -> None:
        super().__init__(kind, block)
        if first is not None:
            self.place = Place(self.place.ip, first.domain)
            self.domain, self.component = first.domain, first.component
            self.fake, self.stranger, self.honest = first.fake, first.stranger, first.honest

    @property
    def name(self) -> str:
        """Return the node's name."""
        return f"ejabberd@{self.place.ip}"

    def argv(self) -> list[str]:
        """Return the command: without epmd, and listening on this node's address only."""
        return [
            *super().argv(),
            "-name", self.name, "-setcookie", COOKIE,
            "-start_epmd", "false", "-erl_epmd_port", str(DISTRIBUTION),
            "-kernel", "inet_dist_use_interface", f"{{{self.place.ip.replace('.', ',')}}}",
        ]  # fmt: skip

    def write(self) -> None:
        """Write configuration and host names: erl_call needs the name of its own machine."""
        super().write()
        with self.hosts().open("a", encoding="utf-8") as hosts:
            hosts.write(f"127.0.0.1 {socket.gethostname()}\n")

    async def start(self) -> "Node":
        """Start the node and return when all of it runs, not only its ports."""
        await super().start()
        await self.process.line(STARTED)
        return self

    async def ask(self, expression: str) -> str:
        """Evaluate Erlang in the node and return the result as text. Fails on an error."""
        child = await asyncio.create_subprocess_exec(
            *self.machine.command(
                "/usr/lib/erlang/bin/erl_call",
                *("-address", f"{self.place.ip}:{DISTRIBUTION}", "-c", COOKIE, "-e"),
                hosts=self.hosts(),
            ),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(child.communicate(f"{expression}.\n".encode()), 20)
        answer = re.fullmatch(r"\{ok, (.*)\}", output.decode().strip(), re.DOTALL)
        assert answer, f"erl_call {expression}:\n{output.decode()}"
        return answer[1]

    async def join(self, other: "Node") -> None:
        """Join the cluster of `other`, as ``ejabberdctl join_cluster`` does."""
        mark = len(self.process.lines)
        # Not by the process that asks: its standard output would become ejabberd's.
        await self.ask(f"timer:apply_after(0, ejabberd_cluster, join, ['{other.name}'])")
        await self.process.line(STARTED, since=mark)
        for port in self.ports():
            await answering(self.place.ip, port)


class Cluster:
    """Two nodes of one domain; the first node's folder has the domain's name."""

    def __init__(self, kind: str, block: Block) -> None:
        self.first = Node(KINDS[kind], block)
        self.second = Node(KINDS[kind], block, self.first)
        self.nodes = (self.first, self.second)

    async def start(self) -> "Cluster":
        """Start both nodes and join them."""
        await asyncio.gather(*(node.start() for node in self.nodes))
        await self.second.join(self.first)
        return self

    async def stop(self) -> None:
        """Stop both nodes."""
        for node in self.nodes:
            await node.stop()


def at(node: Node, account: Account) -> Account:
    """Return the same account, for logging in at `node`."""
    return Account(account.jid, account.password, node.place)


async def session(
    node: Node, account: Account, resource: str = "", *, smacks: bool = False
) -> RawClient:
    """Log in on `node`, and send no presence."""
    return await RawClient(at(node, account), resource or fresh("r")).login(smacks=smacks)
