"""One stanza for many: as many deliveries as one by one, and nothing a stranger could use."""

import xml.etree.ElementTree as ET

import pytest
from driver import ANNA, BEN, CORE_0, CORE_1, COVEN, LAPTOP, OWN, PHONE, SERVER, Play
from hypothesis import given
from hypothesis import strategies as st
from scenes import comes_online, in_the_coven, tap_is_up

from component.core.delivery.fanout import copies
from component.core.delivery.multicast import LARGEST, LARGEST_BYTES, Multicast
from component.core.delivery.passage import of_frame
from component.core.stanza_size import Largest
from component.core.users.mirror import Membership, Mirror
from component.core.users.sessions import Speaks
from component.wire.framing import Frame
from schemas import codec, jid

ADDRESSES = "http://jabber.org/protocol/address"
CHANNEL = jid.parse(COVEN)
TO_MANY = f"{{{ADDRESSES}}}addresses"
STANZA_ID = "{urn:xmpp:sid:0}stanza-id"


def gathered(to: str, users: dict[str, str], content: str, *, quote: str = "'") -> str:
    """Write what a tap has gathered."""
    q = quote
    listed = "".join(
        f"<address type={q}to{q} jid={q}{user}{q}" + (f" id={q}{id_}{q}/>" if id_ else "/>")
        for user, id_ in users.items()
    )
    return (
        f"<message from={q}{COVEN}{q} to={q}{to}{q} type={q}groupchat{q} id='m1'>"
        f"<addresses xmlns={q}{ADDRESSES}{q}>{listed}</addresses>{content}</message>"
    )


def unfolded(stanza: bytes) -> list[str]:
    """Give the stanzas that one for many stands for (tap protocol C6), in canonical form."""
    root = codec.read(stanza)
    first = root[0] if len(root) else None
    if first is None or first.tag != TO_MANY:
        return [ET.canonicalize(ET.tostring(root, encoding="unicode"))]
    root.remove(first)
    every = []
    for address in first:
        target = address.get("jid", "")
        assert jid.parse(target).domain == root.get("to")
        copy = ET.fromstring(ET.tostring(root))
        copy.set("to", target)
        if address.get("id"):
            bare = str(jid.parse(target).bare)
            ET.SubElement(copy, STANZA_ID, {"by": bare, "id": address.get("id", "")})
        every.append(ET.canonicalize(ET.tostring(copy, encoding="unicode")))
    return every


SPEAKS = st.sampled_from([None, Speaks.NOTHING, Speaks.CORE_0, Speaks.CORE_1, Speaks.MIX])
PEOPLE = st.dictionaries(
    st.sampled_from([f"user{number}@{SERVER}" for number in range(6)]),
    st.tuples(
        st.dictionaries(st.sampled_from(["a", "b", 'it\'s <me> & "you"']), SPEAKS),
        st.booleans(),
        st.sampled_from(["", "id-1", "x&amp;y"]),
    ),
    min_size=1,
)


@given(
    PEOPLE,
    st.sampled_from([CORE_0, CORE_1]),
    st.sampled_from(["'", '"']),
    st.sampled_from(["", f"<addresses xmlns='{ADDRESSES}'/>", "<![CDATA[<mix/>]]>"]),
)
def test_one_for_many_is_as_many_as_one_by_one(
    people: dict[str, tuple[dict[str, Speaks | None], bool, str]],
    core: str,
    quote: str,
    more: str,
) -> None:
    mirror = Mirror()
    for user, (devices, joined, _) in people.items():
        address = jid.parse(user)
        row = mirror.row(address)
        for resource, speaks in devices.items():
            row.devices.come(resource).speaks = speaks
        if joined:
            mirror.join(address, Membership(CHANNEL, "1", None, (), 1, shares_presence=True))
    multicast = Multicast(OWN, lambda: "secret", Largest(524_288, 262_144), wanted=True)
    to = multicast.begin(SERVER)
    content = f"<mix xmlns='{core}'/><body>hi</body>{more}"
    users = {user: id_ for user, (_, _, id_) in people.items()}
    assert to is not None

    spread = multicast.spread(mirror, Frame(gathered(to, users, content, quote=quote).encode()))

    alone, strangers = [], []
    for user, id_ in users.items():
        own_id = f"<stanza-id xmlns='urn:xmpp:sid:0' by='{user}' id='{id_}'/>" if id_ else ""
        frame = Frame(
            f"<message from='{COVEN}' to='{user}' type='groupchat' id='m1'>"
            f"{content}{own_id}</message>".encode()
        )
        joined = of_frame(mirror, frame)
        if joined is None:
            strangers.append(frame.data)
        else:
            alone += copies(joined[0].copies, frame)
    written = [each for stanza in spread.written for each in unfolded(stanza)]
    assert sorted(written) == sorted(each for stanza in alone for each in unfolded(stanza))
    assert spread.deliveries == len(alone)
    assert [unfolded(other.data) for other in spread.others] == [unfolded(x) for x in strangers]


