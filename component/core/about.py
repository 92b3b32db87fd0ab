"""Answers about the component itself: XEP-0030, XEP-0092, XEP-0157, XEP-0199."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable

from component.core.context import Context
from component.core.errors import Refusal
from schemas import codec, disco
from schemas import stanza as stanzas
from schemas.jid import Jid
from schemas.namespaces import COMMANDS, DISCO_INFO, DISCO_ITEMS, PING, VERSION
from schemas.stanza import Stanza

NAME = "mixpam"
_PING_TAG = f"{{{PING}}}ping"
_INFO_TAG = f"{{{DISCO_INFO}}}query"
_ITEMS_TAG = f"{{{DISCO_ITEMS}}}query"
_VERSION_TAG = f"{{{VERSION}}}query"


class Identity:
    """Answers requests to the component's own JID.

    `commands_for` tells whether someone may use ad-hoc commands (XEP-0050 §3.1).
    """

    def __init__(
        self,
        context: Context,
        version: str,
        contacts: tuple[str, ...],
        commands_for: Callable[[Jid], bool],
    ) -> None:
        self._commands_for = commands_for
        self._context = context
        self._version = version
        self._contacts = list(contacts)

    def request(self, stanza: Stanza) -> None:
        """Answer an iq get.

        Raises Refusal: service-unavailable for what is not known, item-not-found for an
        unknown node.
        """
        payload = stanza.payload
        tag = None if payload is None else payload.tag
        if payload is None or stanza.type != "get":
            raise Refusal("cancel", "service-unavailable")
        if tag in {_INFO_TAG, _ITEMS_TAG} and payload.get("node"):
            raise Refusal("cancel", "item-not-found")
        if tag == _INFO_TAG:
            features = [DISCO_INFO, DISCO_ITEMS, VERSION, PING]
            if self._commands_for(stanza.sender):
                features.append(COMMANDS)
            answer: list[ET.Element] = [disco.own_info(NAME, features, self._contacts)]
        elif tag == _ITEMS_TAG:
            answer = [ET.Element(_ITEMS_TAG)]
        elif tag == _VERSION_TAG:
            version = disco.Version()
            version.name, version.version = NAME, self._version
            answer = [codec.from_xso(version)]
        elif tag == _PING_TAG:
            answer = []
        else:
            raise Refusal("cancel", "service-unavailable")
        self._context.send(
            stanzas.make(stanzas.IQ, "result", stanza.to, stanza.sender, stanza.id, *answer)
        )
