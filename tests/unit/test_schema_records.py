"""Joins, leaves, preferences, and what the store keeps: what is usable, and what is not."""

import pytest
from harness.xsos import JOIN, Join0, Join1
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from component.store.keys import Keys
from schemas import codec, mix, pam
from schemas.namespaces import MIX_CORE, MIX_PAM
from schemas.preferences import shares_presence
from schemas.records import CapabilityRecord, JournalRecord, MembershipRecord


def join(attributes: str, content: str = "", core: int = 1) -> mix.Join:
    data = f"<join xmlns='{MIX_CORE[core]}' {attributes}>{content}</join>".encode()
    return mix.read_join(codec.read(data))


PARTICIPANT_IDS = {
    "id": ("id='123'", "123"),
    "jid of the first version": ("jid='123#coven@mix.example'", "123"),
    "both": ("id='123' jid='456#coven@mix.example'", "123"),
    "longest": (f"id='{'x' * 1023}'", "x" * 1023),
    "longest in bytes": (f"id='{'é' * 511}'", "é" * 511),
    "none": ("", None),
    "empty": ("id=''", None),
    "empty, and a jid": ("id='' jid='123#coven@mix.example'", None),
    "too long": (f"id='{'x' * 1024}'", None),
    "too long in bytes": (f"id='{'é' * 512}'", None),
    "hash": ("id='1#2'", None),
    "slash": ("id='1/2'", None),
    "at": ("id='1@2'", None),
    "jid without id": ("jid='#coven@mix.example'", None),
    "jid that is none": ("jid='coven@mix.example'", None),
}


@pytest.mark.req("J2", "J9")
@pytest.mark.abuse(6)
@pytest.mark.parametrize("core", [0, 1])
@pytest.mark.parametrize(("attributes", "id_"), PARTICIPANT_IDS.values(), ids=PARTICIPANT_IDS)
def test_participant_ids(attributes: str, id_: str | None, core: int) -> None:
    assert join(attributes, core=core).participant_id == id_


@pytest.mark.req("N1", "N2")
@pytest.mark.parametrize("core", [0, 1])
def test_joins_are_read_in_both_namespaces(core: int) -> None:
    parsed = join(
        "id='1'", "<subscribe node='a'/><nick>N</nick><subscribe node='b'/><x xmlns='u'/>", core
    )
    assert parsed.nodes == ("a", "b")
    assert parsed.nick == "N"


_TEXTS = st.sampled_from(["", " \n", "x"])
_INSIDE = st.sampled_from(
    [
        "<subscribe node='a'/>",
        "<subscribe node=''> </subscribe>",
        "<subscribe node='b' more='c'><x>y</x></subscribe>",
        "<subscribe node='b'>text</subscribe>",
        "<subscribe node='b'><x/>text</subscribe>",
        "<subscribe/>",
        "<subscribe xmlns='u'/>",
        "<nick>N</nick>",
        "<nick/>",
        "<nick> a<x>b</x>c </nick>",
        "<nick xmlns='u'>M</nick>",
        "<nick a='b'>N</nick>",
        "<x>text</x>",
    ]
)


@given(
    st.sampled_from([0, 1]),
    st.sampled_from(["", "id=''", "id='1'", "jid='1#c@d'", "id='2' jid='1#c@d'", "other='1'"]),
    st.lists(st.tuples(_TEXTS, _INSIDE), max_size=4),
    _TEXTS,
)
def test_joins_are_read_as_the_schema_says(
    core: int, attributes: str, inside: list[tuple[str, str]], end: str
) -> None:
    content = "".join(text + child for text, child in inside) + end
    data = f"<join xmlns='{MIX_CORE[core]}' {attributes}>{content}</join>".encode()
    try:
        parsed: Join0 | Join1 = codec.to_xso(codec.read(data), JOIN[core])
    except codec.MalformedStanza:
        with pytest.raises(codec.MalformedStanza):
            mix.read_join(codec.read(data))
        return
    found = mix.read_join(codec.read(data))
    assert found.nodes == tuple(each.node for each in parsed.subscriptions)
    assert found.nick == parsed.nick
    given_ = parsed.id_ if parsed.id_ is not None else (parsed.jid or "").partition("#")[0]
    assert found.participant_id == (given_ or None)


