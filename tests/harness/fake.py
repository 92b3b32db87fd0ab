"""A scripted channel service: answers joins as the test wants, and records everything."""

from collections.abc import Callable
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from harness import ns
from harness.component import Link
from harness.stanza import Stanza, match
from harness.stream import fresh

Answer = Callable[[Stanza], str | None]


@dataclass
class Script:
    """The behaviour of one channel; it may be changed at any time.

    `pid` goes into join results, as `id` and `jid` (either can be left out by `by`);
    `grant` None grants the requested nodes, a tuple exactly those nodes; `join` and `leave` replace
    the whole answer by their result, None being silence; `other` answers all other requests to the
    channel.
    """

    jid: str
    pid: str = field(default_factory=lambda: fresh("pid"))
    by: tuple[str, ...] = ("id", "jid")
    grant: tuple[str, ...] | None = None
    join: Answer | None = None
    leave: Answer | None = None
    other: Answer | None = None


class FakeService(Link):
    """A MIX service of scripted channels; unknown ones answer item-not-found."""

    def __init__(self, link: Link) -> None:
        super().__init__(link.jid, link.place, port=link.port, secret=link.secret)
        self.channels: dict[str, Script] = {}

    def channel(self, **script: object) -> Script:
        """Open a fresh channel."""
        jid = f"{fresh('coven')}@{self.jid}"
        self.channels[jid] = Script(jid, **script)  # type: ignore[arg-type]
        return self.channels[jid]

    def arrived(self, stanza: Stanza) -> None:
        """Record the stanza and answer it as the script says."""
        super().arrived(stanza)
        if stanza.name == "iq" and stanza["type"] in ("get", "set"):
            answer = self._answer(stanza)
            if answer is not None:
                self.send(answer)

    def _answer(self, stanza: Stanza) -> str | None:
        if stanza.find(f"{{{ns.PING}}}ping") is not None:
            return result(stanza)
        script = self.channels.get(stanza["to"])
        exists = script is not None or stanza["to"] == self.jid
        if exists and stanza.find(f"{{{ns.DISCO_INFO}}}query") is not None:
            return result(stanza, self._disco())
        if script is None:
            return error(stanza, "cancel", "item-not-found")
        return self._scripted(stanza, script)

    def _scripted(self, stanza: Stanza, script: Script) -> str | None:
        for core in (ns.CORE1, ns.CORE0):
            if stanza.find(f"{{{core}}}join") is not None:
                return script.join(stanza) if script.join else joined(stanza, script)
            if stanza.find(f"{{{core}}}leave") is not None:
                if script.leave:
                    return script.leave(stanza)
                return result(stanza, f"<leave xmlns='{core}'/>")
        if script.other:
            return script.other(stanza)
        return error(stanza, "cancel", "feature-not-implemented")

    def _disco(self) -> str:
        return (
            f"<query xmlns='{ns.DISCO_INFO}'><identity category='conference' type='mix'/>"
            f"<feature var='{ns.CORE1}'/></query>"
        )

    def say(self, channel: str, to: str, body: str, extra: str = "", core: str = ns.CORE1) -> str:
        """Send a channel message to a participant's bare JID; returns its id."""
        id_ = fresh("say")
        self.send(
            f"<message from='{channel}' to='{to}' id='{id_}' type='groupchat'>"
            f"<body>{body}</body><mix xmlns='{core}'><nick>Hecate</nick>"
            f"<jid>hecate@shakespeare.lit</jid></mix>{extra}</message>"
        )
        return id_

    def event(self, channel: str, to: str, node: str, inner: str) -> str:
        """Send a pubsub event of one of the channel's nodes; returns its id."""
        id_ = fresh("event")
        self.send(
            f"<message from='{channel}' to='{to}' id='{id_}'><event xmlns='{ns.PUBSUB_EVENT}'>"
            f"<items node='{ns.NODES}{node}'>{inner}</items></event></message>"
        )
        return id_


def result(stanza: Stanza, inner: str = "") -> str:
    """Return the result that answers an iq."""
    return (
        f"<iq type='result' id='{stanza['id']}' from='{stanza['to']}' to='{stanza['from']}'>"
        f"{inner}</iq>"
    )


def error(stanza: Stanza, type_: str, condition: str, text: str = "") -> str:
    """Return the error that answers an iq."""
    words = f"<text xmlns='{ns.STANZAS}'>{text}</text>" if text else ""
    return (
        f"<iq type='error' id='{stanza['id']}' from='{stanza['to']}' to='{stanza['from']}'>"
        f"<error type='{type_}'><{condition} xmlns='{ns.STANZAS}'/>{words}</error></iq>"
    )


def joined(stanza: Stanza, script: Script) -> str:
    """Return the result of a join, as the script grants it."""
    core = ns.CORE1 if stanza.find(f"{{{ns.CORE1}}}join") is not None else ns.CORE0
    join = stanza.need(f"{{{core}}}join")
    nodes = script.grant
    if nodes is None:
        nodes = tuple(e.get("node", "") for e in join.findall(f"{{{core}}}subscribe"))
    nick = join.findtext(f"{{{core}}}nick")
    attributes = ""
    if "id" in script.by:
        attributes += f" id='{script.pid}'"
    if "jid" in script.by:
        attributes += f" jid='{script.pid}#{script.jid}'"
    inner = "".join(f"<subscribe node='{node}'/>" for node in nodes)
    if nick is not None:
        inner += f"<nick>{escape(nick)}</nick>"
    return result(stanza, f"<join xmlns='{core}'{attributes}>{inner}</join>")


def is_join(channel: str, sender: str | None = None) -> object:
    """Return a matcher for a join request at a channel."""
    return match(
        "iq",
        type="set",
        to=channel,
        test=lambda s: (
            (sender is None or s["from"] == sender)
            and any(s.find(f"{{{core}}}join") is not None for core in (ns.CORE0, ns.CORE1))
        ),
    )
