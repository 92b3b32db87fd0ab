"""The states of a domain: replay, features, T5 in each state, C5 and its memory."""

import pytest
from harness import ns
from harness.client import RawClient
from harness.house import TapHouse, event
from harness.stanza import Stanza, match
from harness.stream import fresh

JOIN = "<client-join xmlns='%s' channel='coven@mix.test'><join xmlns='%s'/></client-join>"
VERSIONS = [(ns.PAM0, ns.CORE0), (ns.PAM1, ns.CORE0), (ns.PAM2, ns.CORE1)]


async def features(client: RawClient, to: str | None = None) -> set[str]:
    """Return the features of an account's disco#info."""
    answer = await client.iq(
        f"<iq type='get' to='{to or client.bare}'><query xmlns='{ns.DISCO_INFO}'/></iq>"
    )
    return {
        e.get("var", "") for e in answer.all(f"{{{ns.DISCO_INFO}}}query/{{{ns.DISCO_INFO}}}feature")
    }


def ask(client: RawClient, pam: str = ns.PAM2, core: str = ns.CORE1, to: str | None = None) -> str:
    """Send a client-join and return its id."""
    id_ = fresh("pam")
    address = "" if to == "" else f" to='{to or client.bare}'"
    client.send(f"<iq type='set' id='{id_}'{address}>{JOIN % (pam, core)}</iq>")
    return id_


async def answered(client: RawClient, id_: str) -> Stanza:
    """Return the answer to a request."""
    return await client.expect(match("iq", id=id_, test=lambda s: s["type"] in ("result", "error")))


async def test_hello_comes_first_and_says_who_is_there(tap: TapHouse) -> None:
    client = await tap.client()
    await tap.down()
    await tap.connected()
    stanzas = [s for s in tap.link.inbox.all if s.name != "handshake"]
    hello = stanzas[0].need(event("hello"))
    assert (stanzas[0]["from"], stanzas[0]["to"]) == (tap.domain, tap.component)
    assert hello.get("version") == "1"
    assert hello.get("tap")
    software = (hello.get("software") or "").lower()
    assert tap.server.kind.software in software
    assert any(digit in software for digit in "0123456789")
    assert hello.get("archive") == "true"
    await client.fence()


async def test_the_replay_has_every_session_before_replayed(tap: TapHouse) -> None:
    one = await tap.client(online=False)
    await one.online("<show>xa</show><c xmlns='urn:example:caps' v='1'/>")
    two = await tap.client(one.account)
    other = await tap.client()
    silent = await tap.client(online=False)
    await tap.down()
    await tap.connected()
    end = tap.link.inbox.position(match("message", has=event("replayed")))
    for client in (one, two, other):
        mine = match("presence", from_=client.jid, to=tap.component, type=None)
        assert tap.link.inbox.position(mine) < end
        assert tap.link.count(mine) == 1
    shown = tap.link.inbox.matching(match("presence", from_=one.jid))[0]
    assert shown.text(f"{{{ns.CLIENT}}}show") == "xa"
    assert shown.find("{urn:example:caps}c") is not None
    tap.link.none(match(from_=silent.jid))


async def test_the_replay_names_hibernated_sessions(tap: TapHouse) -> None:
    client = await tap.client(smacks=True)
    await client.cut()
    await tap.link.expect(match("message", has=event("hibernated", jid=client.jid)))
    await tap.down()
    await tap.connected()
    end = tap.link.inbox.position(match("message", has=event("replayed")))
    mine = match("presence", from_=client.jid, to=tap.component, type=None)
    paused = match("message", has=event("hibernated", jid=client.jid))
    assert tap.link.inbox.position(mine) < tap.link.inbox.position(paused) < end
    await client.resume()
    await tap.link.expect(match("message", has=event("resumed", jid=client.jid)))


async def test_presence_while_connected_but_not_up(tap: TapHouse) -> None:
    await tap.down()
    await tap.connected()
    client = await tap.client()
    await tap.link.expect(match("presence", from_=client.jid, to=tap.component))


@pytest.mark.req("D1")
async def test_the_features_follow_the_state(tap: TapHouse) -> None:
    client = await tap.client()
    assert {ns.PAM2, ns.PAM0, f"{ns.PAM2}#archive"} <= await features(client)
    await tap.down()
    assert not [f for f in await features(client) if f.startswith("urn:xmpp:mix:pam")]
    await tap.connected()
    assert not [f for f in await features(client) if f.startswith("urn:xmpp:mix:pam")]
    await tap.services(tap.fake.jid, complete=False)
    assert not [f for f in await features(client) if f.startswith("urn:xmpp:mix:pam")]
    await tap.services(tap.fake.jid, complete=True)
    assert {ns.PAM2, ns.PAM0, f"{ns.PAM2}#archive"} <= await features(client)


