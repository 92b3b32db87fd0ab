"""Metrics, health and API of a running component: true, complete and guarded."""

import asyncio
from collections.abc import Awaitable, Callable
from html import unescape

import pytest
from commandline import mixpam
from harness import caps, ns
from harness.http import PORT, Http, Reply, value
from harness.stack import Stack, client_join
from harness.stanza import match

FreshStack = Callable[..., Awaitable[Stack]]
pytestmark = pytest.mark.family
TOKEN = "correct-horse-battery"


async def start(fresh_stack: FreshStack, **settings: str) -> tuple[Stack, Http]:
    """Return a running stack and its component's HTTP port."""
    stack = await fresh_stack(component=False)
    http = Http(stack, **settings)
    await stack.mixpam.start()
    return stack, http


def is_ready(reply: Reply) -> bool:
    """Tell whether an answer of /readyz means ready."""
    return reply.status == 200


def is_not_ready(*words: str) -> Callable[[Reply], bool]:
    """Make a test for an answer of /readyz that gives a reason with all the words."""
    return lambda reply: (
        reply.status == 503
        and any(all(word in reason for word in words) for reason in reply.json["reasons"])
    )


async def test_readiness_follows_server_and_redis(fresh_stack: FreshStack) -> None:
    stack, http = await start(fresh_stack)
    assert (await http.ask("/readyz")).json == {"ready": True, "reasons": []}
    link = (await http.ask("/api/link")).json
    assert link["component"] == stack.component
    assert link["link"]["state"] == link["redis"]["state"] == "up"
    (domain,) = link["domains"]
    assert domain["domain"] == stack.domain
    assert domain["ready"]
    assert domain["archive"]
    assert stack.server.kind.software in domain["software"].lower()
    assert value(await http.metrics(), "mixpam_ready") == 1

    await stack.redis.stop()
    await http.until("/readyz", is_not_ready("Redis", "MIXPAM_REDIS_URL"))
    assert value(await http.metrics(), "mixpam_redis_up") == 0
    await stack.redis.start()
    await http.until("/readyz", is_ready)
    assert value(await http.metrics(), "mixpam_redis_up") == 1

    await stack.server.stop()
    await http.until("/readyz", is_not_ready("no link"))
    assert (await http.ask("/healthz")).status == 200
    link = (await http.ask("/api/link")).json
    assert link["link"]["state"] == "down"
    assert not link["domains"][0]["ready"]
    samples = await http.metrics()
    assert value(samples, "mixpam_ready") == value(samples, "mixpam_link_up") == 0
    losses = [number for (name, _), number in samples.items() if name == "mixpam_link_losses_total"]
    assert losses == [1]
    page = (await http.ask("/")).text
    assert "There is no link to the server." in page
    await stack.server.start()
    await http.until("/readyz", is_ready, 40)
    assert value(await http.metrics(), "mixpam_link_connects_total") == 2


