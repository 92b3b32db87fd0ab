"""Ad-hoc commands driven by Gajim's library, in the steps of Gajim's assistant."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from harness.client import Account
from harness.loopback import Block
from harness.stack import MixHost, Stack
from harness.steps import leaves, memberships
from operating import operated

PYTHON = "/usr/bin/python3"
PROGRAM = Path(__file__).with_name("gajims_library.py")


def installed() -> bool:
    """Tell whether the system's Python has nbxmpp and GLib."""
    command = [PYTHON, "-c", "import gi, nbxmpp.client"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not installed(), reason="nbxmpp is missing: apt-get install python3-nbxmpp"
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(
    server_kind: str, block: Block, mix_host: MixHost, logs: Any
) -> AsyncIterator[tuple[Stack, Account]]:
    """Run a system with an admin."""
    async with operated(server_kind, block, mix_host, logs) as made:
        yield made


async def assistant(
    stack: Stack, account: Account, *steps: tuple[str, dict[str, Any] | None]
) -> Any:
    """Have an account run commands; give what Gajim would show."""
    child = await asyncio.create_subprocess_exec(
        PYTHON, str(PROGRAM),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    task = {
        "ip": account.place.ip,
        "jid": account.jid,
        "password": account.password,
        "component": stack.component,
        "steps": steps,
    }
    out, err = await child.communicate(json.dumps(task).encode())
    assert child.returncode == 0, err.decode()
    return json.loads(out)


async def test_the_list_and_commands_that_only_show(house: tuple[Stack, Account]) -> None:
    stack, admin = house
    user = await stack.raw(await stack.user())
    channel = await stack.joined(user)
    seen = await assistant(
        stack, admin,
        ("mixpam:show-user", {"user": user.bare}),
        ("mixpam:show-channel", {"channel": channel.jid}),
        ("mixpam:statistics", {}),
    )  # fmt: skip
    assert seen["commands"] == {
        "mixpam:show-user": "Show user",
        "mixpam:show-channel": "Show channel",
        "mixpam:leave": "Force leave",
        "mixpam:reconcile": "Reconcile user",
        "mixpam:statistics": "Statistics",
    }
    (asked, shown), (_, members), (numbers,) = seen["steps"]
    assert asked["title"] == "Show user"
    assert asked["instructions"]
    assert asked["buttons"] == ["cancel", "complete"]
    assert asked["default"] == "complete"
    assert asked["fields"]["user"]["type"] == "jid-single"
    assert asked["fields"]["user"]["required"] is True
    # The button stays grey until the field is filled in.
    assert asked["valid"] is False
    assert asked["valid when filled in"] is True
    assert shown["completed"] is True
    assert f"{channel.jid}: participant id {channel.pid}" in shown["fields"]["channels"]["value"]
    assert user.bare in members["fields"]["members"]["value"]
    assert numbers["completed"] is True
    assert int(numbers["fields"]["memberships"]["value"]) >= 1
    for page in (shown, members, numbers):
        assert all(field["label"] for field in page["fields"].values())


async def test_commands_that_do_something(house: tuple[Stack, Account]) -> None:
    stack, admin = house
    user = await stack.raw(await stack.user())
    channel, other = await stack.joined(user), await stack.joined(user)
    leave = {"user": user.bare, "channel": channel.jid}
    seen = await assistant(
        stack, admin,
        ("mixpam:leave", None),
        ("mixpam:leave", leave),
        ("mixpam:leave", leave),
        ("mixpam:reconcile", {"user": user.bare, "dry-run": False}),
    )  # fmt: skip
    (_, canceled), (_, done), (_, refused), (asked, reconciled) = seen["steps"]
    assert canceled["canceled"] is True
    assert done["notes"] == [f"{user.bare} is out of {channel.jid}; the channel is being told."]
    assert "fields" not in done
    assert refused == {"error": "item-not-found", "text": f"{user.bare} is not in {channel.jid}"}
    assert asked["fields"]["dry-run"]["type"] == "boolean"
    assert asked["fields"]["dry-run"]["value"] is True
    assert reconciled["notes"] == ["Repaired."]
    assert "findings" in reconciled["fields"]
    await stack.fake.expect(leaves(channel.jid))
    await stack.settle(user)
    assert await memberships(user) == {other.jid: other.pid}


async def test_nobody_else_gets_a_list(house: tuple[Stack, Account]) -> None:
    stack, _ = house
    seen = await assistant(stack, await stack.user(), ("mixpam:statistics", {}))
    assert seen == {"commands": {}, "steps": [], "error": "forbidden"}