@pytest.mark.req("D1")
async def test_the_features_are_not_said_twice(tap: TapHouse) -> None:
    client = await tap.client()
    answer = await client.iq(
        f"<iq type='get' to='{client.bare}'><query xmlns='{ns.DISCO_INFO}'/></iq>"
    )
    assert answer.raw.count(f"{ns.PAM2}'") == 1 or answer.raw.count(f'{ns.PAM2}"') == 1


@pytest.mark.parametrize(("pam", "core"), VERSIONS)
@pytest.mark.parametrize("addressed", [True, False])
async def test_requests_go_to_the_component_and_answers_back(
    tap: TapHouse, pam: str, core: str, addressed: bool
) -> None:
    client = await tap.client()
    id_ = ask(client, pam, core, None if addressed else "")
    got = await tap.link.expect(
        match(
            "iq", type="set", from_=client.jid, to=client.bare, id=id_, has=f"{{{pam}}}client-join"
        )
    )
    assert got.need(f"{{{pam}}}client-join").get("channel") == "coven@mix.test"
    tap.link.send(
        f"<iq type='result' id='{id_}' from='{client.bare}' to='{client.jid}'>"
        f"<client-join xmlns='{pam}'><join xmlns='{core}' id='p1'/></client-join></iq>"
    )
    answer = await answered(client, id_)
    assert answer["type"] == "result"
    assert answer.find(f"{{{pam}}}client-join/{{{core}}}join[@id='p1']") is not None


async def test_a_get_goes_to_the_component_too(tap: TapHouse) -> None:
    client = await tap.client()
    client.send(f"<iq type='get' id='g1' to='{client.bare}'>{JOIN % (ns.PAM2, ns.CORE1)}</iq>")
    await tap.link.expect(match("iq", type="get", from_=client.jid, to=client.bare, id="g1"))


@pytest.mark.req("J6")
@pytest.mark.abuse(12)
async def test_another_users_account_is_forbidden(tap: TapHouse) -> None:
    client, victim = await tap.client(), await tap.client()
    answer = await answered(client, ask(client, to=victim.bare))
    assert answer.condition == "forbidden"
    await tap.fence()
    tap.link.none(match("iq", to=victim.bare))


@pytest.mark.abuse(12)
@pytest.mark.parametrize("pam", [ns.PAM0, ns.PAM1, ns.PAM2])
async def test_from_outside_it_is_forbidden(tap: TapHouse, pam: str) -> None:
    victim = await tap.client()
    for outsider in (tap.fake, tap.stranger):
        answer = await outsider.iq(
            f"<iq type='set' from='x@{outsider.jid}/r' to='{victim.bare}'>"
            f"{JOIN % (pam, ns.CORE1)}</iq>"
        )
        assert answer.condition == "forbidden"
    await tap.fence()
    tap.link.none(match("iq", to=victim.bare))


@pytest.mark.parametrize("state", ["down", "connected"])
async def test_requests_are_refused_unless_up(tap: TapHouse, state: str) -> None:
    client = await tap.client()
    await tap.down()
    if state == "connected":
        await tap.connected()
    answer = await answered(client, ask(client))
    assert answer.condition == "service-unavailable"
    if state == "connected":
        await tap.fence()
        tap.link.none(match("iq", from_=client.jid))


async def test_open_requests_are_answered_when_the_link_dies(tap: TapHouse) -> None:
    one, two = await tap.client(), await tap.client()
    open_ = [(one, ask(one)), (one, ask(one)), (two, ask(two))]
    for client, id_ in open_:
        await tap.link.expect(match("iq", from_=client.jid, id=id_))
    done = ask(two)
    await tap.link.expect(match("iq", from_=two.jid, id=done))
    tap.link.send(f"<iq type='result' id='{done}' from='{two.bare}' to='{two.jid}'/>")
    assert (await answered(two, done))["type"] == "result"
    await tap.down()
    for client, id_ in open_:
        answer = await answered(client, id_)
        assert answer.condition == "service-unavailable"
        assert answer.need(f"{{{ns.CLIENT}}}error").get("type") == "cancel"
    await two.fence()
    assert two.count(match("iq", id=done, type="error")) == 0


@pytest.mark.parametrize("state", ["down", "connected"])
async def test_channel_stanzas_stay_away_from_clients_in_every_state(
    tap: TapHouse, state: str
) -> None:
    client = await tap.client()
    channel = tap.channel()
    await tap.down()
    if state == "connected":
        await tap.connected()
    tap.fake.send(
        f"<message from='{channel}' to='{client.bare}' type='groupchat'><body>b</body></message>"
        f"<message from='{channel}' to='{client.bare}'><mix xmlns='{ns.CORE1}'/></message>"
        f"<presence from='{channel}/x' to='{client.bare}'/>"
        f"<iq type='result' id='r1' from='{channel}' to='{client.bare}'/>"
        f"<iq type='error' id='r2' from='{channel}' to='{client.bare}'>"
        f"<error type='cancel'><gone xmlns='{ns.STANZAS}'/></error></iq>"
    )
    await tap.fence(client)
    client.none(match(test=lambda s: s["from"].startswith(channel)))
    tap.fake.none(match(type="error"))
    if state == "connected":
        assert tap.link.count(match(test=lambda s: s["from"].startswith(channel))) == 5


