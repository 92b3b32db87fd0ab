"""ejabberd's tap is exchanged, and its processes are ended, under traffic.

The kind: what an operator or an accident takes away in the middle of a stanza. Whatever it
is, nothing is bounced to a channel, everything of a member's channel is archived, and what
is archived arrives live but for what was in the very process that was killed. An exchange
kills none, so all of it arrives live: what is in a batch when it comes, wherever the gatherer
and the link happen to be, however slow they are, and whoever is at work in code before it.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from harness import ns
from harness.contrib import server, standing_still
from harness.house import TapHouse, event
from harness.stanza import match
from harness.stream import fresh
from talking import USERS, Traffic, talking

GATHERER = 'whereis(gen_mod:get_module_proc(<<"{}">>, mod_mixpam_tap_gatherer))'


@pytest_asyncio.fixture(loop_scope="session", params=["", "gathering"])
async def traffic(contrib: TapHouse, request: pytest.FixtureRequest) -> AsyncIterator[Traffic]:
    """Give a channel with members, with T10 and without."""
    yield await talking(contrib, request.param)
    await contrib.close_clients()


@pytest.mark.parametrize("changed", [False, True])
async def test_an_upgrade_loses_nothing(traffic: Traffic, changed: bool) -> None:
    house = traffic.house
    old, new = '<<"1.2">>', '<<"1.2.test">>'
    server(house).lay_out(*[(old, new)] if changed else [])
    hooks = "lists:sort(ets:tab2list(hooks))"
    before = await server(house).erlang(hooks)
    async with traffic.going_on():
        assert await server(house).erlang("ext_mod:upgrade(mod_mixpam_tap)") == "ok"
    assert await server(house).erlang(hooks) == before
    hello = await house.link.expect(match("message", has=event("hello")))
    assert (hello.need(event("hello")).get("tap") == "1.2.test") == changed
    await traffic.check()
    await house.up()


async def test_a_batch_that_is_open_is_sent(traffic: Traffic) -> None:
    """The gatherer comes to it when the exchange is over."""
    house = traffic.house
    async with traffic.going_on(), standing_still(house, GATHERER.format(house.domain)):
        await asyncio.sleep(0.1)
        assert await server(house).erlang("ext_mod:upgrade(mod_mixpam_tap)") == "ok"
    await traffic.check()


async def test_a_link_that_lags_gets_all(traffic: Traffic) -> None:
    """Of what waits on both sides of it, neither waits for the other."""
    house = traffic.house
    link = f'element(3, hd(ets:lookup(mixpam_link, <<"{house.domain}">>)))'
    async with traffic.going_on(), standing_still(house, link):
        await asyncio.sleep(0.3)
        assert await server(house).erlang("ext_mod:upgrade(mod_mixpam_tap)") == "ok"
        house.link.send(
            f"<message from='{house.component}' to='{house.domain}'>"
            f"<services xmlns='{ns.TAP}' complete='true' "
            f"multicast='{house.component}/gathering'>"
            f"<service jid='{house.fake.jid}'/></services></message>"
        )
        await asyncio.sleep(0.3)
    await traffic.check()


async def test_two_upgrades_in_a_row_lose_nothing(traffic: Traffic) -> None:
    house = traffic.house
    async with traffic.going_on():
        for number in range(3):
            server(house).lay_out(('<<"1.2">>', f'<<"1.2.{number}">>'))
            assert await server(house).erlang("ext_mod:upgrade(mod_mixpam_tap)") == "ok"
    await traffic.check()


async def test_who_is_at_work_in_the_code_of_two_exchanges_ago_is_not_ended(
    traffic: Traffic,
) -> None:
    """As a stanza that waits for the archive: here one waits for a session."""
    house, client = traffic.house, traffic.members[0]
    user, _, domain = client.bare.partition("@")
    session = f'<<"{user}">>, <<"{domain}">>, <<"{client.resource}">>'
    waits = (
        "begin {_, Ref} = spawn_monitor(mod_mixpam_tap_link, barrier, [[{" + session + "}], sync])"
        ", receive {'DOWN', Ref, _, _, Why} -> Why end end"
    )
    session_stands = standing_still(house, f"ejabberd_sm:get_session_pid({session})")
    async with traffic.going_on(), session_stands:
        ends = asyncio.create_task(server(house).erlang(waits))
        for number in range(2):
            server(house).lay_out(('<<"1.2">>', f'<<"1.2.{number}">>'))
            assert await server(house).erlang("ext_mod:upgrade(mod_mixpam_tap)") == "ok"
        assert await ends == "normal"
    await traffic.check()


async def test_a_reload_of_the_configuration_loses_nothing(traffic: Traffic) -> None:
    async with traffic.going_on():
        assert await server(traffic.house).erlang("ejabberd_config:reload()") == "ok"
    await traffic.check()


async def test_sessions_go_on_in_an_upgrade(traffic: Traffic) -> None:
    """A request that is open and a flag survive it."""
    house = traffic.house
    client = traffic.members[0]
    await house.up()
    client.send(
        f"<iq type='set' id='open' to='{client.bare}'>"
        f"<client-join xmlns='{ns.PAM2}' channel='a@b'/></iq>"
    )
    await house.link.expect(match("iq", id="open"))
    assert await server(house).erlang("ext_mod:upgrade(mod_mixpam_tap)") == "ok"
    house.link.send(f"<iq type='result' id='open' from='{client.bare}' to='{client.jid}'/>")
    await client.expect(match("iq", id="open", type="result"))


@pytest.mark.parametrize(
    "victim", ["gatherer", "mod_mixpam_tap_keeper", "mod_mixpam_tap_sup", "purge"]
)
async def test_a_process_that_is_killed(traffic: Traffic, victim: str) -> None:
    house = traffic.house
    pid = GATHERER.format(house.domain) if victim == "gatherer" else f"whereis({victim})"
    kill = f"exit({pid}, kill)"
    if victim == "purge":
        kill = (
            "[begin code:purge(mod_mixpam_tap_gatherer), code:load_file(mod_mixpam_tap_gatherer)"
            " end || _ <- [1, 2, 3]]"
        )
    async with traffic.going_on():
        for _ in range(5):
            await server(house).erlang(kill)
            await asyncio.sleep(0.3)
    # What was in the killed process's own hands is live for nobody: some at each kill.
    await traffic.check(lost=5 * USERS * (1 if victim in ("gatherer", "purge") else 10))
    assert await server(house).erlang(f"is_pid({GATHERER.format(house.domain)})") == "true"
    assert await server(house).erlang("is_pid(whereis(ejabberd_gen_mod_sup))") == "true"


async def test_started_twice_is_as_once(traffic: Traffic) -> None:
    house = traffic.house
    start = f'gen_mod:start_module(<<"{house.domain}">>, mod_mixpam_tap)'
    hooks = "lists:sort(ets:tab2list(hooks))"
    before = await server(house).erlang(hooks)
    async with traffic.going_on():
        assert await server(house).erlang(start) == "ok"
    assert await server(house).erlang(hooks) == before
    await traffic.check()


async def test_a_configuration_that_names_it_twice_is_refused(traffic: Traffic) -> None:
    """At the top level and under append_host_config: ejabberd refuses any module twice."""
    house = traffic.house
    file = house.server.folder / "ejabberd.yml"
    text = file.read_text("utf-8")
    try:
        file.write_text(
            f"{text}\nappend_host_config:\n  {house.domain}:\n    modules:\n"
            f"      mod_mixpam_tap:\n        component: {house.component}\n",
            "utf-8",
        )
        async with traffic.going_on():
            said = await server(house).erlang("ejabberd_config:reload()")
    finally:
        file.write_text(text, "utf-8")
    assert "mod_mixpam_tap" in said
    assert "duplicated" in said.lower()
    await traffic.check()
    assert await server(house).erlang("ejabberd_config:reload()") == "ok"


async def test_a_killed_sessions_end_is_told(traffic: Traffic) -> None:
    house, client = traffic.house, traffic.members[0]
    local, _, domain = client.bare.partition("@")
    await server(house).erlang(
        f'exit(ejabberd_sm:get_session_pid(<<"{local}">>, <<"{domain}">>, '
        f'<<"{client.resource}">>), kill)'
    )
    await server(house).erlang("whereis(mod_mixpam_tap_keeper) ! sweep")
    await house.link.expect(
        match("presence", from_=client.jid, to=house.component, type="unavailable")
    )


async def test_the_sessions_of_a_lost_node_are_told(traffic: Traffic) -> None:
    """As the tap sees it: rows of a process that was elsewhere, and the word that it is gone."""
    house = traffic.house
    there = f"romeo-{fresh()}@{house.domain}/there"
    # An external pid (NEW_PID_EXT) of a node that there never was.
    pid = 'binary_to_term(<<131, 88, 119, 9, "lost@mars", 1:32, 0:32, 1:32>>)'
    await server(house).erlang(
        f'mnesia:dirty_write({{mixpam_online, {{<<"{house.domain}">>, <<"{there}">>}}, {pid}}})'
    )
    await server(house).erlang("whereis(mod_mixpam_tap_keeper) ! {nodedown, lost@mars}")
    await house.link.expect(match("presence", from_=there, to=house.component, type="unavailable"))
    await house.fence()
    assert not [
        s
        for m in traffic.members
        for s in house.link.inbox.matching(match("presence", from_=m.jid, type="unavailable"))
    ]


async def test_a_killed_link_is_a_link_that_is_down(traffic: Traffic) -> None:
    house, client = traffic.house, traffic.members[0]
    await house.up()
    client.send(
        f"<iq type='set' id='killed' to='{client.bare}'>"
        f"<client-join xmlns='{ns.PAM2}' channel='a@b'/></iq>"
    )
    await house.link.expect(match("iq", id="killed"))
    await server(house).erlang(
        f'exit(element(3, hd(ets:lookup(mixpam_link, <<"{house.domain}">>))), kill)'
    )
    answer = await client.expect(match("iq", id="killed", type="error"))
    assert answer.condition == "service-unavailable"
    await client.fence()
    for _ in range(50):
        if await server(house).erlang("ets:info(mixpam_link, size)") == "0":
            break
        await asyncio.sleep(0.1)
    else:
        pytest.fail("the row of a dead link stays")
    await house.link.cut()
    await house.up()


WORKERS = [f"mod_mixpam_tap_rosters_{number}" for number in (1, 2, 3, 4)]


async def test_rosters_that_wait_hold_up_nobody(traffic: Traffic) -> None:
    """The database may take its time: those of one user come in order, all else goes on."""
    house, client = traffic.house, traffic.members[0]
    channel = house.channel()
    for worker in WORKERS:
        await server(house).erlang(f"sys:suspend({worker})")
    try:
        for number, subscription in enumerate(("from", "none", "remove", "from")):
            house.link.send(
                f"<iq type='set' id='w{number}' from='{house.component}' to='{client.bare}'>"
                f"<query xmlns='{ns.ROSTER}'><item jid='{channel}' "
                f"subscription='{subscription}'/></query></iq>"
            )
        async with traffic.going_on():
            await asyncio.sleep(0.3)
        await traffic.check()
        house.link.none(match("iq", from_=client.bare))
    finally:
        for worker in WORKERS:
            await server(house).erlang(f"sys:resume({worker})")
    for number in range(4):
        await house.link.expect(match("iq", id=f"w{number}", type="result"))
    answer = await client.roster()
    assert answer.find(f"{{*}}query/{{*}}item[@jid='{channel}'][@subscription='from']") is not None


async def test_who_reads_rosters_may_be_killed(traffic: Traffic) -> None:
    """Or fail: what is asked then has an answer."""
    house, client = traffic.house, traffic.members[0]
    async with traffic.going_on():
        for worker in WORKERS:
            await server(house).erlang(f"exit(whereis({worker}), kill)")
        await asyncio.sleep(0.2)
    await traffic.check()
    await house.roster_set(client.bare, house.channel(), "from")
    for worker in WORKERS:
        assert await server(house).erlang(f"is_pid(whereis({worker}))") == "true"
