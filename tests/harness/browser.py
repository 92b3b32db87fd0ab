"""A real browser, driven by the DevTools protocol: Debian's chromium, headless."""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from harness.process import Process

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip


def chromium() -> str | None:
    """Return the path of chromium, None if it is not installed."""
    return shutil.which("chromium")


class Tab:
    """One page; `complaints` has the browser's errors, `fetched` the addresses it fetched."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.complaints: list[str] = []
        self.fetched: list[str] = []

    async def listen(self) -> None:
        """Take the browser's messages until it sends no more."""
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._waiting.pop(said["id"]).set_result(said)
            elif said["method"] == "Network.requestWillBeSent":
                self.fetched.append(said["params"]["request"]["url"])
            elif said["method"] in {"Log.entryAdded", "Runtime.exceptionThrown"}:
                self.complaints.append(json.dumps(said["params"]))

    async def do(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send a command and return its result. Fails if the browser refuses."""
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_str(
            json.dumps({"id": number, "method": method, "params": parameters})
        )
        said = await asyncio.wait_for(answer, 20)
        assert "error" not in said, said
        return dict(said["result"])

    async def js(self, expression: str) -> Any:
        """Evaluate JavaScript and return its value."""
        result = await self.do(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def open(self, url: str) -> None:
        """Open an address and wait until the document is loaded."""
        await self.do("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def until(self, expression: str, seconds: float = 15) -> None:
        """Wait until JavaScript is true."""
        async with asyncio.timeout(seconds):
            while not await self.js(expression):  # noqa: ASYNC110 - the page is not ours to wake
                await asyncio.sleep(0.1)

    async def html(self) -> str:
        """Return the current document, even if scripts are disabled."""
        root = await self.do("DOM.getDocument", depth=0)
        outer = await self.do("DOM.getOuterHTML", nodeId=root["root"]["nodeId"])
        return str(outer["outerHTML"])

    async def look(self, *, width: int, dark: bool) -> None:
        """Show the page in a window of that width, light or dark."""
        await self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.do("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self) -> bytes:
        """Return a picture of the whole page, as PNG."""
        shot = await self.do("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Tab]:
    """Run chromium with a fresh profile and yield its one tab."""
    profile = Path(tempfile.mkdtemp(prefix="mixpam-chromium-"))
    process = Process(
        "chromium",
        [chromium() or "chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        profile / "chromium.log",
        env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(profile)},
    )
    await process.start()
    try:
        line = await process.line(r"DevTools listening on ws://", 30)
        port = line.partition("ws://127.0.0.1:")[2].partition("/")[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                pages = [page for page in await answer.json() if page["type"] == "page"]
            async with session.ws_connect(
                pages[0]["webSocketDebuggerUrl"], max_msg_size=2**26
            ) as socket:
                tab = Tab(socket)
                listening = asyncio.create_task(tab.listen())
                for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
                    await tab.do(f"{domain}.enable")
                yield tab
                listening.cancel()
    finally:
        await process.stop()
        shutil.rmtree(profile, ignore_errors=True)
