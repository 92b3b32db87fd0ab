"""Ad-hoc commands: what an admin's client can do, and that nobody else can."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from harness import ns
from harness.client import Account
from harness.device import Device
from harness.loopback import Block
from harness.participants import tells
from harness.stack import MixHost, Stack
from harness.stanza import Stanza
from harness.steps import leaves, memberships
from operating import operated

COMMANDS = "http://jabber.org/protocol/commands"
NODES = {
    "mixpam:show-user",
    "mixpam:show-channel",
    "mixpam:leave",
    "mixpam:reconcile",
    "mixpam:statistics",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(
    server_kind: str, block: Block, mix_host: MixHost, logs: Any
) -> AsyncIterator[tuple[Stack, Account]]:
    """Run a system with an admin."""
    async with operated(server_kind, block, mix_host, logs) as made:
        yield made


async def slix(stack: Stack, account: Account) -> Device:
    """Return an online slixmpp device that can do ad-hoc commands."""
    device = Device(account, "console", mix=False)
    device.xmpp.register_plugin("xep_0004")
    device.xmpp.register_plugin("xep_0050")
    stack.devices.append(device)
    return await device.online()


async def fill_in(device: Device, component: str, node: str, **values: str) -> Any:
    """Run a command as slixmpp's users do: get its form, fill it in, submit it."""
    adhoc = device.xmpp.plugin["xep_0050"]
    step = await adhoc.send_command(component, node)
    assert step["command"]["status"] == "executing"
    assert step["command"]["actions"] == {"complete"}
    form = step["command"]["form"]
    assert set(values) <= set(form.get_fields())
    answer = device.xmpp.plugin["xep_0004"].make_form(ftype="submit")
    for var, value in values.items():
        answer.add_field(var=var, value=value)
    done = await adhoc.send_command(
        component, node, action="complete", payload=answer,
        sessionid=step["command"]["sessionid"],
    )  # fmt: skip
    assert done["command"]["status"] == "completed"
    assert done["command"]["sessionid"] == step["command"]["sessionid"]
    return done["command"]


def shown(command: Any, var: str) -> str:
    """Return a field of a command's result."""
    return str(command["form"].get_values()[var])


async def test_slixmpp_finds_and_runs_the_commands(house: tuple[Stack, Account]) -> None:
    stack, admin = house
    console = await slix(stack, admin)
    info = await console.xmpp.plugin["xep_0030"].get_info(jid=stack.component)
    assert COMMANDS in info["disco_info"]["features"]
    items = await console.xmpp.plugin["xep_0050"].get_commands(stack.component)
    assert {(jid, node) for jid, node, _ in items["disco_items"]["items"]} == {
        (stack.component, node) for node in NODES
    }
    info = await console.xmpp.plugin["xep_0030"].get_info(jid=stack.component, node="mixpam:leave")
    assert ("automation", "command-node", None, "Force leave") in info["disco_info"]["identities"]

    user = await stack.device(await stack.user())
    channel = await stack.joined(user)
    command = await fill_in(console, stack.component, "mixpam:show-user", user=user.bare)
    assert f"{channel.jid}: participant id {channel.pid}" in shown(command, "channels")
    assert "console" not in shown(command, "devices")
    assert f"{user.xmpp.boundjid.resource}: gets copies yes, " in shown(command, "devices")
    command = await fill_in(console, stack.component, "mixpam:show-channel", channel=channel.jid)
    members = shown(command, "members")
    assert f"{user.bare}: participant id {channel.pid}, " in members
    assert "devices 1, get copies 1" in members

    step = await console.xmpp.plugin["xep_0050"].send_command(stack.component, "mixpam:statistics")
    assert int(shown(step["command"], "memberships")) >= 1


async def test_force_leave(house: tuple[Stack, Account]) -> None:
    stack, admin = house
    console = await slix(stack, admin)
    user = await stack.raw(await stack.user())
    channel, other = await stack.joined(user), await stack.joined(user)
    # As an admin may write it: case does not matter, and a resource is too much.
    spelled = user.bare.upper() + "/x"
    command = await fill_in(
        console, stack.component, "mixpam:leave", user=spelled, channel=channel.jid
    )
    assert user.bare in command["notes"][0][1]
    asked = await stack.fake.expect(leaves(channel.jid))
    assert asked["from"] == user.bare
    await stack.settle(user)
    assert await memberships(user) == {other.jid: other.pid}
    assert await stack.roster(user.account, channel.jid) is None

    again = await command_iq(
        console, stack, "mixpam:leave", {"user": user.bare, "channel": channel.jid}
    )
    assert again.condition == "item-not-found"


