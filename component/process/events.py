"""Every event of the log: its meaning, its facts and its remedy.

The one list: the documentation's table is made from it (`table`), the status page takes
its remedies from it, and a test compares it with what the code reports, both ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of log entry.

    `facts` are the names of its possible facts, `remedy` is what an operator does about it; an
    event whose remedy depends on the case has a fact `remedy` of its own.
    """

    name: str
    level: Level
    meaning: str
    facts: tuple[str, ...] = ()
    remedy: str = ""


_ALL = (
    Event("start", "info", "The component starts.", ("version", "component")),
    Event(
        "settings-at-odds",
        "warning",
        "One setting makes another vain; both are used as they are.",
        ("reason",),
        "Change one of the two that the reason names.",
    ),
    Event(
        "loaded",
        "info",
        "What Redis remembers has been read.",
        ("memberships", "unfinished", "capabilities", "set_aside"),
    ),
    Event(
        "loading",
        "info",
        "Redis is being read; said every few seconds while that takes long.",
        ("memberships",),
    ),
    Event(
        "prefix-taken",
        "info",
        "The records below `mixpam` in Redis are another component's, so this one has its own"
        " below another prefix. It has brought along what was there of its users.",
        ("prefix", "users"),
    ),
    Event(
        "users-not-served",
        "warning",
        "Redis has records of users whose domain is not in MIXPAM_DOMAINS. They are left as they"
        " are.",
        ("records", "domains"),
        "Add the domain to MIXPAM_DOMAINS if it is to be served.",
    ),
    Event(
        "taken-over",
        "info",
        "This process has stood by and now serves. It has followed all that the one before"
        " changed in Redis, and need not read it again.",
        ("changes",),
    ),
    Event("link-up", "info", "The server has let the component in."),
    Event(
        "tap",
        "info",
        "The tap of a domain has introduced itself.",
        ("domain", "software", "tap", "archive"),
    ),
    Event("ready", "info", "A domain's tap has told of every session; it is served.", ("domain",)),
    Event("stop", "info", "The component was asked to stop."),
    Event("http-up", "info", "Metrics, health and status page can be asked.", ("address",)),
    Event(
        "http-down",
        "warning",
        "Metrics, health and status page cannot be served; all else goes on.",
        ("address", "reason", "remedy"),
    ),
    Event(
        "http-crowded",
        "warning",
        "Somebody holds as many connections to the HTTP port as there may be; those that ask"
        " nothing are ended for those that do. Link and Redis are not touched by that.",
        ("connections",),
        "Find out who it is, and let only those reach the port who need it.",
    ),
    Event(
        "http-fault",
        "error",
        "Answering one request on the HTTP port failed; all else goes on.",
        ("exception",),
        "This is a fault in mixpam: please report it with the traceback in the log.",
    ),
    Event(
        "library",
        "warning",
        "A library that mixpam uses has something to say; the same again only once a minute.",
        ("library", "says", "exception"),
        "Nothing, if all is well otherwise; else report it.",
    ),
    Event(
        "link-down",
        "warning",
        "There is no link to the server.",
        ("server", "reason", "remedy", "retry_in"),
    ),
    Event(
        "tap-version",
        "error",
        "A domain's tap speaks another version of the tap protocol; it is not served.",
        ("domain", "version"),
        "Install the tap that came with this version of mixpam, and reload it.",
    ),
    Event(
        "tap-missing",
        "warning",
        "The link is up, but no tap has said hello for a domain of MIXPAM_DOMAINS; nobody there"
        " is served.",
        ("domain",),
        "See that mod_mixpam_tap is loaded on that very host (the server's log has a line about"
        " it), and that its option for the component is the address in MIXPAM_COMPONENT_JID.",
    ),
    Event(
        "tap-of-other-domain",
        "warning",
        "A tap says hello for a domain that is not in MIXPAM_DOMAINS; it is not served.",
        ("domain",),
        "Add the domain to MIXPAM_DOMAINS, or take the module away from that host. If the domain"
        " is none of yours, somebody is trying something; nothing happened.",
    ),
    Event(
        "redis-away",
        "error",
        "Redis does not answer, takes no writes, or holds another component's records; joins and"
        " leaves are refused, messages still flow. It is tried again by itself.",
        ("kind", "reason", "remedy"),
    ),
    Event("redis-back", "info", "Redis answers again, and what waited has been written."),
    Event(
        "writes-given-up",
        "warning",
        "Redis was away for so long that MIXPAM_MAX_WAITING_WRITES waited. They were given up:"
        " when Redis is back, everything is written anew from memory.",
        ("writes",),
        "Mend Redis before mixpam is restarted: only its memory knows what changed since.",
    ),
    Event(
        "memory-lost",
        "warning",
        "Redis no longer holds what was written to it: it was flushed, restarted empty or from"
        " an old copy, or a replica took over that missed the last of it. Everything is written"
        " anew from memory.",
        remedy="Find out how it came to that: while mixpam is not running, nobody could mend it."
        " Redis needs appendonly yes, and a failover that waits for the replica.",
    ),
    Event("memory-rewritten", "info", "Redis holds again all that memory does.", ("users",)),
    Event(
        "memory-empty",
        "error",
        "Redis remembers no membership at all, but rosters have channels in them: it was lost"
        " while mixpam was not running.",
        ("channel",),
        "Bring memberships back with `mixpam rebuild`, from rosters and channels.",
    ),
    Event(
        "superseded",
        "warning",
        "Another process has served as this component meanwhile; this one reads Redis again.",
        remedy="Nothing, if a standby took over; otherwise see who else runs with these settings,"
        " or which component of an earlier version shares the records: stop it, and upgrade it.",
    ),
    Event(
        "record-unusable",
        "error",
        "A record in Redis does not validate; it was set aside and is not used.",
        ("key", "field", "reason"),
        "Look at it in the hash named set-aside, and find out who else writes below"
        " MIXPAM_REDIS_PREFIX.",
    ),
    Event(
        "change-begun",
        "info",
        "A user's joining or leaving of a channel begins; `request` is in all that follows.",
        ("kind", "user", "channel", "request"),
    ),
    Event(
        "change-done",
        "info",
        "Channel, memory and roster agree about a membership that was to change.",
        ("kind", "user", "channel", "request"),
    ),
    Event(
        "change-refused",
        "info",
        "A join or leave came to nothing; the client was told the condition.",
        ("kind", "user", "channel", "request", "condition"),
    ),
    Event(
        "membership-gone",
        "info",
        "A channel is no longer in the user's roster; it went while no component was there.",
        ("user", "channel"),
    ),
    Event(
        "audit-stopped",
        "error",
        "Many rosters seem to have lost their channels of a service at once; no more of those are"
        " taken for left.",
        ("service", "users"),
        "See whether the server's roster storage works; then restart the component, or run"
        " `mixpam reconcile`, which puts the channels back into the rosters.",
    ),
    Event(
        "roll-call-stopped",
        "error",
        "Channels of a service say of many users at once that they are no participants; nobody"
        " else is taken for kicked there.",
        ("service", "participants"),
        "See whether a channel service has lost its memory. `mixpam reconcile` follows what the"
        " channels say.",
    ),
    Event(
        "journal-recovered",
        "info",
        "A join or leave that was cut off half-way is finished or undone.",
        ("kind", "user", "channel", "request"),
    ),
    Event(
        "kicked",
        "info",
        "A channel has removed a user; the roster follows.",
        ("user", "channel"),
    ),
    Event(
        "late-answer",
        "warning",
        "A channel answered after the client was told that it did not; that is undone.",
        ("kind", "user", "channel", "request"),
        "If it happens often, raise MIXPAM_CHANNEL_TIMEOUT.",
    ),
    Event(
        "roster-refused",
        "warning",
        "The server did not let the roster follow a join or leave.",
        ("kind", "user", "channel", "request"),
        "See the server's log; a roster may be full or its storage may fail.",
    ),
    Event(
        "command",
        "info",
        "An admin has used an ad-hoc command.",
        ("node", "admin"),
    ),
    Event(
        "outgoing-refused",
        "error",
        "The component was about to speak in a name that is not its to use; it did not.",
        ("reason",),
        "This is a fault in mixpam: please report it.",
    ),
    Event(
        "event-of-stranger",
        "warning",
        "Somebody who is not the server sent an event that only a tap may send; it was ignored.",
        ("sender",),
        "Somebody is trying something; nothing happened.",
    ),
    Event(
        "stanza-oversized",
        "warning",
        "A stanza is larger than MIXPAM_MAX_STANZA_BYTES; it was left out, the link goes on.",
        ("kind", "sender"),
        "If it is a user's roster, install the tap that came with this version, which gives it in"
        " parts. A channel's message is in the archive; whoever asked for something has got an"
        " error.",
    ),
    Event(
        "stanza-malformed",
        "warning",
        "A stanza cannot be read: it is nested too deeply, say, or not well-formed. It was left"
        " out; whoever asked for something has got an error.",
        ("kind", "sender", "reason"),
        "If it happens often, see what the server lets through.",
    ),
    Event(
        "server-limit",
        "error",
        "The server takes no stanzas as large as some that come; those are not passed on.",
        ("domain", "limit", "wanted"),
        "Raise the server's limit for components to `wanted` bytes (Prosody:"
        " component_stanza_size_limit; ejabberd: max_stanza_size of the ejabberd_service"
        " listener), or lower MIXPAM_MAX_STANZA_BYTES.",
    ),
    Event(
        "stanza-unsendable",
        "warning",
        "A stanza would have held what XML cannot carry, or been larger than the server takes; who"
        " waits for it was told.",
        ("reason",),
    ),
    Event(
        "fault",
        "error",
        "Dealing with one stanza failed; it was dropped, the rest goes on.",
        ("exception",),
        "This is a fault in mixpam: please report it with the traceback in the log.",
    ),
)

EVENTS: dict[str, Event] = {event.name: event for event in _ALL}
"""All events, by name."""


def table() -> str:
    """Write the events as the documentation's Markdown table."""
    rows = ["| event | level | meaning | facts | what to do |", "|---|---|---|---|---|"]
    for event in _ALL:
        facts = ", ".join(f"`{fact}`" for fact in event.facts) or "none"
        remedy = event.remedy or ("see its `remedy`" if "remedy" in event.facts else "nothing")
        rows.append(f"| `{event.name}` | {event.level} | {event.meaning} | {facts} | {remedy} |")
    return "\n".join(rows) + "\n"
