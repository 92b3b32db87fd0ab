"""The shipped dashboard and alerts, asked of a real Prometheus that scrapes the component."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness import caps
from harness.http import PORT, Http
from harness.loopback import Place
from harness.machines import REPOSITORY
from harness.process import Process
from harness.stack import Stack

FreshStack = Callable[..., Awaitable[Stack]]

DASHBOARD = REPOSITORY / "deploy/grafana/mixpam.json"
ALERTS = REPOSITORY / "deploy/prometheus/alerts.yml"

pytestmark = [
    pytest.mark.family,
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="prometheus is missing: apt-get install prometheus",
    ),
]


@asynccontextmanager
async def prometheus(place: Place) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Run Prometheus beside the component; give a function that asks its API."""
    folder = Path(tempfile.mkdtemp(prefix="mixpam-prometheus-"))
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        f"rule_files: [{ALERTS}]\n"
        "scrape_configs:\n"
        f"  - {{job_name: mixpam, static_configs: [{{targets: ['{place.ip}:{PORT}']}}]}}\n"
    )
    address = f"{place.ip}:9090"
    process = Process(
        "prometheus",
        [
            "prometheus", f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}",
        ],
        folder / "prometheus.log",
    )  # fmt: skip
    await process.start()
    try:
        await process.line("Server is ready to receive web requests", 30)
        async with aiohttp.ClientSession() as session:

            async def ask(path: str, **query: str) -> Any:
                async with session.get(f"http://{address}/api/v1/{path}", params=query) as answer:
                    body = await answer.json()
                    assert body["status"] == "success", (path, query, body)
                    return body["data"]

            yield ask
    finally:
        await process.stop()
        shutil.rmtree(folder, ignore_errors=True)


def queries() -> list[tuple[str, str]]:
    """Return title and expression of each query of the dashboard."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]


async def test_dashboard_and_alerts_fit_the_metrics(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack(component=False)
    http = Http(stack)
    await stack.mixpam.start()
    phone = await stack.raw(await stack.user(), "phone")
    await phone.mix_online(caps.MIX, "")
    channel = await stack.joined(phone)
    stranger = f"nobody@{stack.fake.jid}"
    async with prometheus(http.place) as ask:
        for number in range(12):
            stack.fake.say(channel.jid, phone.bare, str(number))
            stack.fake.say(stranger, phone.bare, "refused")
            stack.fake.send(f"<presence from='{stranger}/x' to='{phone.bare}'/>")
            await asyncio.sleep(1)
        for title, expression in queries():
            filled = (
                expression.replace("$__rate_interval", "8s")
                .replace("$job", "mixpam")
                .replace("$instance", ".*")
            )
            assert "$" not in filled, title
            found = (await ask("query", query=filled))["result"]
            assert found, f"{title}: nothing answers {filled}"
            numbers = [float(series["value"][1]) for series in found]
            assert all(number == number for number in numbers), f"{title}: {filled} {found}"  # noqa: PLR0124 - NaN
            if title == "Messages and deliveries":
                assert numbers[0] == pytest.approx(1, abs=0.5)
        groups = (await ask("rules"))["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert len(rules) == ALERTS.read_text(encoding="utf-8").count("- alert:")
        assert {rule["health"] for rule in rules} == {"ok"}, rules
        assert {rule["state"] for rule in rules} == {"inactive"}, rules
        names = set(await ask("label/__name__/values"))
        used = {
            word
            for _, expression in [*queries(), *((rule["name"], rule["query"]) for rule in rules)]
            for word in expression.replace("(", " ").replace("{", " ").replace("[", " ").split()
            if word.startswith(("mixpam_", "process_"))
        }
        assert used
        assert {word.rstrip(")") for word in used} <= names

        await stack.redis.stop()
        await stack.server.stop()

        async def pending() -> set[str]:
            groups = (await ask("rules"))["groups"]
            return {
                rule["name"]
                for group in groups
                for rule in group["rules"]
                if rule["state"] != "inactive"
            }

        wanted = {"MixpamNotReady", "MixpamRedisAway"}
        async with asyncio.timeout(20):
            while not wanted <= await pending():  # noqa: ASYNC110 - Prometheus wakes nobody
                await asyncio.sleep(0.5)
        await stack.mixpam.stop()
        async with asyncio.timeout(10):
            while "MixpamDown" not in await pending():  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.5)
