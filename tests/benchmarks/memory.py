"""Bytes per user of the mirror, and how long a start with so many users takes.

Each size is measured in a process of its own: memory that an earlier one freed would
flatter the later one.
"""

import argparse
import asyncio
import gc
import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any

from harness.loopback import Block
from harness.redis import Redis

from benchmarks import traffic
from benchmarks.engines.mixpam import populate
from benchmarks.processes import resident_bytes
from benchmarks.report import Report, table
from component.core.context import Limits
from component.core.machine import Core
from component.core.mirror import Mirror
from component.store.client import connect
from component.store.keys import Keys
from component.store.reading import Reader
from schemas import jid
from schemas.records import MembershipRecord
from schemas.settings import Settings

_CHILD = "--child"
_BATCH = 500


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--users", default="10000,100000", help="numbers of users")
    parser.add_argument("--devices", type=int, default=2, help="of each user")
    parser.add_argument("--channels", type=int, default=10, help="of each user")
    parser.add_argument(
        "--load-users", default="10000", help="users in Redis at a start; empty for none"
    )


def _mirror(users: int, devices: int, channels: int) -> dict[str, float]:
    """Fill a mirror; return bytes and seconds."""
    gc.collect()
    before, start = resident_bytes(os.getpid()), time.process_time()
    mirror = Mirror()
    populate(mirror, users, devices, per_user=channels)
    for row in mirror.rows.values():
        _ = row.copies  # made at the first message
    filled = time.process_time() - start
    grown = resident_bytes(os.getpid()) - before
    start = time.process_time()
    gc.collect()
    return {"bytes": grown / users, "fill_s": filled, "gc_s": time.process_time() - start}


async def _load(users: int, channels: int) -> dict[str, float]:
    """Put memberships into a real Redis and start from them."""
    block = Block()
    redis = Redis(block)
    await redis.start()
    settings = Settings.model_validate(
        {
            "component_jid": traffic.COMPONENT,
            "secret": "secret",
            "domains": traffic.DOMAIN,
            "redis_url": redis.url,
        }
    )
    problems: list[str] = []
    client = connect(settings, named=False)
    keys = Keys(settings.redis_prefix)
    reader = Reader(client, keys, lambda event, *_, **__: problems.append(event))
    try:
        await _fill(client, keys, users, channels)
        gc.collect()
        before, start, cpu = resident_bytes(os.getpid()), time.perf_counter(), time.process_time()
        loaded = await reader.load()
        core = Core(jid.parse(traffic.COMPONENT), (traffic.DOMAIN,), Limits(), lambda: "i")
        for user, record in loaded.memberships:
            core.load_membership(user, record)
        result = {
            "load_s": time.perf_counter() - start,
            "load_cpu_s": time.process_time() - cpu,
            "load_bytes": (resident_bytes(os.getpid()) - before) / users,
        }
        if len(loaded.memberships) != users * channels or problems:
            raise RuntimeError(f"{len(loaded.memberships)} memberships came back, {problems[:3]}")
        return result
    finally:
        await client.aclose()
        await redis.stop()
        block.close()
        shutil.rmtree(redis.folder, ignore_errors=True)


async def _fill(client: Any, keys: Keys, users: int, channels: int) -> None:
    """Write records as the store does, but many at once."""
    for first in range(0, users, _BATCH):
        async with client.pipeline(transaction=False) as pipeline:
            for number in range(first, min(first + _BATCH, users)):
                fields = {}
                for each in traffic.channels_of(number, channels):
                    record = MembershipRecord(
                        channel=traffic.channel(each),
                        participant_id=f"p{number}",
                        nick="somebody",
                        nodes=["urn:xmpp:mix:nodes:messages", "urn:xmpp:mix:nodes:participants"],
                    )
                    fields[record.channel] = record.model_dump_json()
                pipeline.hset(keys.channels(traffic.user(number)), mapping=fields)
            await pipeline.execute()


def _in_child(*arguments: object) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", _CHILD, *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return dict(json.loads(done.stdout))


def run(options: argparse.Namespace, report: Report) -> None:
    """Run the benchmark."""
    rows = []
    for users in map(int, options.users.split(",")):
        found = _in_child("mirror", users, options.devices, options.channels)
        rows.append(
            [f"{users:,}", f"{found['bytes']:,.0f}", f"{found['bytes'] * users / 2**20:,.0f}",
             f"{found['gc_s'] * 1000:,.0f}"]
        )  # fmt: skip
        report.add(f"memory/mirror/{users}/bytes_per_user", found["bytes"])
        report.add(f"memory/mirror/{users}/gc_ms", found["gc_s"] * 1000)
    table(
        f"Mirror: {options.devices} devices and {options.channels} channels each, resident memory",
        ["users", "bytes/user", "MiB", "full gc, ms"],
        rows,
    )
    rows = []
    for users in [int(each) for each in options.load_users.split(",") if each]:
        found = _in_child("load", users, options.channels)
        rows.append(
            [f"{users:,}", f"{users * options.channels:,}", f"{found['load_s']:.2f}",
             f"{found['load_cpu_s']:.2f}", f"{found['load_s'] / users * 1e6:,.0f}",
             f"{found['load_bytes']:,.0f}"]
        )  # fmt: skip
        report.add(f"memory/load/{users}/seconds", found["load_s"])
        report.add(f"memory/load/{users}/us_per_user", found["load_s"] / users * 1e6)
    if rows:
        table(
            "Start from a real Redis, no devices yet",
            ["users", "memberships", "seconds", "CPU s", "us/user", "bytes/user"],
            rows,
        )


def _child(what: str, *numbers: str) -> None:
    counts = [int(number) for number in numbers]
    found = _mirror(*counts) if what == "mirror" else asyncio.run(_load(*counts))
    print(json.dumps(found))


if __name__ == "__main__" and sys.argv[1:2] == [_CHILD]:
    _child(*sys.argv[2:])
