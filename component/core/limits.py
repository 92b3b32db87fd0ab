"""Every bound of the core that is a number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of the core. Those that are settings have their reason there.

    Names and defaults of settings are the settings' own; a test compares.
    """

    channel_timeout: float = 30
    disco_timeout: float = 30
    server_timeout: float = 30
    max_stanza_bytes: int = 262_144
    server_stanza_bytes: int = 524_288
    max_channels: int = 1000
    max_pending: int = 10
    join_rate: float = 1
    join_burst: int = 100
    caps_cache: int = 10_000
    presence_memory: int = 1000
    presence_bytes: int = 67_108_864
    presence_rate: float = 1000
    presence_user_rate: float = 5000
    late_presences: int = 50_000
    held_stanzas: int = 256
    held_bytes: int = 1_048_576
    # How long after a time-out an answer is still waited for, to undo what it did: longer
    # than servers keep trying to reach each other.
    late_window: float = 600
    # How long what was given back to the server for archiving may take to return: as long
    # as the tap waits for a roster, the other thing that goes there and back.
    archive_timeout: float = 5
    # Bytes of one user's joins and leaves that wait for their turn, a hundred of a few
    # kilobytes.
    waiting_bytes: int = 262_144
    # Seconds that one may wait, before the channel has its own: a client's patience.
    waiting_time: float = 60
    # What users ask channels about their preferences, and what has no answer yet.
    wishes: int = 10_000
    # Forms of ad-hoc commands that are out at the same time: admins are few.
    command_sessions: int = 100
    # Devices asked for one capabilities hash at the same time: one that is silent must
    # not keep the others from what MIX clients get.
    hash_devices: int = 3
    # Devices of one user that are asked what they can do, at once and a second: each costs a
    # question and an answer as large as a stanza may be, and new hashes are made up quickly.
    disco_burst: float = 100
    # How fast that goes on: as fast as joins.
    disco_rate: float = 1
    # A link that still is there after this has carried what was written to it before: one
    # that is dead is given up after twice MIXPAM_KEEPALIVE.
    link_timeout: float = 60