async def test_not_ready_before_redis_was_read(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack(component=False)
    http = Http(stack)
    await stack.redis.stop()
    await stack.mixpam.process.start()
    await http.until("/readyz", is_not_ready("Redis does not answer"))
    # Who is in which channel is not known: nothing may be compared, and less be repaired.
    for command in (("rebuild", "--online"), ("reconcile",)):
        done = await mixpam(*command, env=stack.mixpam.settings)
        assert (done.code, done.err.count("Redis has not been read yet")) == (1, 1)
    await stack.redis.start()
    await http.until("/readyz", is_ready, 20)


async def test_metrics_count_what_happens(fresh_stack: FreshStack) -> None:
    stack, http = await start(fresh_stack)
    account = await stack.user()
    phone, desk = await stack.raw(account, "phone"), await stack.raw(account, "desk")
    for device in (phone, desk):
        await device.mix_online(caps.MIX, "")
    plain = await stack.raw(account, "plain")
    await plain.mix_online(caps.PLAIN, "")
    channel = await stack.joined(phone)
    await stack.settle(phone, desk, plain)
    before = await http.metrics()

    for number in range(7):
        stack.fake.say(channel.jid, phone.bare, str(number))
    stranger = f"nobody@{stack.fake.jid}"
    stack.fake.say(stranger, phone.bare, "refused")
    stack.fake.send(f"<presence from='{stranger}/x' to='{phone.bare}'/>")
    await stack.settle(phone, desk, plain)
    await asyncio.sleep(0.5)  # sums over all users are kept for a moment
    after = await http.metrics()

    def more(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert more("mixpam_stanzas_received_total", kind="message", lane="hot") == 7
    assert more("mixpam_copies_sent_total") == 14
    assert more("mixpam_refused_total", condition="service-unavailable") == 1
    assert more("mixpam_dropped_total", reason="channel-not-joined") == 1
    assert more("mixpam_stanzas_received_total", kind="message", lane="control") == 1
    expected = {
        "users_online": 1,
        "devices_online": 3,
        "mix_devices": 2,
        "memberships": 1,
        "channels": 1,
        "operations": 0,
        "journal_entries": 0,
    }
    assert {name: value(after, f"mixpam_{name}") for name in expected} == expected
    assert value(after, "mixpam_redis_latency_seconds_count") > 0
    assert value(after, "mixpam_loop_lag_seconds_count") > 0
    assert value(after, "process_resident_memory_bytes") > 10_000_000
    assert value(after, "mixpam_outgoing_refused_total", reason="channel-not-joined") == 0


@pytest.mark.abuse(27)
async def test_metrics_name_nobody(fresh_stack: FreshStack) -> None:
    stack, http = await start(fresh_stack)
    phone = await stack.raw(await stack.user(), "phone")
    await phone.mix_online(caps.MIX, "")
    channel = await stack.joined(phone)
    stack.fake.say(f"evil-name@{stack.fake.jid}", phone.bare, "secret words")
    stack.fake.say(channel.jid, phone.bare, "secret words")
    await stack.settle(phone)
    text = (await http.ask("/metrics")).text
    assert 'lane="hot"} 1.0' in text
    for word in ("@", "evil-name", "secret words", stack.domain, channel.jid, phone.bare):
        assert word not in text
    assert "secret words" not in "\n".join(stack.mixpam.process.lines)


async def test_a_user_is_described(fresh_stack: FreshStack) -> None:
    stack, http = await start(fresh_stack, MIXPAM_DISCO_TIMEOUT="1")
    account = await stack.user()
    path = f"/api/user/{account.jid}"
    assert (await http.ask(path)).status == 404
    verified = await stack.raw(account, "verified")
    await verified.mix_online(caps.MIX, "")
    plain = await stack.raw(account, "plain")
    await plain.mix_online(caps.PLAIN, "")
    asked = await stack.device(account, "asked")  # slixmpp sends no hash here
    mute = await stack.raw(account, "mute")
    mute.send("<presence/>")
    await mute.fence()
    open_ = {d["resource"]: d["evidence"] for d in (await http.ask(path)).json["devices"]}
    assert open_["mute"] == "open"
    channel = await stack.joined(verified)
    view = (await http.until(path, lambda r: '"open"' not in r.text)).json
    devices = {d["resource"]: (d["mix"], d["evidence"]) for d in view["devices"]}
    assert devices == {
        "verified": (True, "hash"),
        "plain": (False, "hash"),
        "asked": (True, "no-hash"),
        "mute": (False, "silent"),
    }
    (joined,) = view["channels"]
    assert joined["channel"] == channel.jid
    assert joined["participant_id"] == channel.pid
    assert joined["shares_presence"] is True
    assert view["operations"] == []
    members = (await http.ask(f"/api/channel/{channel.jid}")).json["members"]
    assert [(m["user"], m["devices"], m["mix_devices"]) for m in members] == [(account.jid, 4, 2)]

    slow = stack.fake.channel(join=lambda _: None)
    asked.send(client_join(account.jid, slow.jid).replace("<iq", "<iq id='slow1'", 1))
    await stack.fake.expect(match("iq", has=f"{{{ns.CORE1}}}join", to=slow.jid))
    (operation,) = (await http.ask(path)).json["operations"]
    assert (operation["kind"], operation["channel"]) == ("join", slow.jid)
    assert (operation["step"], operation["device"]) == ("ask", "asked")
    page = (await http.ask(f"/?user={account.jid}")).text
    for words in ("did not answer when asked", "waits for the channel", channel.jid, ">shared<"):
        assert words in page
    for wrong in ("nonsense", "a@b@c", "@", stack.domain):
        assert (await http.ask(f"/api/user/{wrong}")).status == 400


async def test_hostile_names_stay_text(fresh_stack: FreshStack) -> None:
    stack, http = await start(fresh_stack)
    hostile = "<img src=x onerror=alert(1)>\"'&"
    phone = await stack.device(await stack.user(), hostile)
    channel = stack.fake.channel()
    await stack.join(phone, channel, "&lt;script&gt;evil()&lt;/script&gt;")
    for page in (
        await http.ask(f"/?user={phone.bare}"),
        await http.ask("/?user=%3Cimg%20src=x%3E%22'"),
        await http.ask(f"/?live=1&user={phone.bare}"),
    ):
        assert page.status == 200
        assert "<img" not in page.text
        assert "<script>evil" not in page.text
    shown = (await http.ask(f"/?user={phone.bare}")).text
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown
    assert "&lt;script&gt;evil()" in shown
    assert hostile in unescape(shown)
    assert (await http.ask(f"/api/user/{phone.bare}")).json["devices"][0]["resource"] == hostile


async def test_the_token_is_asked_for(fresh_stack: FreshStack) -> None:
    _, http = await start(fresh_stack, MIXPAM_HTTP_TOKEN=TOKEN)
    guarded = ("/metrics", "/api/link", "/api/user/a@b.test", "/?live=1", "/nowhere")
    for path in guarded:
        for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            reply = await http.ask(path, **wrong)
            assert (reply.status, reply.headers["WWW-Authenticate"][:6]) == (401, "Bearer"), path
    bearer = f"Bearer {TOKEN}"
    assert (await http.ask("/metrics", Authorization=bearer)).status == 200
    assert (await http.ask("/healthz")).status == 200
    assert (await http.ask("/readyz")).json == {"ready": True}
    assert (await http.ask("/readyz", Authorization=bearer)).json["reasons"] == []

    door = await http.ask("/")
    assert (door.status, door.headers["Location"]) == (303, "login")
    assert 'type="password"' in (await http.ask("/login")).text.replace("'", '"')
    refused = await http.ask("/login", method="POST", data={"token": "wrong"})
    assert refused.status == 403
    assert "Set-Cookie" not in refused.headers
    entered = await http.ask("/login", method="POST", data={"token": TOKEN})
    cookie, *attributes = entered.headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(attributes)
    assert TOKEN not in cookie
    assert (await http.ask("/", Cookie=cookie)).status == 200
    assert (await http.ask("/", Cookie="mixpam=0")).status == 303
    assert (await http.ask("/", Cookie=f"mixpam={TOKEN}")).status == 303
    # Behind a proxy, any name will do once there is a token.
    assert (await http.ask("/metrics", Authorization=bearer, Host="mixpam.example")).status == 200


async def test_no_strange_host_without_a_token(fresh_stack: FreshStack) -> None:
    _, http = await start(fresh_stack)
    for path in ("/", "/metrics", "/healthz", "/api/link"):
        assert (await http.ask(path, Host="rebound.example:5405")).status == 403
        for own in (f"{http.place.ip}:{PORT}", "localhost:5405", "[::1]:5405"):
            assert (await http.ask(path, Host=own)).status == 200
    policy = (await http.ask("/")).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert (await http.ask("/", method="POST", data={"a": "b"})).status == 405
    big = await http.ask("/login", method="POST", data={"token": "x" * 10_000})
    assert big.status == 413


async def test_a_taken_port_costs_only_the_port(fresh_stack: FreshStack) -> None:
    stack = await fresh_stack(component=False)
    http = Http(stack)
    other = await asyncio.start_server(lambda *_: None, stack.server.place.ip, PORT)
    await stack.mixpam.start()
    (down,) = stack.mixpam.events("http-down")
    assert down["address"] == f"{stack.server.place.ip}:{PORT}"
    other.close()
    await other.wait_closed()
    await http.until("/readyz", is_ready)
    assert "give this one its own MIXPAM_HTTP_PORT" in (await http.ask("/")).text


@pytest.mark.parametrize("off", ["0", ""])
async def test_off_means_off(fresh_stack: FreshStack, off: str) -> None:
    stack, _ = await start(fresh_stack, MIXPAM_HTTP_PORT=off)
    with pytest.raises(OSError, match=r"refused|111"):
        await asyncio.open_connection(stack.server.place.ip, PORT)
    assert not stack.mixpam.events("http-up")
