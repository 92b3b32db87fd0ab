"""Scenes that many plays begin with, each a few steps long."""

from driver import (
    ANNA,
    CORE_1,
    COVEN,
    DISCO,
    MIX,
    OWN,
    PAM_2,
    PHONE,
    SERVER,
    STANZAS,
    Play,
)


def tap_is_up(
    play: Play, *, archive: bool = False, services: str = "", multicast: bool = False
) -> str:
    """Let the tap of the server say hello and get the list of services.

    Gives the address for what the tap gathers, empty without `multicast`.
    """
    knows = " multicast='true'" if multicast else ""
    play.says(
        f"<message from='{SERVER}' to='{OWN}'><hello xmlns='mixpam:tap:1' version='1' tap='1.0'"
        f" software='Server 1' archive='{str(archive).lower()}'{knows}/></message>"
    )
    listed = "".join(f"<service jid='{domain}'/>" for domain in services.split())
    gathering = " multicast='*'" if multicast else ""
    told = play.hears(
        f"<message from='{OWN}' to='{SERVER}'>"
        f"<services xmlns='mixpam:tap:1' complete='true'{gathering}>{listed}</services></message>"
    )
    return told[0].get("multicast", "")


def comes_online(play: Play, device: str = PHONE, *features: str) -> None:
    """Bring a device online that has no capabilities hash and is asked for them."""
    play.says(f"<presence from='{device}' to='{OWN}'/>")
    query = play.hears(
        f"<iq type='get' from='{OWN}' to='{device}' id='*'><query xmlns='{DISCO}'/></iq>"
    )
    answers_disco(play, device, query.get("id", ""), *(features or (CORE_1,)))


def answers_disco(
    play: Play, device: str, id_: str, *features: str, node: str = "", to: str = OWN
) -> None:
    """Answer a disco#info request as a device, or as a service."""
    listed = "".join(f"<feature var='{feature}'/>" for feature in features)
    at = f" node='{node}'" if node else ""
    play.says(
        f"<iq type='result' from='{device}' to='{to}' id='{id_}'>"
        f"<query xmlns='{DISCO}'{at}>{listed}</query></iq>"
    )


def client_join(
    channel: str = COVEN,
    content: str = "<subscribe node='urn:xmpp:mix:nodes:messages'/>",
    *,
    device: str = PHONE,
    id_: str = "j1",
    pam: str = PAM_2,
    core: str = CORE_1,
) -> str:
    """Write a client's request to join."""
    return (
        f"<iq type='set' from='{device}' to='{device.partition('/')[0]}' id='{id_}'>"
        f"<client-join xmlns='{pam}' channel='{channel}'>"
        f"<join xmlns='{core}'>{content}</join></client-join></iq>"
    )


def client_leave(
    channel: str = COVEN,
    *,
    device: str = PHONE,
    id_: str = "l1",
    pam: str = PAM_2,
    core: str = CORE_1,
) -> str:
    """Write a client's request to leave."""
    return (
        f"<iq type='set' from='{device}' to='{device.partition('/')[0]}' id='{id_}'>"
        f"<client-leave xmlns='{pam}' channel='{channel}'><leave xmlns='{core}'/>"
        f"</client-leave></iq>"
    )


def service_question(play: Play, domain: str = MIX, user: str = ANNA) -> str:
    """Hear a service being asked what it is, in a user's name; give the id.

    The tap knows by the id that the answer is not the user's client's.
    """
    query = play.hears(
        f"<iq type='get' from='{user}' to='{domain}' id='*'><query xmlns='{DISCO}'/></iq>"
    )
    id_ = query.get("id", "")
    assert id_.startswith("mixpam:")
    return id_


def service_is_asked(play: Play, domain: str = MIX, *features: str) -> None:
    """Let a service answer what it is, and the tap learn of it."""
    id_ = service_question(play, domain)
    answers_disco(play, domain, id_, *(features or (CORE_1,)), to=ANNA)
    if not features:
        play.hears(
            f"<message from='{OWN}' to='{SERVER}'><services xmlns='mixpam:tap:1'>"
            f"<service jid='{domain}'/></services></message>"
        )


def channel_answers(
    content: str, *, channel: str = COVEN, user: str = ANNA, id_: str = "j1", type_: str = "result"
) -> str:
    """Write a channel's answer to a join or leave."""
    return f"<iq type='{type_}' from='{channel}' to='{user}' id='{id_}'>{content}</iq>"


def granted(participant_id: str = "123", content: str = "", core: str = CORE_1) -> str:
    """Write the join that a channel grants."""
    content = content or "<subscribe node='urn:xmpp:mix:nodes:messages'/>"
    return f"<join xmlns='{core}' id='{participant_id}'>{content}</join>"


