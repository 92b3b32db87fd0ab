"""Queries the component's HTTP port, as Prometheus, probes and operators do."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from harness.stack import Stack

PORT = 5405

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True)
class Reply:
    """An answer: status, headers and text."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.text)


class Http:
    """The HTTP port of a stack's component, on an address of its own."""

    def __init__(self, stack: Stack, **settings: str) -> None:
        self.place = stack.server.place
        self.base = f"http://{self.place.ip}:{PORT}"
        stack.mixpam.process.env = {
            **(stack.mixpam.process.env or {}),
            "MIXPAM_HTTP_HOST": self.place.ip,
            **settings,
        }

    async def ask(
        self, path: str, *, method: str = "GET", data: dict[str, str] | None = None, **headers: str
    ) -> Reply:
        """Send one request, following no redirect; `_` in header names stands for `-`."""
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=10), cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            async with session.request(
                method, self.base + path, data=data, headers=sent, allow_redirects=False
            ) as answer:
                return Reply(answer.status, dict(answer.headers), await answer.text())

    async def until(self, path: str, wanted: Callable[[Reply], bool], seconds: float = 15) -> Reply:
        """Repeat a request until the answer is as wanted. Fails with the last one."""
        reply = None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        reply = await self.ask(path)
                    except aiohttp.ClientError:
                        await asyncio.sleep(0.1)
                        continue
                    if wanted(reply):
                        return reply
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{path} never as wanted, at last: {reply}") from None

    async def metrics(self) -> Samples:
        """Return all samples of a scrape."""
        reply = await self.ask("/metrics")
        assert reply.status == 200
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(reply.text)
            for sample in family.samples
        }


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return one sample, 0 if it does not exist yet."""
    return samples.get((name, frozenset(labels.items())), 0.0)
