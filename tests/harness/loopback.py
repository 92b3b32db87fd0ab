"""Addresses of test instances: one loopback IP and one name for each.

Every pytest run claims a /22 of 127.0.0.0/8 for itself, so that several runs go on
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

NETS: Final = 4
HOSTS: Final = range(2, 251)
LAST: Final = NETS * len(HOSTS) - 1
LOCK_PORT: Final = 5999
SUBDOMAINS: Final = ("", "mix.", "fake.", "mixpam.", "stranger.", "two.")


@dataclass(frozen=True)
class Place:
    """Where one instance lives: `ip` and `domain`, a name that resolves to it."""

    ip: str
    domain: str


class Block:
    """Hold a /22 of loopback addresses for as long as this process lives.

    The claim is a bound socket, which no crash leaves behind.
    """

    def __init__(self) -> None:
        """Claim a free block. Raises OSError when none of 200 tries is free."""
        rng = random.Random(os.getpid())  # noqa: S311 - spreads runs, hides nothing
        for _ in range(200):
            second, third = rng.randint(64, 250), rng.randrange(0, 248, NETS)
            lock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                lock.bind((f"127.{second}.{third}.1", LOCK_PORT))
            except OSError:
                lock.close()
                continue
            self._second, self._third = second, third
            self._lock = lock
            self._next = 0
            return
        raise OSError("no free block of loopback addresses")

    def place(self) -> Place:
        """Take the next unused address and name."""
        number = self._next
        if number > LAST:
            raise OSError("all addresses of this run are used up")
        self._next += 1
        return Place(self._ip(number), f"n{number}.test")

    def _ip(self, number: int) -> str:
        net, host = divmod(number, len(HOSTS))
        return f"127.{self._second}.{self._third + net}.{HOSTS[host]}"

    def hosts(self) -> str:
        """Return all names of the block as lines of /etc/hosts."""
        return "".join(
            f"{self._ip(number)} " + " ".join(f"{sub}n{number}.test" for sub in SUBDOMAINS) + "\n"
            for number in range(LAST + 1)
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
