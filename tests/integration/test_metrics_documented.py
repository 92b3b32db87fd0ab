"""The operator's table of metrics beside what a running component says."""

import re
from collections.abc import Awaitable, Callable

from harness.http import Http
from harness.machines import REPOSITORY
from harness.stack import Stack

PAGE = REPOSITORY / "deploy/docs/metrics.md"


async def test_a_running_component_exports_what_the_page_lists(
    fresh_stack: Callable[..., Awaitable[Stack]],
) -> None:
    stack = await fresh_stack(component=False)
    http = Http(stack)
    await stack.mixpam.start()
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| ([^|]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    listed = {
        name + part
        for name, kind, _ in rows
        for part in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }
    # One with labels may have had no occasion yet.
    at_once = {name for name, kind, labels in rows if (kind, labels) == ("gauge", "none")}
    exported = {name for name, _ in await http.metrics()}
    assert exported <= listed
    assert at_once
    assert at_once <= exported