def test_a_tap_that_knows_it_gets_one_stanza_for_all_devices_of_a_user() -> None:
    play = Play()
    in_the_coven(play, PHONE, LAPTOP, multicast=True)
    play.says(f"<message from='{COVEN}' to='{ANNA}' type='groupchat'><body>hi</body></message>")
    play.hears(
        f"<message from='{COVEN}' to='{SERVER}' type='groupchat'><addresses xmlns='{ADDRESSES}'>"
        f"<address type='to' jid='{PHONE}'/><address type='to' jid='{LAPTOP}'/></addresses>"
        "<body>hi</body></message>"
    )
    # What has no content has no place for addresses.
    play.says(f"<presence from='1#{COVEN}' to='{ANNA}'/>")
    play.hears(f"<presence from='1#{COVEN}' to='{PHONE}'/>")
    play.hears(f"<presence from='1#{COVEN}' to='{LAPTOP}'/>")
    play.silence()


def test_what_was_gathered_goes_out_once_and_strangers_are_refused_one_by_one() -> None:
    play = Play()
    to = in_the_coven(play, PHONE, multicast=True)
    play.says(gathered(to, {ANNA: "a1", BEN: ""}, "<body>hi</body>"))
    play.hears(
        f"<message from='{COVEN}' to='{SERVER}' type='groupchat' id='m1'>"
        f"<addresses xmlns='{ADDRESSES}'><address type='to' jid='{PHONE}' id='a1'/></addresses>"
        "<body>hi</body></message>"
    )
    assert play.hears_anything().get("type") == "error"
    play.silence()


def test_a_join_under_way_keeps_back_what_was_gathered() -> None:
    """Who has to wait does; it is the channel's traffic like any other (J10)."""
    play = Play()
    to = in_the_coven(play, PHONE, multicast=True)
    row = play.core.mirror.row(jid.parse(ANNA))

    kept: list[bytes] = []

    class Waiting:
        def take(self, frame: Frame) -> None:
            kept.append(frame.data)

    row.activity.holding[COVEN.encode()] = Waiting()
    play.says(gathered(to, {ANNA: "a1"}, "<body>hi</body>"))
    play.silence()
    [alone] = kept
    assert codec.read(alone).find(STANZA_ID) is not None


def test_only_the_address_that_the_tap_was_told_counts() -> None:
    play = Play()
    to = in_the_coven(play, PHONE, multicast=True)
    for elsewhere in (OWN, f"{OWN}/guess", f"{to}x", to.upper()):
        play.says(gathered(elsewhere, {ANNA: "forged"}, "<body>hi</body>"))
        while play.has_written:
            assert play.hears_anything().get("type") == "error"


def test_the_address_dies_with_the_link() -> None:
    play = Play()
    old = tap_is_up(play, multicast=True)
    play.link_is_cut()
    assert play.core.multicast.gathering is None
    assert tap_is_up(play, multicast=True) != old


def test_without_the_operators_wish_the_tap_is_told_nothing() -> None:
    multicast = Multicast(OWN, lambda: "secret", Largest(524_288, 262_144), wanted=False)
    assert multicast.begin(SERVER) is None
    assert multicast.gathering is None


