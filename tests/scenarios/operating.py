"""A system whose component knows an admin."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from harness.client import Account, register
from harness.loopback import Block
from harness.stack import MixHost, Stack


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
