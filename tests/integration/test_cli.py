"""The command line beside a running component: show, reconcile, rebuild, and who may."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from commandline import environment, mixpam, on_terminal
from harness.loopback import Block
from harness.participants import refuses, tells
from harness.stack import MixHost, Stack
from harness.steps import memberships, session

from component.http.control import HEADER, control_key
from component.store.keys import Keys
from schemas.settings import load

pytestmark = pytest.mark.family
NOT_RUNNING = 3

STYLE = re.compile(r"\x1b\[[0-9;]*m")
BAR = re.compile(r"users [━╸╺ ]+ *(?P<done>\d+)/(?P<total>\d+) (?P<left>[-:\d]+)")


class House:
    """A running system, and the settings that its component and an operator share."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.env = environment(stack.server, stack.redis, MIXPAM_CHANNEL_TIMEOUT="2")
        assert stack.mixpam.process.env is not None
        stack.mixpam.process.env.update(self.env)

    async def post(self, body: object, **headers: str) -> tuple[int, Any]:
        """Call the API that changes something, as anybody could."""
        url = f"http://{self.stack.server.place.ip}:5405/api/reconcile"
        async with ClientSession() as http, http.post(url, json=body, headers=headers) as answer:
            return answer.status, await answer.json()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(
    server_kind: str, block: Block, mix_host: MixHost, logs: Any
) -> AsyncIterator[House]:
    """Run a system for the tests of this module."""
    stack = Stack(server_kind, block, mix_host)
    house = House(stack)
    for folder in stack.folders:
        logs.add(folder)
    try:
        with logs.kept_on_error(*stack.folders):
            await stack.start()
        yield house
    finally:
        await stack.stop()
        for folder in stack.folders:
            logs.done(folder)


@pytest_asyncio.fixture(loop_scope="session")
async def house(running: House) -> AsyncIterator[House]:
    """Give a test the running system, with nobody logged in."""
    yield running
    await running.stack.logout()


async def test_show(house: House) -> None:
    stack = house.stack
    user = await stack.device(await stack.user())
    channel = await stack.joined(user)
    done = await mixpam("show", "user", user.bare, env=house.env)
    assert done.code == 0, done.err
    assert f"{channel.jid}\t{channel.pid}\t" in done.out
    assert f"{user.xmpp.boundjid.resource}\tyes\t" in done.out
    assert "\x1b" not in done.out
    done = await mixpam("show", "user", user.bare.upper(), "--json", env=house.env)
    assert done.json["channels"][0]["participant_id"] == channel.pid

    done = await mixpam("show", "channel", channel.jid, env=house.env)
    assert f"{user.bare}\t{channel.pid}\t" in done.out
    done = await mixpam("show", "channel", channel.jid, "--json", env=house.env)
    assert [each["user"] for each in done.json["members"]] == [user.bare]

    done = await mixpam("show", "link", env=house.env)
    assert done.code == 0
    assert f"{stack.domain}\t" in done.out
    done = await mixpam("show", "link", "--json", env=house.env)
    assert done.json["link"]["state"] == "up"
    assert done.json["domains"][0]["ready"] is True


async def test_show_of_nothing(house: House) -> None:
    done = await mixpam("show", "user", f"nobody@{house.stack.domain}", env=house.env)
    assert (done.code, done.out) == (1, "")
    assert "nothing is known" in done.err
    done = await mixpam("show", "channel", "no address", env=house.env)
    assert done.code == 1
    assert "address" in done.err


async def test_there_is_no_component(house: House) -> None:
    env = {**house.env, "MIXPAM_HTTP_PORT": "5497"}
    for argv in (["show", "link"], ["reconcile"], ["rebuild", "--online"], ["rebuild", "a@b"]):
        done = await mixpam(*argv, env=env)
        assert (done.code, done.out) == (NOT_RUNNING, ""), argv
        assert "is it running" in done.err
    done = await mixpam("show", "link", env={**house.env, "MIXPAM_HTTP_PORT": "0"})
    assert done.code == NOT_RUNNING
    assert "MIXPAM_HTTP_PORT" in done.err


