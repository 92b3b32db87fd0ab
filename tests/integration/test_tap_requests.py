"""T5 is bounded: whatever a client asks of a component that does not answer.

Of the kind *what waits grows with what a peer sends*: the number of requests, their size, the
size of their ids, and time. None of them is lost without an answer.
"""

from harness import ns
from harness.client import RawClient
from harness.house import TapHouse
from harness.stanza import Stanza, match
from harness.stream import fresh

LIMIT = 200
"""Open requests of one session, by the contract."""
JOIN = f"<client-join xmlns='{ns.PAM2}' channel='coven@mix.test'><join xmlns='{ns.CORE1}'/>"


def ask(client: RawClient, padding: str = "", id_: str = "") -> str:
    """Send a client-join and return its id."""
    id_ = id_ or fresh("pam")
    client.send(
        f"<iq type='set' id='{id_}' to='{client.bare}'>{JOIN}<x xmlns='urn:example:x'>{padding}</x>"
        "</client-join></iq>"
    )
    return id_


async def answered(client: RawClient, id_: str, within: float = 10) -> Stanza:
    """Return the answer to a request."""
    return await client.expect(
        match("iq", id=id_, test=lambda s: s["type"] in ("result", "error")), within
    )


def answer(tap: TapHouse, client: RawClient, id_: str) -> None:
    """Answer a request."""
    tap.link.send(f"<iq type='result' id='{id_}' from='{client.bare}' to='{client.jid}'/>")


async def is_refused(client: RawClient, id_: str) -> None:
    """Check that a request was refused at once."""
    error = (await answered(client, id_)).need(f"{{{ns.CLIENT}}}error")
    assert error.get("type") == "wait"
    assert error.find(f"{{{ns.STANZAS}}}resource-constraint") is not None


async def test_one_more_than_the_limit_is_refused(tap: TapHouse) -> None:
    client = await tap.client()
    open_ = [ask(client) for _ in range(LIMIT)]
    await is_refused(client, ask(client))
    await client.fence()
    client.none(match("iq", type="error", id=open_[0]))
    answer(tap, client, open_[0])
    assert (await answered(client, open_[0]))["type"] == "result"
    last = ask(client)
    await tap.link.expect(match("iq", id=last))
    await tap.fence()
    assert tap.link.count(match("iq", from_=client.jid)) == LIMIT + 1


async def test_the_limit_is_each_sessions_own(tap: TapHouse) -> None:
    client = await tap.client()
    for _ in range(LIMIT):
        ask(client)
    await is_refused(client, ask(client))
    other = await tap.client(client.account)
    id_ = ask(other)
    await tap.link.expect(match("iq", from_=other.jid, id=id_))


async def test_all_that_are_open_are_answered_when_the_link_dies(tap: TapHouse) -> None:
    client = await tap.client()
    open_ = [ask(client) for _ in range(LIMIT)]
    await tap.link.expect(match("iq", id=open_[-1]))
    await tap.down()
    for id_ in open_:
        assert (await answered(client, id_)).condition == "service-unavailable"
    await client.fence()
    assert client.count(match("iq", type="error")) == LIMIT


async def test_open_requests_survive_resumption(tap: TapHouse) -> None:
    client = await tap.client(smacks=True)
    open_ = [ask(client) for _ in range(5)]
    await tap.link.expect(match("iq", id=open_[-1]))
    await client.fence()
    await client.cut()
    await tap.link.expect(match("message", has=f"{{{ns.TAP}}}hibernated[@jid='{client.jid}']"))
    await client.resume()
    answer(tap, client, open_[0])
    assert (await answered(client, open_[0]))["type"] == "result"
    await tap.down()
    for id_ in open_[1:]:
        assert (await answered(client, id_)).condition == "service-unavailable"


async def test_large_requests_leave_nothing_behind(tap: TapHouse) -> None:
    """Requests and ids of 20 kB: the tap keeps neither."""
    client = await tap.client()
    ids = [ask(client, "x" * 20_000, fresh("i") + "y" * 500) for _ in range(300)]
    answers = [await answered(client, id_, 20) for id_ in ids[LIMIT:]]
    assert {a["type"] for a in answers} == {"error"}
    await tap.down()
    for id_ in ids[:LIMIT]:
        assert (await answered(client, id_, 20))["type"] == "error"
    await client.fence()
    assert client.count(match("iq", type="error")) == len(ids)
