"""The outgoing rule: in whose name the component speaks, to whom, and nothing besides."""

import pytest

from component.core.context import Context
from component.core.effects import Count, Send
from component.core.limits import Limits
from component.core.outgoing import Outgoing
from component.core.users.activity import Change
from component.core.users.mirror import Membership, Mirror
from schemas import jid

OWN = "mixpam.example.org"
ANNA = "anna@example.org"
COVEN = "coven@mix.example"


@pytest.fixture
def outgoing() -> Outgoing:
    mirror = Mirror()
    mirror.join(
        jid.parse(ANNA), Membership(jid.parse(COVEN), "123", None, (), 1, shares_presence=True)
    )
    mirror.row(jid.parse(ANNA)).activity.changes[b"joining@mix.example"] = Change()
    mirror.row(jid.parse("ben@example.org"))
    domains = frozenset({"example.org", "example.net"})
    return Outgoing(Context(jid.parse(OWN), domains, Limits(), lambda: "id", mirror))


def stanza(kind: str, sender: str, to: str, type_: str = "") -> bytes:
    written = f" type='{type_}'" if type_ else ""
    return f"<{kind} from='{sender}' to='{to}'{written}><x/></{kind}>".encode()


ALLOWED = {
    "itself to a user": stanza("iq", OWN, ANNA, "set"),
    "itself to a session": stanza("iq", OWN, f"{ANNA}/r", "get"),
    "itself to a domain": stanza("message", OWN, "example.org"),
    "itself to a stranger": stanza("iq", OWN, "eve@evil.example/x", "error"),
    "account to its own session": stanza("iq", ANNA, f"{ANNA}/r", "result"),
    "account to a joined channel": stanza("iq", ANNA, COVEN, "set"),
    "account to a channel being joined": stanza("iq", ANNA, "joining@mix.example", "set"),
    "account's presence to a channel": stanza("presence", ANNA, COVEN),
    "session's presence to a channel": stanza("presence", f"{ANNA}/r", COVEN),
    "session's end to a channel": stanza("presence", f"{ANNA}/r", COVEN, "unavailable"),
    "session's presence to a participant's address": stanza(
        "presence", f"{ANNA}/r", f"{COVEN}/123"
    ),
    "account's refusal to a stranger": stanza("message", ANNA, "x@evil.example", "error"),
    "channel to a user who joined": stanza("message", COVEN, ANNA, "groupchat"),
    "channel to a session of one": stanza("message", f"{COVEN}/9", f"{ANNA}/r", "groupchat"),
    "participant to a session": stanza("presence", f"9#{COVEN}/x", f"{ANNA}/r"),
    "account's refusal of a stranger's request": stanza("iq", ANNA, "ben@example.org/x", "error"),
    "nobody at our domain, refusing": stanza("iq", f"x@{OWN}", "eve@evil.example", "error"),
    "other spelling": stanza("presence", "ANNA@Example.ORG./r", "Coven@MIX.example."),
    "escaped": stanza("presence", f"{ANNA}/&lt;&apos;&quot;&amp;lt;&gt;", COVEN),
}


@pytest.mark.abuse(28)
@pytest.mark.parametrize("data", ALLOWED.values(), ids=ALLOWED)
def test_allowed(outgoing: Outgoing, data: bytes) -> None:
    assert outgoing.why_not(data) is None


