"""The packed mirror: what goes in comes out, is counted, and leaves nothing behind."""

import pytest
from driver import BEN, COVEN, MIX
from hypothesis import given
from hypothesis import strategies as st

from component.core.users import packed
from component.core.users.mirror import Membership, Mirror
from component.core.users.packed import CODE, Interned, Member, Shared
from component.core.users.sessions import Speaks, said
from component.wire.framing import Frame
from schemas import jid

ANNA = jid.parse("anna@example.org")

texts = st.text(st.characters(codec="utf-8"), max_size=300)
ids = st.one_of(texts.filter(bool), st.binary(min_size=1).map(bytes.hex))
nodes = st.lists(st.sampled_from(["n:messages", "n:presence", "n:info"])).map(tuple)
members = st.lists(
    st.builds(
        Member,
        st.integers(0, 50).map(lambda number: f"c{number}@mix.example".encode()),
        ids,
        st.none() | texts,
        nodes,
        st.sampled_from([0, 1]),
        st.booleans(),
    ),
    unique_by=lambda member: member.channel,
    max_size=40,
)


UNUSUAL = ["AB12", "ab12", "0a1B", "\u0661\u0662", "12 34", "x" * 254, "x" * 255, "ab" * 512]
"""Ids and nicks that are hexadecimal, or almost, and long ones: a channel may give 1,023 bytes."""


@pytest.mark.parametrize("text", UNUSUAL)
def test_an_id_and_a_nick_stay_as_they_are(text: str) -> None:
    some = [Member(b"c%d@mix.example" % n, text, text, (), 1, shares_presence=True) for n in (1, 2)]
    interned = Interned()
    codes, details = interned.pack(some)
    assert list(interned.unpack(codes, details)) == some


@given(members)
def test_memberships_come_out_as_they_went_in(some: list[Member]) -> None:
    interned = Interned()
    codes, details = interned.pack(some)
    assert list(interned.unpack(codes, details)) == some
    assert len(codes) == CODE * len(some)
    interned.release(codes, details)
    assert not len(interned.channels)
    assert not len(interned._terms)


@given(st.lists(st.integers(0, 1 << 24)), st.lists(st.integers(0, 1 << 24)))
def test_a_code_is_found_only_where_it_begins(some: list[int], others: list[int]) -> None:
    shared: Shared[int] = Shared()
    shared._next = (1 << 24) - 20  # on both sides of the end of the numbers
    row = b"".join(shared.take(each) for each in some)
    for other in others:
        code = shared.take(other)
        assert (code in row) == (other in some)
        assert b"\n" not in code


def test_the_last_use_takes_a_value_with_it() -> None:
    shared: Shared[str] = Shared()
    first, second = shared.take("a"), shared.take("a")
    assert first == second
    shared.drop(first)
    assert shared.values[first] == "a"
    shared.drop(first)
    assert not shared.values
    assert not shared.codes


def test_numbers_are_not_given_out_again_before_their_round() -> None:
    rounds: list[int] = []
    shared: Shared[str] = Shared(round_begins=lambda: rounds.append(1))
    kept = shared.take("kept")
    given_up = shared.take("given up")
    shared.drop(given_up)
    assert shared.take("new") != given_up
    shared._next = (1 << 24) - 1
    shared.take("last")
    assert rounds == [1]
    assert shared.take("over") == given_up
    assert shared.values[kept] == "kept"


def test_more_values_than_codes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_CODES", 2)
    shared: Shared[str] = Shared()
    shared.take("a")
    shared.take("b")
    with pytest.raises(OverflowError):
        shared.take("c")