async def test_reconcile_repairs_at_the_admins_wish(house: tuple[Stack, Account]) -> None:
    stack, admin = house
    console = await slix(stack, admin)
    user = await stack.raw(await stack.user())
    channel = await stack.joined(user)
    tells(channel, ("another", user.bare))
    command = await fill_in(console, stack.component, "mixpam:reconcile", user=user.bare)
    assert "correct the participant id" in shown(command, "findings")
    assert command["notes"][0][1] == "Nothing was changed."
    assert await memberships(user) == {channel.jid: channel.pid}
    command = await fill_in(
        console, stack.component, "mixpam:reconcile", **{"user": user.bare, "dry-run": "0"}
    )
    assert command["notes"][0][1] == "Repaired."
    assert await memberships(user) == {channel.jid: "another"}


async def command_iq(
    client: Any, stack: Stack, node: str, fields: dict[str, str] | None = None,
    *, action: str = "execute", session: str = "",
) -> Stanza:  # fmt: skip
    """Send one step by hand and return the answer."""
    form = ""
    if fields is not None:
        inner = "".join(
            f"<field var='{var}'><value>{value}</value></field>" for var, value in fields.items()
        )
        form = f"<x xmlns='{ns.DATA}' type='submit'>{inner}</x>"
    attribute = f" sessionid='{session}'" if session else ""
    return await client.iq(
        f"<iq type='set' to='{stack.component}'>"
        f"<command xmlns='{COMMANDS}' node='{node}' action='{action}'{attribute}>{form}"
        "</command></iq>"
    )


async def test_others_are_refused_and_told_nothing(house: tuple[Stack, Account]) -> None:
    stack, _ = house
    user = await stack.raw(await stack.user())
    channel = await stack.joined(user)
    for node in (COMMANDS, "mixpam:leave"):
        for namespace in (ns.DISCO_ITEMS, ns.DISCO_INFO):
            answer = await user.iq(
                f"<iq type='get' to='{stack.component}'>"
                f"<query xmlns='{namespace}' node='{node}'/></iq>"
            )
            assert answer.condition == "forbidden", answer.raw
    info = await user.iq(
        f"<iq type='get' to='{stack.component}'><query xmlns='{ns.DISCO_INFO}'/></iq>"
    )
    assert info["type"] == "result"
    assert COMMANDS not in info.raw
    answer = await command_iq(user, stack, "mixpam:statistics")
    assert answer.condition == "forbidden"
    # Not even for one's own channels: that is what client-leave is for.
    answer = await command_iq(
        user, stack, "mixpam:leave", {"user": user.bare, "channel": channel.jid}
    )
    assert answer.condition == "forbidden"
    await stack.settle(user)
    assert await memberships(user) == {channel.jid: channel.pid}
    # A stranger's server may not borrow the admin's name as a resource or domain.
    answer = await stack.stranger.iq(
        f"<iq type='set' from='{stack.stranger.jid}/admin@{stack.domain}' to='{stack.component}'>"
        f"<command xmlns='{COMMANDS}' node='mixpam:statistics' action='execute'/></iq>"
    )
    assert answer.condition == "forbidden"


async def test_steps_that_cannot_be_taken(house: tuple[Stack, Account]) -> None:
    stack, account = house
    admin = await stack.raw(account)
    problem = f"{{{ns.CLIENT}}}error/{{{COMMANDS}}}"
    answer = await command_iq(admin, stack, "mixpam:no-such")
    assert answer.condition == "item-not-found"
    answer = await command_iq(admin, stack, "mixpam:leave", {}, session="forged")
    assert answer.need(problem + "bad-sessionid") is not None
    answer = await command_iq(admin, stack, "mixpam:leave", {"user": "a@b"})
    assert answer.need(problem + "bad-payload") is not None
    assert "Channel" in (answer.text(f"{{{ns.CLIENT}}}error/{{{ns.STANZAS}}}text") or "")
    answer = await command_iq(admin, stack, "mixpam:show-user", {"user": "a@b@c"})
    assert answer.need(problem + "bad-payload") is not None
    answer = await command_iq(admin, stack, "mixpam:leave", action="prev")
    assert answer.need(problem + "bad-action") is not None

    step = await command_iq(admin, stack, "mixpam:leave")
    session = step.need(f"{{{COMMANDS}}}command").get("sessionid", "")
    assert session
    answer = await command_iq(admin, stack, "mixpam:leave", action="cancel", session=session)
    assert answer.need(f"{{{COMMANDS}}}command").get("status") == "canceled"
    answer = await command_iq(admin, stack, "mixpam:leave", {}, session=session)
    assert answer.need(problem + "bad-sessionid") is not None
