"""What README.md has a new operator do at the end: `deploy/first-message`."""

import asyncio
import subprocess
import sys

import pytest
from harness.client import Account, fresh
from harness.machines import REPOSITORY
from harness.stack import Stack

pytestmark = pytest.mark.timeout(90)


async def first_message(
    channel: str, listener: Account, speaker: Account, passwords: list[str] | None = None
) -> tuple[int | None, str]:
    """Run the program and give its exit status and all it prints."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(REPOSITORY / "deploy/first-message"),
        channel, listener.jid, speaker.jid, "--host", listener.place.ip, "--no-tls",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    lines = [listener.password, speaker.password] if passwords is None else passwords
    out, _ = await child.communicate("".join(f"{line}\n" for line in lines).encode())
    return child.returncode, out.decode()


async def test_it_is_fanned_out_and_everybody_leaves(stack: Stack) -> None:
    channel = await stack.channel()
    romeo, julia = await stack.user(), await stack.user()
    code, said = await first_message(channel, romeo, julia)
    assert code == 0, said
    assert "each device" in said
    assert f"of {romeo.jid} has it as" in said
    assert await stack.roster(romeo, channel) is None
    assert await stack.roster(julia, channel) is None
    assert len(await stack.archive(romeo, channel)) == 1


async def test_a_channel_that_was_not_there_is_made(stack: Stack) -> None:
    _, service = (await stack.channel()).split("@")
    romeo, julia = await stack.user(), await stack.user()
    code, said = await first_message(f"{fresh('new')}@{service}", romeo, julia)
    assert code == 0, said


async def test_without_the_component_nothing_is_claimed(breakable: Stack) -> None:
    channel = await breakable.channel()
    romeo, julia = await breakable.user(), await breakable.user()
    await breakable.mixpam.stop()
    code, said = await first_message(channel, romeo, julia)
    assert code == 1, said
    assert "not observed: Listener joins" in said
    assert "mixpam check --user" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("passwords", "why"),
    [(["wrong", "wrong"], "the server refused the password"), ([], "no line to read")],
)
async def test_a_mistake_is_named(stack: Stack, passwords: list[str], why: str) -> None:
    romeo, julia = await stack.user(), await stack.user()
    code, said = await first_message(f"any@{stack.domain}", romeo, julia, passwords)
    assert code == 1
    assert why in said
    assert "Traceback" not in said
