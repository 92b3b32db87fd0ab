"""A private Redis, configured as mixpam tells operators to."""

import shutil
from typing import Any

from redis.asyncio import Redis as Client

from harness.loopback import Block
from harness.machines import temporary
from harness.process import Process


class Redis:
    """redis-server on its own address, with AOF and without eviction."""

    def __init__(self, block: Block) -> None:
        self.place = block.place()
        self.folder = temporary("redis")
        self.url = f"redis://{self.place.ip}:6379/0"
        self.process = Process(
            "redis",
            [
                "redis-server", "--bind", self.place.ip, "--port", "6379", "--save", "",
                "--appendonly", "yes", "--maxmemory-policy", "noeviction",
                "--dir", str(self.folder),
            ],
            self.folder / "redis.log",
        )  # fmt: skip

    async def start(self) -> "Redis":
        """Start the server and return when it answers."""
        await self.process.start()
        await self.process.answers(self.place.ip, 6379)
        # It listens before it has read its files.
        await self.process.line("Ready to accept connections")
        return self

    async def stop(self, *, kill: bool = False) -> None:
        """Stop the server; its data stays."""
        await self.process.stop(kill=kill)

    async def ask(self, *words: str, password: str | None = None) -> Any:
        """Send the server a command, as an administrator does."""
        client = Client(host=self.place.ip, password=password, decode_responses=True, protocol=2)
        try:
            answer: Any = await client.execute_command(*words)  # type: ignore[no-untyped-call]
            return answer
        finally:
            await client.aclose()

    async def contents(self, prefix: str = "mixpam:{") -> dict[str, dict[str, str]]:
        """Return all hashes whose names begin with `prefix`."""
        names = [name for name in await self.ask("KEYS", "*") if name.startswith(prefix)]
        hashes = [name for name in names if await self.ask("TYPE", name) == "hash"]
        return {name: await self.ask("HGETALL", name) for name in hashes}

    async def lose(self) -> None:
        """Restart it with an empty disk."""
        await self.process.stop(kill=True)
        shutil.rmtree(self.folder / "appendonlydir")
        await self.start()

    def remove(self) -> None:
        """Delete data and logs."""
        shutil.rmtree(self.folder, ignore_errors=True)
