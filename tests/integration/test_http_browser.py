"""The status page in a real browser: live, readable without script, in every look.

MIXPAM_TEST_PICTURES names a folder for pictures of what was tested.
"""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from harness import caps
from harness.browser import Tab, browser, chromium
from harness.http import Http
from harness.stack import Stack

FreshStack = Callable[..., Awaitable[Stack]]

pytestmark = [
    pytest.mark.family,
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="chromium is missing: apt-get install chromium"),
]

# Texts whose contrast with what is behind them is below WCAG 2.1's 4.5:1.
FAINT = """
(() => {
  const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92
    : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.checkVisibility() || e.tagName === "SCRIPT") continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)} ${e.innerText}`);
  }
  return faint;
})()
"""


def keep(path: Path, picture: bytes) -> None:
    """Write a picture for people to look at."""
    path.write_bytes(picture)


async def good_looks(tab: Tab, name: str) -> None:
    """Assert that nothing sticks out or is faint, in every look."""
    for width in (1100, 390, 320):
        for dark in (False, True):
            await tab.look(width=width, dark=dark)
            look = f"{name}-{width}-{'dark' if dark else 'light'}"
            wide = await tab.js("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{look}: {wide} pixels stick out"
            assert await tab.js(FAINT) == [], look
            if folder := os.environ.get("MIXPAM_TEST_PICTURES"):
                keep(Path(folder) / f"{look}.png", await tab.picture())
    await tab.look(width=1100, dark=False)


async def test_the_page_lives(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack(component=False)
    http = Http(stack)
    await stack.mixpam.start()
    account = await stack.user()
    phone = await stack.raw(account, "phone")
    await phone.mix_online(caps.MIX, "")
    channel = await stack.joined(phone)
    async with browser() as tab:
        await tab.open(f"{http.base}/")
        assert "All is well." in await tab.js("document.getElementById('state').innerText")
        await tab.js("window.sameDocument = true")
        tiles = "document.getElementById('numbers').innerText"
        await tab.until(f"{tiles}.includes('of 1 device online')")

        # A search does not load the page anew, and what it shows follows the truth.
        await tab.js(
            f"document.querySelector('[name=user]').value = '{account.jid}';"
            "document.querySelector('form').requestSubmit()"
        )
        person = "document.getElementById('person').innerText"
        await tab.until(f"{person}.includes('1 device online, 1 with MIX; in 1 channel')")
        plain = await stack.raw(account, "plain")
        await plain.mix_online(caps.PLAIN, "")
        await tab.until(f"{person}.includes('2 devices online, 1 with MIX')")
        await tab.until(f"{tiles}.includes('of 2 devices online')")
        for number in range(20):
            stack.fake.say(channel.jid, account.jid, str(number))
        await tab.until("document.querySelector('.chart .axis').innerText.match(/at most [1-9]/)")
        await good_looks(tab, "well")

        await stack.server.stop()
        state = "document.getElementById('state').innerText"
        await tab.until(f"{state}.includes('MIXPAM_SERVER_HOST')")
        await tab.until(
            "document.getElementById('problems').innerText.includes('There is no link')"
        )
        await good_looks(tab, "link-down")
        assert await tab.js("window.sameDocument")
        assert tab.complaints == []
        assert all(url.startswith((http.base, "data:")) for url in tab.fetched)

        await stack.mixpam.stop()
        await tab.until("!document.getElementById('gone').hidden")
        await good_looks(tab, "gone")


async def test_the_page_without_script_and_with_a_token(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack(component=False)
    http = Http(stack, MIXPAM_HTTP_TOKEN="correct-horse-battery")
    await stack.mixpam.start()
    phone = await stack.raw(await stack.user(), "phone")
    await phone.mix_online(caps.MIX, "")
    async with browser() as tab:
        await tab.open(f"{http.base}/")
        assert await tab.js("location.pathname") == "/login"
        await good_looks(tab, "login")
        enter = (
            "document.querySelector('[name=token]').value = '%s';"
            "document.querySelector('form').requestSubmit()"
        )
        await tab.js(enter % "wrong")
        await tab.until("document.body && document.body.innerText.includes('That is not it.')")
        await tab.js(enter % "correct-horse-battery")
        await tab.until("location.pathname === '/' && document.getElementById('state') !== null")
        await tab.until(
            "performance.getEntriesByType('resource').some(e => e.name.includes('live'))"
        )
        assert await tab.js("document.getElementById('gone').hidden")

        await tab.do("Emulation.setScriptExecutionDisabled", value=True)
        await tab.do("Page.navigate", url=f"{http.base}/?user={phone.bare}")
        await tab.until("document.readyState === 'complete'")
        html = await tab.html()
        assert "Its verified capabilities hash lists MIX." in html
        assert "All is well." in html
        assert '<meta http-equiv="refresh"' in html