async def test_reconcile(house: House) -> None:
    stack = house.stack
    user = await session(stack)
    right, wrong = await stack.joined(user), await stack.joined(user)
    hidden = await stack.joined(user)
    tells(right, (right.pid, user.bare))
    tells(wrong, ("another", user.bare))
    refuses(hidden, "forbidden")
    argv = ["reconcile", "--user", user.bare]
    done = await mixpam(*argv, "--dry-run", env=house.env)
    assert done.code == 1
    assert f"{user.bare}  {wrong.jid}  to do: correct the participant id" in done.out
    assert f"{user.bare}  {hidden.jid}  left alone: " in done.out
    assert right.jid not in done.out
    assert "1 memberships agree, 1 to repair, 1 could not be told" in done.out
    assert (await memberships(user))[wrong.jid] == wrong.pid

    done = await mixpam(*argv, "--json", env=house.env)
    assert done.code == 1
    assert done.json["user"] == user.bare
    assert done.json["repaired"] is True
    verdicts = {each["channel"]: each["verdict"] for each in done.json["findings"]}
    assert verdicts == {right.jid: "agree", wrong.jid: "differ", hidden.jid: "unknown"}
    assert (await memberships(user))[wrong.jid] == "another"

    tells(hidden, (hidden.pid, user.bare))
    done = await mixpam(*argv, env=house.env)
    assert done.code == 0
    assert done.out == "1 users: 3 memberships agree, 0 repaired, 0 could not be told\n"


async def test_what_redis_alone_lost_is_written_again(house: House) -> None:
    stack = house.stack
    user = await session(stack)
    channel = await stack.joined(user)
    tells(channel, (channel.pid, user.bare))
    # Not all of it: that the component would notice by itself.
    await delete(stack, Keys("mixpam").channels(user.bare))
    argv = ["reconcile", "--user", user.bare]
    done = await mixpam(*argv, "--dry-run", env=house.env)
    assert "to do: write the membership to Redis" in done.out
    await mixpam(*argv, env=house.env)
    assert (await mixpam(*argv, "--dry-run", env=house.env)).code == 0
    await stack.mixpam.stop()
    await stack.mixpam.start()
    assert await memberships(user) == {channel.jid: channel.pid}


async def delete(stack: Stack, *keys: str) -> None:
    """Delete keys, or all there are, from Redis behind the component's back."""
    from redis.asyncio import Redis  # noqa: PLC0415 - the harness's Redis has the same name

    connection = Redis.from_url(stack.redis.url)
    if keys:
        assert await connection.delete(*keys) == len(keys)
    else:
        await connection.flushall()
    await connection.aclose()


async def lose_everything(stack: Stack) -> None:
    """Have a component start with an empty Redis."""
    await stack.mixpam.stop()
    await delete(stack)
    await stack.mixpam.start()


@pytest.mark.parametrize("whom", ["named", "list", "online"])
async def test_rebuild(house: House, whom: str) -> None:
    stack = house.stack
    users = [await session(stack) for _ in range(3)]
    channels = [await stack.joined(user) for user in users]
    for user, channel in zip(users, channels, strict=True):
        tells(channel, (channel.pid, user.bare))
        await user.mix_online()
    await lose_everything(stack)
    await stack.settle(*users)
    assert [await memberships(user) for user in users] == [{}] * 3
    # Nobody is in a channel any more, as far as is known: reconcile alone finds nobody.
    done = await mixpam("reconcile", env=house.env)
    assert done.out.startswith("0 users")
    named = [user.bare for user in users]
    argv, stdin = {
        "named": (named, ""),
        "list": (["-"], "\n".join([*named, ""])),
        "online": (["--online"], ""),
    }[whom]
    done = await mixpam("rebuild", *argv, env=house.env, stdin=stdin)
    assert done.code == 0, done.out + done.err
    assert done.out.count("done: restore the membership") == 3
    found = [await memberships(user) for user in users]
    assert found == [{channel.jid: channel.pid} for channel in channels]
    for channel, user in zip(channels, users, strict=True):
        said = stack.fake.say(channel.jid, user.bare, "again")
        await user.expect(lambda stanza, id_=said: stanza["id"] == id_)


async def crowd(stack: Stack, size: int, delay: float) -> list[str]:
    """Return users who are in a channel each, which takes `delay` seconds to answer."""
    users = []
    for _ in range(size):
        user = await session(stack)
        channel = await stack.joined(user)
        tells(channel, (channel.pid, user.bare))
        channel.other = late(stack, channel.other, delay)
        users.append(user.bare)
    return users


def late(stack: Stack, answer: Any, delay: float) -> Any:
    """Return a script that answers as another does, but later."""
    later = asyncio.get_running_loop().call_later
    return lambda stanza: later(delay, stack.fake.send, answer(stanza)) and None


@pytest.mark.slow
@pytest.mark.parametrize("command", ["rebuild", "reconcile"])
async def test_a_terminal_shows_how_far_it_is(house: House, command: str) -> None:
    users = await crowd(house.stack, 24, 0.7)
    argv = [command, *users] if command == "rebuild" else [command]
    code, seen = await on_terminal(*argv, env=house.env)
    frames = [STYLE.sub("", frame) for frame in re.split(r"\r|\x1b\[2K", seen)]
    shown = [match for frame in frames if (match := BAR.search(frame))]
    total = {match["total"] for match in shown}
    assert len(total) == 1, seen
    assert int(total.pop()) >= len(users)
    # It moves, and after a while it knows how long it will take.
    counts = [int(match["done"]) for match in shown]
    assert counts == sorted(counts)
    assert len(set(counts)) > 2
    assert any(re.fullmatch(r"\d:\d\d:\d\d", match["left"]) for match in shown), seen
    # The bar goes when all is done, the cursor is there again, and the result stays.
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
    last = STYLE.sub("", seen[seen.rindex("\x1b[?25h") :])
    assert BAR.search(last) is None
    assert f"{max(counts)} users: " in last
    assert code == 0, seen


