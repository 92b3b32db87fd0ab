"""Steps that scenarios share."""

import pytest

from harness import ns
from harness.client import RawClient
from harness.inbox import Matcher
from harness.stack import Stack
from harness.stanza import match

VERSIONS = [
    pytest.param(ns.PAM0, ns.CORE0, marks=pytest.mark.req("N2")),
    pytest.param(ns.PAM1, ns.CORE0, marks=pytest.mark.req("N3")),
    pytest.param(ns.PAM2, ns.CORE1, marks=pytest.mark.req("N1")),
]


def leaves(channel: str) -> Matcher:
    """Return a matcher for a leave request at a channel."""
    return match(
        "iq",
        type="set",
        to=channel,
        test=lambda s: any(s.find(f"{{{c}}}leave") is not None for c in (ns.CORE0, ns.CORE1)),
    )


async def session(stack: Stack) -> RawClient:
    """Return a logged-in client of a fresh user."""
    return await stack.raw(await stack.user())


async def memberships(client: RawClient) -> dict[str, str]:
    """Return channel -> participant id, as an annotated roster shows them."""
    answer = await client.roster(annotate=True)
    found = {}
    for item in answer.all(f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item"):
        channel = item.find(f"{{{ns.MIX_ROSTER}}}channel")
        if channel is not None:
            found[item.get("jid", "")] = channel.get("participant-id", "")
    return found
