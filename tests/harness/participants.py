"""Scripted channels that list their participants, or refuse to."""

from harness import ns
from harness.fake import Script, error, result
from harness.stanza import Stanza


def tells(channel: Script, *members: tuple[str, str | None], core: str = ns.CORE1) -> None:
    """Let a channel list its participants: pairs of id and JID, None for a hidden one."""
    items = "".join(
        f"<item id='{id_}'><participant xmlns='{core}'><nick>third</nick>"
        + ("" if jid is None else f"<jid>{jid}</jid>")
        + "</participant></item>"
        for id_, jid in members
    )

    def answer(stanza: Stanza) -> str:
        node = stanza.find(
            f"{{{ns.PUBSUB}}}pubsub/{{{ns.PUBSUB}}}items[@node='{ns.NODES}participants']"
        )
        if node is None:
            return error(stanza, "cancel", "feature-not-implemented")
        inner = f"<items node='{ns.NODES}participants'>{items}</items>"
        return result(stanza, f"<pubsub xmlns='{ns.PUBSUB}'>{inner}</pubsub>")

    channel.other = answer


def refuses(channel: Script, condition: str) -> None:
    """Let a channel refuse all other requests, except those to its archive.

    A user who may not read that either is no participant, and soon regarded as kicked.
    """

    def answer(stanza: Stanza) -> str:
        if stanza.find(f"{{{ns.MAM}}}query") is not None:
            return result(stanza, f"<fin xmlns='{ns.MAM}' complete='true'/>")
        return error(stanza, "auth", condition)

    channel.other = answer