REFUSED = {
    "stranger": (stanza("message", "eve@evil.example", ANNA), "channel-not-joined"),
    "server": (stanza("iq", "example.org", ANNA, "set"), "channel-not-joined"),
    "service": (stanza("message", "mix.example", ANNA), "channel-not-joined"),
    "somebody at our domain": (stanza("iq", f"x@{OWN}", ANNA), "channel-not-joined"),
    "domain that ends like ours": (
        stanza("iq", "anna@evil-example.org", COVEN),
        "channel-not-joined",
    ),
    "other channel": (stanza("message", "other@mix.example", ANNA), "channel-not-joined"),
    "participant of another channel": (
        stanza("message", "coven#other@mix.example", ANNA),
        "channel-not-joined",
    ),
    "channel that is being joined": (
        stanza("message", "joining@mix.example", ANNA, "groupchat"),
        "channel-not-joined",
    ),
    "channel to somebody who has not joined": (
        stanza("message", COVEN, "ben@example.org/r"),
        "channel-not-joined",
    ),
    "channel to somebody unknown": (
        stanza("message", COVEN, "carl@example.org"),
        "channel-not-joined",
    ),
    "channel to somebody elsewhere": (
        stanza("message", COVEN, "anna@elsewhere.example"),
        "channel-not-joined",
    ),
    "session's message": (stanza("message", f"{ANNA}/r", COVEN), "full-jid"),
    "session's refusal": (stanza("message", f"{ANNA}/r", COVEN, "error"), "full-jid"),
    "session's iq": (stanza("iq", f"{ANNA}/r", COVEN, "set"), "full-jid"),
    "account to itself": (stanza("iq", ANNA, ANNA, "set"), "own-account"),
    "account's message to a channel": (stanza("message", ANNA, COVEN), "message-as-user"),
    "account's message to a friend": (
        stanza("message", ANNA, "ben@example.org", "chat"),
        "message-as-user",
    ),
    "account's iq to a stranger": (
        stanza("iq", ANNA, "other@mix.example", "set"),
        "not-a-channel-of-the-user",
    ),
    "account's iq to the service": (
        stanza("iq", ANNA, "mix.example", "get"),
        "not-a-channel-of-the-user",
    ),
    "account's iq to its server": (
        stanza("iq", ANNA, "example.org", "get"),
        "not-a-channel-of-the-user",
    ),
    "presence to a friend": (
        stanza("presence", f"{ANNA}/r", "ben@example.org"),
        "not-a-channel-of-the-user",
    ),
    "presence of one who has not joined": (
        stanza("presence", "ben@example.org/r", COVEN),
        "not-a-channel-of-the-user",
    ),
    "presence of one unknown": (
        stanza("presence", "carl@example.net/r", COVEN),
        "not-a-channel-of-the-user",
    ),
    "presence error": (
        stanza("presence", ANNA, "x@evil.example", "error"),
        "not-a-channel-of-the-user",
    ),
    "no sender": (f"<iq to='{ANNA}/r' type='get'/>".encode(), "unaddressed"),
    "no receiver": (f"<presence from='{ANNA}/r'/>".encode(), "unaddressed"),
    "sender that is none": (stanza("presence", "anna@example.org@x", COVEN), "unaddressed"),
    "bytes that are no text": (b"<presence from='\xff@x' to='a@b'/>", "unaddressed"),
    "no stanza": (stanza("handshake", OWN, ANNA), "no-stanza"),
    "end of the stream": (b"</stream:stream>", "not-one-stanza"),
    "stream error": (b"<stream:error/>", "unaddressed"),
    "text": (b"hello", "not-one-stanza"),
    "nothing": (b"", "not-one-stanza"),
    "half a stanza": (stanza("iq", OWN, ANNA)[:-1], "not-one-stanza"),
    "comment": (b"<!--x-->", "not-one-stanza"),
    "second stanza behind": (
        stanza("iq", OWN, ANNA) + stanza("iq", "example.org", ANNA),
        "not-one-stanza",
    ),
    "end of the stream behind": (stanza("iq", OWN, ANNA) + b"</stream:stream>", "not-one-stanza"),
    "half a stanza behind": (stanza("iq", OWN, ANNA) + b"<iq", "not-one-stanza"),
}


@pytest.mark.abuse(28)
@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(outgoing: Outgoing, data: bytes, reason: str) -> None:
    assert outgoing.why_not(data) == reason


@pytest.mark.parametrize(("kind", "left"), [("message", 0), ("presence", 1)])
def test_what_is_too_large_is_judged_as_what_stands_in_for_it(
    outgoing: Outgoing, kind: str, left: int
) -> None:
    context = outgoing._context
    large = f"<{kind} from='{OWN}' to='{ANNA}/x'>{'x' * context.largest.stanza}</{kind}>"
    given = outgoing.judged(Send(large.encode()))
    assert len(given) == left
    assert all(context.largest.fits(each.data) for each in given)
    assert Count("dropped", "unsendable") in context.effects
