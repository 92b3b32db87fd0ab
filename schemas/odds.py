"""Settings that make another setting ineffective."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.settings import PREFIX, Settings

PASSED_ON = 152_576
"""Bytes by which a stanza may grow when it is passed on (component/core/stanza_size.py)."""


def at_odds(settings: Settings) -> Iterator[str]:
    """List settings that make another one ineffective; they are usable all the same."""
    ours, servers = settings.http_port, settings.server_port
    if ours == servers and settings.http_host == settings.server_host:
        yield f"{PREFIX}HTTP_PORT={ours} is where the server listens: {PREFIX}SERVER_PORT"
    if settings.presence_user_rate < settings.presence_rate:
        yield (
            f"{PREFIX}PRESENCE_USER_RATE={settings.presence_user_rate:g}, for all channels"
            f" together, is below {PREFIX}PRESENCE_RATE={settings.presence_rate:g}, for each"
        )
    needed = settings.max_stanza_bytes + PASSED_ON
    if settings.server_stanza_bytes < needed:
        yield (
            f"{PREFIX}SERVER_STANZA_BYTES={settings.server_stanza_bytes} is below {needed}, which"
            f" {PREFIX}MAX_STANZA_BYTES={settings.max_stanza_bytes} needs with the addresses that"
            " are added when a stanza is passed on"
        )
    if settings.held_bytes < settings.max_stanza_bytes:
        yield (
            f"{PREFIX}HELD_BYTES={settings.held_bytes} is below"
            f" {PREFIX}MAX_STANZA_BYTES={settings.max_stanza_bytes}: one stanza may not fit"
        )