def error(condition: str, type_: str = "cancel", text: str = "") -> str:
    """Write a stanza error's inside."""
    said = f"<text xmlns='{STANZAS}'>{text}</text>" if text else ""
    return f"<error type='{type_}'><{condition} xmlns='{STANZAS}'/>{said}</error>"


def roster_is_set(
    play: Play,
    subscription: str = "from",
    *,
    channel: str = COVEN,
    user: str = ANNA,
    answer: str = "",
) -> None:
    """Let the component change the roster, and the server do it or answer an error."""
    request = play.hears(
        f"<iq type='set' from='{OWN}' to='{user}' id='*'><query xmlns='jabber:iq:roster'>"
        f"<item jid='{channel}' subscription='{subscription}'/></query></iq>"
    )
    type_ = "error" if answer else "result"
    play.says(f"<iq type='{type_}' from='{user}' to='{OWN}' id='{request.get('id')}'>{answer}</iq>")


def asked_to_join(play: Play, *, id_: str = "j1", channel: str = COVEN, user: str = ANNA) -> None:
    """Let the channel hear the join."""
    play.hears(
        f"<iq type='set' from='{user}' to='{channel}' id='{id_}'><join xmlns='{CORE_1}'>"
        f"<subscribe node='urn:xmpp:mix:nodes:messages'/></join></iq>"
    )


def asks_to_join(play: Play, **options: str) -> None:
    """Come as far as the channel's having heard of the join."""
    play.says(client_join(**options))
    service_is_asked(play)
    asked_to_join(play)


def asked_to_leave(
    play: Play, *, channel: str = COVEN, user: str = ANNA, core: str = CORE_1
) -> str:
    """Let the channel hear a leave of the component's own; give its id."""
    request = play.hears(
        f"<iq type='set' from='{user}' to='{channel}' id='*'><leave xmlns='{core}'/></iq>"
    )
    return request.get("id", "")


def joined(
    *, device: str = PHONE, id_: str = "j1", participant_id: str = "123", channel: str = COVEN
) -> str:
    """Write the result of a join as a client with the current versions sees it."""
    return (
        f"<iq type='result' from='{device.partition('/')[0]}' to='{device}' id='{id_}'>"
        f"<client-join xmlns='{PAM_2}'><join xmlns='{CORE_1}' id='{participant_id}'"
        f" jid='{participant_id}#{channel}'><subscribe node='urn:xmpp:mix:nodes:messages'/>"
        f"</join></client-join></iq>"
    )


def refused(
    condition: str, type_: str, text: str = "", *, device: str = PHONE, id_: str = "j1"
) -> str:
    """Write the error that a client gets."""
    return (
        f"<iq type='error' from='{device.partition('/')[0]}' to='{device}' id='{id_}'>"
        f"{error(condition, type_, text)}</iq>"
    )


def in_the_coven(play: Play, *devices: str, multicast: bool = False) -> str:
    """Have Anna join the coven, with these MIX devices online; gives what `tap_is_up` gives."""
    gathering = tap_is_up(play, multicast=multicast)
    for device in devices:
        comes_online(play, device)
    asks_to_join(play)
    play.says(channel_answers(granted()))
    roster_is_set(play)
    play.hears(joined())
    for device in devices:
        play.hears(f"<presence from='{device}' to='{COVEN}'/>")
    play.silence()
    return gathering


def roll_is_called(play: Play, *ids: str, by: str = ANNA) -> str:
    """Hear the coven being asked for participants; give the id of the question."""
    items = "".join(f"<item id='{id_}'/>" for id_ in ids)
    request = play.hears(
        f"<iq type='get' from='{by}' to='{COVEN}' id='*'>"
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'>"
        f"<items node='urn:xmpp:mix:nodes:participants'>{items}</items></pubsub></iq>"
    )
    return request.get("id", "")


def finds_nobody(play: Play, id_: str) -> None:
    """Have the coven answer that it has none of the participants."""
    play.says(
        f"<iq type='result' from='{COVEN}' to='{ANNA}' id='{id_}'>"
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'>"
        "<items node='urn:xmpp:mix:nodes:participants'/></pubsub></iq>"
    )


def kick(
    retracted: str = "123", *, sender: str = COVEN, node: str = "participants", to: str = ANNA
) -> str:
    """Make a channel's notification that a participant is gone."""
    return (
        f"<message from='{sender}' to='{to}'>"
        f"<event xmlns='http://jabber.org/protocol/pubsub#event'>"
        f"<items node='urn:xmpp:mix:nodes:{node}'><retract id='{retracted}'/></items>"
        f"</event></message>"
    )


def removed(user: str = ANNA, *, sender: str = "example.org") -> str:
    """Make the tap's event for a deleted account."""
    return (
        f"<message from='{sender}' to='{OWN}'><user-removed xmlns='mixpam:tap:1' jid='{user}'/>"
        f"</message>"
    )