@pytest.mark.parametrize(
    "content", ["<subscribe/>", "text", f"<subscribe xmlns='{MIX_CORE[1]}' n='1'/>"]
)
def test_joins_that_are_none_are_refused(content: str) -> None:
    with pytest.raises(codec.MalformedStanza):
        join("id='1'", content)


@pytest.mark.req("N1", "N2", "N3")
@pytest.mark.parametrize("namespace", MIX_PAM)
def test_requests_are_known_in_all_three_namespaces(namespace: str) -> None:
    assert f"{{{namespace}}}client-join" in pam.CLIENT_JOIN
    assert f"{{{namespace}}}client-leave" in pam.CLIENT_LEAVE


def preference(*fields: tuple[str, str], around: str = "{}") -> str:
    written = "".join(f"<field var='{var}'><value>{value}</value></field>" for var, value in fields)
    form = f"<x xmlns='jabber:x:data' type='submit'>{written}</x>"
    inside = f"<user-preference xmlns='urn:xmpp:mix:anon:0'>{form}</user-preference>"
    return around.replace("{}", inside)


def form(kind: str, *fields: tuple[str, str], type_: str = "submit") -> str:
    """Write a form that stands where XEP-0404's examples have it: without anything around."""
    typed = f"<field var='FORM_TYPE' type='hidden'><value>{kind}</value></field>" if kind else ""
    written = "".join(f"<field var='{var}'><value>{value}</value></field>" for var, value in fields)
    return f"<join><x xmlns='jabber:x:data' type='{type_}'>{typed}{written}</x></join>"


PREFERENCES = {
    "share": (preference(("Presence", "share")), True),
    "not share": (preference(("Presence", "not share")), False),
    "odd case and space": (preference(("presence", " Not Share\n")), False),
    "deeper": (preference(("Presence", "not share"), around="<a><b>{}</b></a>"), False),
    "other field": (preference(("JID Visibility", "never"), ("Presence", "share")), True),
    "nothing said": (preference(("JID Visibility", "never")), None),
    "nonsense said": (preference(("Presence", "perhaps")), None),
    "as XEP-0404 has it in a join": (form("urn:xmpp:mix:anon:0", ("Presence", "not share")), False),
    "and in its result": (
        form("urn:xmpp:mix:anon:0", ("vCard", "block"), ("Presence", "share"), type_="result"),
        True,
    ),
    "in a join's later version": (form("urn:xmpp:mix:anon:1", ("Presence", "not share")), False),
    "in a join, of no type": (form("", ("Presence", "not share")), False),
    "in a form of something else": (form("urn:example", ("Presence", "not share")), None),
    "in a form that was given up": (
        form("urn:xmpp:mix:anon:0", ("Presence", "not share"), type_="cancel"),
        None,
    ),
    "written together": (preference(("PRESENCE", "not-share")), False),
    "in one of two forms": (
        form("urn:xmpp:mix:anon:0", ("Presence", "share")) + preference(("Presence", "not share")),
        False,
    ),
    "both things": (preference(("Presence", "share"), ("Presence", "not share")), False),
    "both things in one": (
        preference(("Presence", "share</value><value>not share")),
        False,
    ),
    "no form": ("<user-preference xmlns='urn:xmpp:mix:anon:0'/>", None),
    "no preference": ("<x xmlns='jabber:x:data'/>", None),
    "no name, no value": (
        (
            "<user-preference xmlns='urn:xmpp:mix:anon:0'><x xmlns='jabber:x:data'>"
            "<field><value>share</value></field><field var='Presence'/></x></user-preference>"
        ),
        None,
    ),
}


