"""What systemd hears from a component on a real server, on a socket in systemd's place."""

import asyncio
import socket
from pathlib import Path
from typing import Any


class Manager:
    """Listens where systemd would."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    async def hear(self, start: str, within: float = 15) -> str:
        """Return the next message that begins with `start`; others are passed over."""
        async with asyncio.timeout(within):
            while True:
                heard = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
                if heard.decode().startswith(start):
                    return heard.decode()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


async def test_started_alive_and_stopping(fresh_stack: Any, tmp_path: Path) -> None:
    manager = Manager(tmp_path)
    try:
        stack = await fresh_stack(
            component=False, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="400000"
        )
        await stack.server.stop()
        await stack.mixpam.process.start()
        # Without a server it is not started; the reason is what `systemctl status` shows.
        waiting = await manager.hear("STATUS=no link")
        assert "MIXPAM_SERVER_HOST" in waiting
        await stack.server.start()
        await manager.hear("READY=1", 45)
        await stack.mixpam.ready()
        await manager.hear("WATCHDOG=1", 1)
        stack.mixpam.process.freeze()
        await asyncio.sleep(0.1)
        while_frozen = asyncio.create_task(manager.hear("WATCHDOG=1", 5))
        # What was under way before it froze may still be in the socket; then silence.
        await asyncio.sleep(0.5)
        if while_frozen.done():
            while_frozen = asyncio.create_task(manager.hear("WATCHDOG=1", 5))
            await asyncio.sleep(0.5)
        assert not while_frozen.done()
        stack.mixpam.process.thaw()
        await while_frozen
        stopping = asyncio.create_task(manager.hear("STOPPING=1"))
        await stack.mixpam.stop()
        await stopping
    finally:
        manager.close()