def test_an_older_tap_gets_a_stanza_for_each_device() -> None:
    play = Play()
    in_the_coven(play, PHONE, LAPTOP)
    play.says(f"<message from='{COVEN}' to='{ANNA}' type='groupchat'><body>hi</body></message>")
    for device in (PHONE, LAPTOP):
        play.hears(
            f"<message from='{COVEN}' to='{device}' type='groupchat'><body>hi</body></message>"
        )
    play.silence()


def test_a_kick_that_was_gathered_is_a_kick() -> None:
    play = Play()
    to = in_the_coven(play, PHONE, multicast=True)
    play.says(
        gathered(
            to,
            {ANNA: ""},
            "<event xmlns='http://jabber.org/protocol/pubsub#event'>"
            "<items node='urn:xmpp:mix:nodes:participants'><retract id='123'/></items></event>",
        ).replace("groupchat", "headline")
    )
    assert play.reported("kicked")


@pytest.mark.parametrize(("length", "stanzas"), [(1, 2), (500, 9)])
def test_no_stanza_has_more_addresses_than_agreed(length: int, stanzas: int) -> None:
    mirror = Mirror()
    multicast = Multicast(OWN, lambda: "secret", Largest(524_288, 262_144), wanted=True)
    to = multicast.begin(SERVER)
    assert to is not None
    users = {f"u{number}@{SERVER}": "" for number in range(LARGEST)}
    for user in users:
        address = jid.parse(user)
        mirror.join(address, Membership(CHANNEL, "1", None, (), 1, shares_presence=True))
        for resource in ("a" * length, "b" * length):
            mirror.row(address).devices.come(resource).speaks = Speaks.MIX
    spread = multicast.spread(mirror, Frame(gathered(to, users, "<body/>").encode()))
    counts = [len(unfolded(stanza)) for stanza in spread.written]
    assert (len(counts), sum(counts)) == (stanzas, 2 * LARGEST)
    assert max(counts) <= LARGEST
    for stanza in spread.written:
        assert len(stanza) < LARGEST_BYTES + len(gathered(to, {}, "<body/>"))
    assert spread.deliveries == 2 * LARGEST


def test_a_message_for_many_without_addresses_is_dropped() -> None:
    play = Play()
    to = in_the_coven(play, PHONE, multicast=True)
    comes_online(play, LAPTOP)
    while play.has_written:
        play.hears_anything()
    for content in ("", "<body/>", f"<addresses xmlns='{ADDRESSES}'/>"):
        play.says(f"<message from='{COVEN}' to='{to}' type='groupchat'>{content}</message>")
        while play.has_written:
            assert play.hears_anything().get("type") == "error"


def test_addresses_are_those_of_the_list_and_of_nothing_behind_it() -> None:
    play = Play()
    to = in_the_coven(play, PHONE, multicast=True)
    empty = f"<addresses xmlns='{ADDRESSES}'/><x><address type='to' jid='{ANNA}'/></x>"
    play.says(f"<message from='{COVEN}' to='{to}' type='groupchat'>{empty}</message>")
    play.silence()
    assert play.dropped("malformed") == 1


def test_devices_of_two_versions_get_one_stanza_for_each_version() -> None:
    play = Play()
    in_the_coven(play, PHONE, multicast=True)
    for device, feature in ((LAPTOP, CORE_1), (f"{ANNA}/old", CORE_0), (f"{ANNA}/older", CORE_0)):
        comes_online(play, device, feature)
        play.hears_all()
    play.says(f"<message from='{COVEN}' to='{ANNA}'><mix xmlns='{CORE_1}'/></message>")
    copies = sorted(copy for each in play.hears_all() for copy in unfolded(each))
    devices = {LAPTOP: CORE_1, f"{ANNA}/old": CORE_0, f"{ANNA}/older": CORE_0, PHONE: CORE_1}
    assert len(copies) == len(devices)
    for device, core in devices.items():
        (copy,) = [each for each in copies if f'to="{device}"' in each]
        assert core in copy


def test_a_large_stanza_leaves_less_room_for_addresses() -> None:
    play = Play()
    to = in_the_coven(play, PHONE, LAPTOP, multicast=True)
    body = f"<body>{'x' * play.core.largest.addressed}</body>"
    play.says(gathered(to, {ANNA: ""}, body))
    heard = [each for raw in play.hears_all() for each in unfolded(raw)]
    assert len(heard) == 2
