"""Where everything in the demo is: address, domains, and the standard ports if they are free."""

from __future__ import annotations

import socket
from ipaddress import ip_address

IP = "127.0.0.1"
DOMAIN = "localhost"
COMPONENT = "mixpam.localhost"
REMOTE = "coven.example"
"""Domain of the other server, where Prosody's users find their channel."""
"""Everything in the demo listens here and nowhere else."""


def choose(wanted: int, taken: set[int]) -> int:
    """Return `wanted` if it is free, else any free port; it is added to `taken`."""
    for port in (wanted, *([0] * 50)):
        got = _free(port)
        if got is not None and got not in taken:
            taken.add(got)
            return got
    raise OSError("no free port")


def _free(port: int) -> int | None:
    """Return a port that can be listened on: `port`, or any if that is 0."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: a connection that has just ended is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((IP, port))
        except OSError:
            return None
        return int(probe.getsockname()[1])


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, by an address that others cannot reach."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
