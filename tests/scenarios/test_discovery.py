"""What clients and strangers learn by asking (D1, D2)."""

import pytest
from harness import ns
from harness.stack import FreshStack, Stack
from harness.stanza import Stanza

FEATURE = f"{{{ns.DISCO_INFO}}}query/{{{ns.DISCO_INFO}}}feature"


def features(stanza: Stanza) -> set[str]:
    """Return the features of a disco#info result."""
    return {e.get("var", "") for e in stanza.all(FEATURE)}


@pytest.mark.req("D1")
async def test_the_account_tells_its_own_client(stack: Stack) -> None:
    device = await stack.device(await stack.user())
    assert await device.pam.check_server_capability()
    own = await device.iq(
        f"<iq type='get' to='{device.bare}'><query xmlns='{ns.DISCO_INFO}'/></iq>"
    )
    assert {ns.PAM2, ns.PAM0, f"{ns.PAM2}#archive"} <= features(own)


@pytest.mark.req("D1")
async def test_the_account_tells_nobody_else(stack: Stack) -> None:
    account, other = await stack.user(), await stack.raw(await stack.user())
    answer = await other.iq(
        f"<iq type='get' to='{account.jid}'><query xmlns='{ns.DISCO_INFO}'/></iq>"
    )
    assert not [f for f in features(answer) if f.startswith("urn:xmpp:mix:pam")]


@pytest.mark.req("D2")
async def test_the_component_describes_itself(stack: Stack) -> None:
    answer = await stack.probe(f"<query xmlns='{ns.DISCO_INFO}'/>")
    assert answer["type"] == "result", answer.raw
    assert answer.find(f"{{{ns.DISCO_INFO}}}query/{{{ns.DISCO_INFO}}}identity") is not None
    assert {ns.DISCO_INFO, ns.PING, "jabber:iq:version"} <= features(answer)


@pytest.mark.req("D2")
async def test_version_and_ping(stack: Stack) -> None:
    answer = await stack.probe("<query xmlns='jabber:iq:version'/>")
    query = answer.need("{jabber:iq:version}query")
    assert query.findtext("{jabber:iq:version}name")
    assert query.findtext("{jabber:iq:version}version")
    assert (await stack.probe(f"<ping xmlns='{ns.PING}'/>"))["type"] == "result"


@pytest.mark.req("D2")
async def test_the_contact_address(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack(MIXPAM_CONTACT="xmpp:admin@example.org,mailto:admin@example.org")
    answer = await stack.probe(f"<query xmlns='{ns.DISCO_INFO}'/>")
    form = answer.need(f"{{{ns.DISCO_INFO}}}query/{{{ns.DATA}}}x")
    values = [e.text for e in form.iter(f"{{{ns.DATA}}}value")]
    assert "http://jabber.org/network/serverinfo" in values
    assert {"xmpp:admin@example.org", "mailto:admin@example.org"} <= set(values)


@pytest.mark.req("D2")
@pytest.mark.parametrize("type_", ["get", "set"])
async def test_what_the_component_does_not_know(stack: Stack, type_: str) -> None:
    answer = await stack.stranger.iq(
        f"<iq type='{type_}' from='{stack.stranger.jid}' to='{stack.component}'>"
        "<query xmlns='urn:example:unknown'/></iq>"
    )
    assert answer.condition == "service-unavailable"