@given(members, st.data())
def test_a_row_is_a_mapping_of_its_memberships(some: list[Member], data: st.DataObject) -> None:
    row = Mirror().row(ANNA)
    expected: dict[bytes, Member] = {}
    for member in some:
        row.enter([member])
        expected[member.channel] = member
    if some:
        gone = data.draw(st.sampled_from(some))
        row.leave(gone.channel)
        del expected[gone.channel]
        assert not row.has_joined(gone.channel)
    assert list(row.channels) == list(expected)
    assert len(row.channels) == len(expected)
    assert {key: each.packed() for key, each in row.channels.items()} == expected
    assert all(row.has_joined(key) and key in row.channels for key in expected)
    row.release_shared()
    assert not row.channels


def test_a_device_is_one_object_for_as_long_as_somebody_keeps_it() -> None:
    row = Mirror().row(ANNA)
    phone = row.devices.come("phone", b"<presence/>")
    assert row.devices["phone"] is phone
    row.devices["phone"].speaks = Speaks.MIX
    assert phone.is_mix
    assert row.devices.end("phone") is phone
    again = row.devices.come("phone", b"<presence/>")
    assert again is not phone
    assert again.speaks is None


def test_what_channels_were_shown_outlives_the_session() -> None:
    row = Mirror().row(ANNA)
    row.devices.come("phone")
    row.show("phone", "digest")
    row.devices.end("phone")
    assert not row.is_online
    assert row.shown == {"phone": "digest"}
    assert row.shown_but_gone == ["phone"]
    row.show("phone", None)
    assert not list(row.states())


def test_the_targets_follow_the_devices() -> None:
    row = Mirror().row(ANNA)
    assert row.copies.every == ()
    row.devices.come("o'neill & co").speaks = Speaks.CORE_1
    row.devices.come("old").speaks = Speaks.CORE_0
    row.devices.come("unknown")
    assert row.copies.every == (
        b"anna@example.org/o&apos;neill &amp; co",
        b"anna@example.org/old",
    )
    assert row.copies.only_0 == (b"anna@example.org/old",)
    row.devices.end("old")
    assert row.copies.only_0 == ()


@pytest.mark.parametrize(
    "presence",
    [
        b"<presence from='a@b/c' to='d' id='7' xml:lang='en'><show>away</show></presence>",
        b"<presence xml:lang='en'  to='d' from=\"a@b/c\"><show>away</show></presence>",
    ],
)
def test_presence_is_kept_without_its_addresses(presence: bytes) -> None:
    row = Mirror().row(ANNA)
    device = row.devices.come("phone", said(Frame(presence)))
    frame = Frame(device.presence_for(jid.parse("coven@mix.example")))
    assert (frame.sender, frame.to) == (b"anna@example.org/phone", b"coven@mix.example")
    assert frame.get(b"xml:lang") == b"en"
    assert frame.get(b"id") == b""
    assert frame.data.endswith(b"><show>away</show></presence>")


def test_devices_are_a_mapping_by_resource() -> None:
    row = Mirror().row(ANNA)
    row.devices.come("phone", b"<presence/>").hibernated = True
    row.devices.come("desk").presence = b"<presence><x/></presence>"
    assert sorted(row.devices) == ["desk", "phone"]
    assert len(row.devices) == 2
    assert row.devices["phone"].hibernated
    assert b"<x/>" in row.devices["desk"].presence_for(jid.parse(COVEN))
    with pytest.raises(KeyError):
        row.devices["other"]


def test_a_channel_that_another_user_is_in_is_not_among_the_users() -> None:
    mirror = Mirror()
    for user, channel in ((ANNA, COVEN), (jid.parse(BEN), f"other@{MIX}")):
        member = Membership(jid.parse(channel), "1", None, (), 1, shares_presence=True)
        mirror.join(user, member)
    channels = mirror.row(ANNA).channels
    with pytest.raises(KeyError):
        channels[f"other@{MIX}".encode()]
    with pytest.raises(KeyError):
        channels[b"nobody@nowhere.example"]


def test_what_is_remembered_of_features_is_what_counts() -> None:
    features = ["urn:xmpp:mix:core:0", "urn:xmpp:mix:core:1", "urn:xmpp:psa"]
    assert Speaks.from_features(frozenset([*features, "urn:example:x"])).to_features() == features
