"""A system whose component knows an admin, and channels that tell who is in them."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from harness import ns
from harness.client import Account, register
from harness.fake import Script, error, result
from harness.loopback import Block
from harness.stack import MixHost, Stack
from harness.stanza import Stanza


@contextlib.asynccontextmanager
async def operated(
    kind: str, block: Block, mix_host: MixHost, logs: Any, **settings: str
) -> AsyncIterator[tuple[Stack, Account]]:
    """Run a system and give it, and the account that its component takes commands from."""
    stack = Stack(kind, block, mix_host, **settings)
    for folder in stack.folders:
        logs.add(folder)
    try:
        with logs.kept_on_error(*stack.folders):
            await stack.start(component=False)
            admin = await register(stack.server.place, name="admin")
            environment = stack.mixpam.process.env
            assert environment is not None
            environment["MIXPAM_ADMINS"] = f"someone@else.example,{admin.jid}"
            await stack.mixpam.start()
        yield stack, admin
    finally:
        await stack.stop()
        for folder in stack.folders:
            logs.done(folder)


def tells(channel: Script, *members: tuple[str, str | None], core: str = ns.CORE1) -> None:
    """Have a channel tell its participants: pairs of id and JID, None for a hidden one."""
    items = "".join(
        f"<item id='{id_}'><participant xmlns='{core}'><nick>third</nick>"
        + ("" if jid is None else f"<jid>{jid}</jid>")
        + "</participant></item>"
        for id_, jid in members
    )

    def answer(stanza: Stanza) -> str:
        node = stanza.find(
            f"{{{ns.PUBSUB}}}pubsub/{{{ns.PUBSUB}}}items[@node='{ns.NODES}participants']"
        )
        if node is None:
            return error(stanza, "cancel", "feature-not-implemented")
        inner = f"<items node='{ns.NODES}participants'>{items}</items>"
        return result(stanza, f"<pubsub xmlns='{ns.PUBSUB}'>{inner}</pubsub>")

    channel.other = answer


def refuses(channel: Script, condition: str) -> None:
    """Have a channel refuse whatever else it is asked."""
    channel.other = lambda stanza: error(stanza, "auth", condition)