async def test_presence_to_the_component_disturbs_no_client_while_down(tap: TapHouse) -> None:
    await tap.down()
    client = await tap.client()
    client.presence("<show>away</show>")
    client.send("<presence type='unavailable'/>")
    client.presence()
    await client.fence()
    client.none(match(type="error"))


def probe(tap: TapHouse, client: RawClient) -> str:
    """Send a groupchat message of the stranger's domain and return its id."""
    id_ = fresh("m")
    tap.stranger.send(
        f"<message from='room@{tap.stranger.jid}' to='{client.bare}' id='{id_}' type='groupchat'>"
        "<body>b</body></message>"
    )
    return id_


async def test_services_are_added_and_replaced(tap: TapHouse) -> None:
    client = await tap.client()
    await tap.services(tap.stranger.jid, complete=False)
    await tap.link.expect(match("message", id=probe(tap, client)))
    tap.fake.send(
        f"<message from='{tap.channel()}' to='{client.bare}' id='still' type='groupchat'/>"
    )
    await tap.link.expect(match("message", id="still"))
    await tap.services(tap.fake.jid, complete=True)
    id_ = probe(tap, client)
    await tap.stranger.fence()
    await tap.fence(client)
    tap.link.none(match("message", id=id_))


async def test_services_outlive_the_link(tap: TapHouse) -> None:
    client = await tap.client()
    await tap.services(tap.stranger.jid, complete=False)
    await tap.down()
    await tap.connected()
    await tap.link.expect(match("message", id=probe(tap, client)))
    await tap.up()


@pytest.mark.abuse(10)
async def test_nobody_else_names_services(tap: TapHouse) -> None:
    client = await tap.client()
    for sender, stream in ((tap.stranger.jid, tap.stranger), (client.jid, client)):
        stream.send(
            f"<message from='{sender}' to='{tap.domain}'><services xmlns='{ns.TAP}' "
            f"complete='true'><service jid='{tap.stranger.jid}'/></services></message>"
        )
        await stream.fence()
    id_ = probe(tap, client)
    await tap.stranger.fence()
    await tap.fence(client)
    tap.link.none(match("message", id=id_))
    tap.fake.send(
        f"<message from='{tap.channel()}' to='{client.bare}' id='still' type='groupchat'/>"
    )
    await tap.link.expect(match("message", id="still"))


@pytest.mark.slow
async def test_services_outlive_the_server(tap: TapHouse) -> None:
    for link in (tap.link, tap.fake, tap.stranger):
        await link.close()
    await tap.server.stop()
    await tap.server.start()
    await tap.fake.connect()
    await tap.stranger.connect()
    client = await tap.client()
    channel = tap.channel()
    tap.fake.send(
        f"<message from='{channel}' to='{client.bare}' type='groupchat'><body>b</body></message>"
    )
    await tap.fake.fence()
    await client.fence()
    client.none(match("message", from_=channel))
    tap.fake.none(match("message", type="error"))


async def test_an_iq_to_the_domain_is_answered_as_any_components(tap: TapHouse) -> None:
    answer = await tap.link.iq(
        f"<iq type='get' from='{tap.component}' to='{tap.domain}'>"
        f"<query xmlns='{ns.DISCO_INFO}'/></iq>"
    )
    assert answer["type"] == "result"
    assert answer.find(f"{{{ns.DISCO_INFO}}}query/{{{ns.DISCO_INFO}}}identity") is not None


async def test_an_iq_in_a_users_name_goes_to_the_channel(tap: TapHouse) -> None:
    """C2, and its answer by T3."""
    account = await tap.user()
    channel = tap.channel()
    tap.link.send(
        f"<iq type='set' id='j1' from='{account.jid}' to='{channel}'>"
        f"<join xmlns='{ns.CORE1}'><nick>n</nick></join></iq>"
    )
    await tap.fake.expect(match("iq", type="set", from_=account.jid, to=channel, id="j1"))
    tap.fake.send(
        f"<iq type='result' id='j1' from='{channel}' to='{account.jid}'>"
        f"<join xmlns='{ns.CORE1}' id='p'/></iq>"
    )
    await tap.link.expect(match("iq", type="result", from_=channel, to=account.jid, id="j1"))


async def test_a_message_in_a_users_name_goes_out(tap: TapHouse) -> None:
    """C2: what a message to a channel not joined gets."""
    account = await tap.user()
    channel = tap.channel()
    tap.link.send(
        f"<message type='error' id='m1' from='{account.jid}' to='{channel}'>"
        f"<error type='cancel'><service-unavailable xmlns='{ns.STANZAS}'/></error></message>"
    )
    got = await tap.fake.expect(match("message", type="error", id="m1", from_=account.jid))
    assert got.condition == "service-unavailable"
    await tap.fence()
    assert tap.fake.count(match("message")) == 1