async def test_what_was_found_stays_apart_from_progress(house: House, tmp_path: Path) -> None:
    stack, output = house.stack, tmp_path / "found.json"
    user = await session(stack)
    channel = await stack.joined(user)
    tells(channel, ("another", user.bare))
    argv = ["reconcile", "--dry-run", "--user", user.bare]
    code, seen = await on_terminal(*argv, "--json", env=house.env, output=output)
    assert code == 1
    assert json.loads(output.read_text(encoding="utf-8"))["user"] == user.bare
    assert user.bare not in seen
    # Both on one terminal: a line of its own, and none of the bar in it.
    code, seen = await on_terminal(*argv, env=house.env)
    plain = re.split(r"\r\n|\r|\n|\x1b\[2K", STYLE.sub("", seen))
    wanted = f"{user.bare}  {channel.jid}  to do: correct the participant id"
    assert [line.strip() for line in plain if user.bare in line] == [wanted]


async def test_elsewhere_there_are_plain_lines(house: House) -> None:
    nobody = [f"nobody{number}@{house.stack.domain}" for number in range(120)]
    done = await mixpam("rebuild", "-", env=house.env, stdin="\n".join(nobody))
    assert done.err == "50 of 120 users\n100 of 120 users\n"
    assert done.out.splitlines()[-1].startswith("120 users: 0 memberships agree")
    assert "\x1b" not in done.out


async def test_rebuild_needs_to_know_whom(house: House) -> None:
    done = await mixpam("rebuild", env=house.env)
    assert done.code == 2
    assert "--online" in done.err
    done = await mixpam("rebuild", "someone@else.example", env=house.env)
    assert done.code == 1
    assert "MIXPAM_DOMAINS" in done.out


@pytest.mark.abuse(26)
async def test_only_who_knows_the_secret_may_change_anything(house: House) -> None:
    stack = house.stack
    user = await session(stack)
    channel = await stack.joined(user)
    tells(channel, ("another", user.bare))
    body = {"user": user.bare, "repair": True}
    token = {"Authorization": f"Bearer {house.env['MIXPAM_HTTP_TOKEN']}"}
    key = control_key(load(house.env))
    assert house.env["MIXPAM_SECRET"] not in key
    status, answer = await house.post(body)
    assert status == 401
    status, answer = await house.post(body, **token)
    assert status == 403
    assert HEADER in answer["error"]
    status, _ = await house.post(body, **token, **{HEADER: key[:-1] + "x"})
    assert status == 403
    assert await memberships(user) == {channel.jid: channel.pid}
    for wrong in (
        {},
        [],
        {"user": user.bare},
        {"user": "a@b@c", "repair": True},
        {"user": stack.domain, "repair": True},
        {"user": user.bare, "repair": "yes"},
        {"user": 5, "repair": True},
    ):
        status, answer = await house.post(wrong, **token, **{HEADER: key})
        assert status == 400, answer
    status, answer = await house.post(body, **token, **{HEADER: key})
    assert status == 200
    assert answer["findings"][0]["verdict"] == "differ"
    assert await memberships(user) == {channel.jid: "another"}


async def test_a_link_that_is_down(house: House) -> None:
    stack = house.stack
    user = await session(stack)
    await stack.server.stop()
    try:
        done = await mixpam("reconcile", "--user", user.bare, env=house.env)
        assert done.code == 1
        assert "not connected" in done.out or "lost" in done.out
    finally:
        stack.devices.clear()
        mark = stack.mixpam.mark()
        await stack.server.start()
        await stack.mixpam.ready(mark)
        for link in (stack.fake, stack.stranger):
            await link.cut()
            await link.connect()


async def test_every_command_has_examples_and_exit_codes() -> None:
    for argv in ([], ["check"], ["show"], ["reconcile"], ["rebuild"]):
        done = await mixpam(*argv, "--help", env={})
        assert done.code == 0
        text = done.out
        assert "Examples:" in text or "First steps:" in text
        assert argv == [] or "Exit codes:" in text
        assert "\b" not in text


async def test_settings_as_json_hide_secrets(house: House) -> None:
    done = await mixpam("settings", "--json", env=house.env)
    assert done.json["MIXPAM_COMPONENT_JID"] == house.stack.component
    assert house.env["MIXPAM_SECRET"] not in done.out