@pytest.mark.req("R6")
@pytest.mark.parametrize(("content", "shares"), PREFERENCES.values(), ids=PREFERENCES)
def test_whether_presence_is_shared(content: str, shares: bool | None) -> None:
    assert shares_presence(codec.read(f"<iq>{content}</iq>".encode())) is shares


@pytest.mark.parametrize(
    "record",
    [
        MembershipRecord(channel="coven@mix.example", participant_id="1", nick="é<", nodes=["a"]),
        JournalRecord(kind="leave", channel="coven@mix.example", step="roster", core=0),
        CapabilityRecord(features=["a", "b"]),
    ],
)
def test_records_are_the_same_after_storing(record: BaseModel) -> None:
    assert type(record).model_validate_json(record.model_dump_json()) == record


GOOD = '"channel":"coven@mix.example","participant_id":"1"'

BAD = {
    "no JSON": "{",
    "nothing": "{}",
    "list": "[]",
    "later version": f'{{"v":2,{GOOD}}}',
    "unknown field": f'{{{GOOD},"x":1}}',
    "number as text": '{"channel":"coven@mix.example","participant_id":1}',
    "empty id": '{"channel":"coven@mix.example","participant_id":""}',
    "endless id": f'{{"channel":"coven@mix.example","participant_id":"{"x" * 1024}"}}',
    "channel with resource": '{"channel":"coven@mix.example/r","participant_id":"1"}',
    "channel without name": '{"channel":"mix.example","participant_id":"1"}',
    "channel not canonical": '{"channel":"Coven@mix.example","participant_id":"1"}',
    "channel that is none": '{"channel":"@","participant_id":"1"}',
    "core of the future": f'{{{GOOD},"core":2}}',
}


@pytest.mark.abuse(21)
@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_records_that_do_not_fit_are_refused(text: str) -> None:
    MembershipRecord.model_validate_json(f"{{{GOOD}}}")
    with pytest.raises(ValidationError):
        MembershipRecord.model_validate_json(text)


USERS = ["anna@example.org", "{a}:b@example.org", "a%7B@x", "é@bücher.example", "a}:channels@x"]


@pytest.mark.abuse(21)
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("kind", ["channels", "journal", "shown"])
def test_keys_of_a_user_are_read_back_and_share_one_hash_tag(user: str, kind: str) -> None:
    key = getattr(Keys("mixpam"), kind)(user)
    assert Keys("mixpam").read(key) == (user, kind)
    assert key.count("{") == key.count("}") == 1
    assert key.isascii()
    # What Redis Cluster hashes is between the first { and the next }.
    tag = key.partition("{")[2].partition("}")[0]
    assert all(
        f"{{{tag}}}" in getattr(Keys("mixpam"), other)(user) for other in ("channels", "shown")
    )


@pytest.mark.abuse(21)
@pytest.mark.parametrize(
    "key",
    [
        "mixpam:capabilities",
        "mixpam:{a@b}:other",
        "mixpam:{a@b}",
        "mixpam:a@b:channels",
        "other:{a@b}:channels",
        "{a@b}:channels",
        "",
    ],
)
def test_keys_of_others_are_left_alone(key: str) -> None:
    assert Keys("mixpam").read(key) is None


@pytest.mark.abuse(14)
def test_of_a_membership_only_what_is_bounded_is_read() -> None:
    record = MembershipRecord(
        channel="coven@mix.example",
        participant_id="1",
        nick="x" * 100_000,
        nodes=["urn:xmpp:mix:nodes:presence", *("y" * 1_000 for _ in range(1_000))],
    )
    again = MembershipRecord.model_validate_json(
        '{"channel":"coven@mix.example","participant_id":"1","nick":"'
        + "x" * 100_000
        + '","nodes":["urn:xmpp:mix:nodes:presence"]}'
    )
    assert record.nick is None
    assert again.nick is None
    assert again.nodes == ["urn:xmpp:mix:nodes:presence"]
    assert record.nodes[0] == "urn:xmpp:mix:nodes:presence"
    assert len(record.model_dump_json()) < 5_000
