"""The mirror alone: its growth for each user, with as many cached targets as it keeps.

Run as a process of its own; prints the bytes per user. Filled in the usual order: channels first,
sessions later.
"""

import gc
import os
import sys

from benchmarks import traffic
from benchmarks.population import Population
from benchmarks.processes import resident_bytes
from component.core.presence.announce import digest_of
from component.core.users.mirror import Mirror
from component.core.users.packed import Member
from component.core.users.routes import MOST
from component.core.users.sessions import Speaks, said
from component.wire.framing import Frame
from schemas import jid


def _enter_channels(mirror: Mirror, people: Population, user: int) -> None:
    members = [Member.of(each) for each in people.memberships(user)]
    mirror.load(jid.parse(traffic.user(user)), members)


def _enter_sessions(mirror: Mirror, people: Population, user: int) -> None:
    row = mirror.rows[traffic.user(user).encode()]
    for number in range(people.devices):
        presence = said(Frame(people.presence(user, number)))
        resource = people.full(user, number).partition("/")[2]
        device = row.devices.come(resource, presence)
        device.speaks = Speaks.CORE_1
        row.show(resource, digest_of(presence))


def main(users: int, devices: int, channels: int) -> float:
    """Fill a mirror; give the bytes per user."""
    people, mirror = Population(users, devices, channels), Mirror()
    # Data made once, like caches, belongs to no user.
    _enter_channels(mirror, people, 0)
    _enter_sessions(mirror, people, 0)
    gc.collect()
    before = resident_bytes(os.getpid())
    for user in range(1, users):
        _enter_channels(mirror, people, user)
    for user in range(1, users):
        _enter_sessions(mirror, people, user)
    for row in list(mirror.rows.values())[: MOST - 1]:
        assert row.line
    gc.collect()
    return (resident_bytes(os.getpid()) - before) / (users - 1)


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
