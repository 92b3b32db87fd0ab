"""Addresses of test instances: one loopback IP and one name for each.

Every pytest run claims a /24 of 127.0.0.0/8 for itself, so that several runs go on
side by side, and every server in it has an IP of its own. So all of them use the
standard ports, which server-to-server connections without SRV records need.
Instance 7 is ``n7.test``, and every name below it leads to the same IP.
"""

import asyncio
import os
import random
import socket
import time
from dataclasses import dataclass
from typing import Final

FIRST: Final = 2
LAST: Final = 250
LOCK_PORT: Final = 5999
SUBDOMAINS: Final = ("", "mix.", "fake.", "mixpam.", "stranger.", "two.")


@dataclass(frozen=True)
class Place:
    """Where one instance lives: `ip` and `domain`, a name that resolves to it."""

    ip: str
    domain: str


class Block:
    """Hold a /24 of loopback addresses for as long as this process lives.

    The claim is a bound socket, which no crash leaves behind.
    """

    def __init__(self) -> None:
        """Claim a free block. Raises OSError when none of 200 tries is free."""
        rng = random.Random(os.getpid())  # noqa: S311 - spreads runs, hides nothing
        for _ in range(200):
            prefix = f"127.{rng.randint(64, 250)}.{rng.randint(1, 250)}"
            lock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                lock.bind((f"{prefix}.1", LOCK_PORT))
            except OSError:
                lock.close()
                continue
            self.prefix = prefix
            self._lock = lock
            self._next = FIRST
            return
        raise OSError("no free block of loopback addresses")

    def place(self) -> Place:
        """Take the next unused address and name."""
        number = self._next
        if number > LAST:
            raise OSError("all addresses of this run are used up")
        self._next += 1
        return Place(f"{self.prefix}.{number}", f"n{number}.test")

    def hosts(self) -> str:
        """Return all names of the block as lines of /etc/hosts."""
        return "".join(
            f"{self.prefix}.{number} "
            + " ".join(f"{sub}n{number}.test" for sub in SUBDOMAINS)
            + "\n"
            for number in range(FIRST, LAST + 1)
        )

    def close(self) -> None:
        """Give the block back."""
        self._lock.close()


async def answering(ip: str, port: int, within: float = 30.0) -> None:
    """Wait until something accepts connections on `ip`:`port`.

    Raises TimeoutError after `within` seconds.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            _, writer = await asyncio.open_connection(ip, port)
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing answers on {ip}:{port} after {within} s") from None
            await asyncio.sleep(0.02)
            continue
        writer.close()
        return
