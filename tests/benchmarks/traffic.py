"""The stanzas of the component benchmarks: 602-byte MIX messages of many users and channels."""

import random
from collections.abc import Iterator

USERS = 10_000
CHANNELS = 500
CHANNELS_PER_USER = 10
SIZE = 602
DOMAIN = "example.org"
COMPONENT = "mixpam.example.org"
GATHERING = f"{COMPONENT}/bench"
ADDRESSES = "http://jabber.org/protocol/address"
HEADER = (
    "<?xml version='1.0'?><stream:stream xmlns='{content}' version='1.0' id='bench'"
    " xmlns:stream='http://etherx.jabber.org/streams' from='{component}'>"
)


def user(number: int) -> str:
    """Return the bare JID of a user."""
    return f"user{number:06d}@{DOMAIN}"


def channel(number: int) -> str:
    """Return the address of a channel."""
    return f"channel{number:04d}@mix.{DOMAIN}"


def channels_of(number: int, per_user: int = CHANNELS_PER_USER, total: int = CHANNELS) -> list[int]:
    """Return the channels a user is in, spread over all."""
    return [(number * 7 + step * 37) % total for step in range(per_user)]


def message(
    to: str, sender: str, number: int, *, core: int = 1, extra: str = "", size: int = SIZE
) -> bytes:
    """Return a message of `size` bytes as a MIX channel sends it, `extra` not counted."""
    head = (
        f"<message xmlns='jabber:component:accept' type='groupchat' id='{number:016d}'"
        f" to='{to}' from='{sender}/123456' xml:lang='en'>"
    ).replace(" xmlns='jabber:component:accept'", "")
    tail = (
        f"</body><mix xmlns='urn:xmpp:mix:core:{core}'><nick>thirdwitch</nick>"
        f"<jid>hag66@shakespeare.example</jid></mix>"
        f"<stanza-id xmlns='urn:xmpp:sid:0' by='{sender}' id='{number:016d}'/>"
        f"<origin-id xmlns='urn:xmpp:sid:0' id='{number:032x}'/></message>"
    )
    body = "Harpier cries: 'tis time, &amp; 'tis time. "
    room = size - len(head) - len("<body>") - len(tail)
    text = (body * (room // len(body) + 1))[: max(room, 0)]
    # A cut must not split an entity.
    text = (
        text[: text.rfind("&")] + "x" * (len(text) - text.rfind("&")) if "&" in text[-5:] else text
    )
    return f"{head}<body>{text}{extra}{tail}".encode()


def gathered(count: int, each: int, *, users: int = USERS) -> Iterator[bytes]:
    """Give `count` messages as the tap's batches: stanzas for `each` users."""
    members: dict[int, list[str]] = {}
    for number in range(users):
        for where in channels_of(number):
            members.setdefault(where, []).append(user(number))
    for number in range(0, count, each):
        where = number // each % len(members)
        whom = members[where]
        first = number % len(whom)
        some = (whom[first:] + whom)[: min(each, count - number)]
        data = message(GATHERING, channel(where), number)
        start = data.index(b">") + 1
        listed = "".join(f"<address type='to' jid='{who}' id='{number:016d}'/>" for who in some)
        addresses = f"<addresses xmlns='{ADDRESSES}'>{listed}</addresses>"
        yield data[:start] + addresses.encode() + data[start:]


def stanzas(count: int, *, core: int = 1, users: int = USERS, seed: int = 1) -> Iterator[bytes]:
    """Give messages to random users from a random one of their channels."""
    chance = random.Random(seed)  # noqa: S311 - the same order each time
    for number in range(count):
        who = chance.randrange(users)
        yield message(user(who), channel(chance.choice(channels_of(who))), number, core=core)
