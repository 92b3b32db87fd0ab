"""Checks the settings: whether they are usable, and whether the secret is secret."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from component.doctor.result import Level, Result, ok
from schemas.odds import at_odds
from schemas.settings import PREFIX, Settings, SettingsError, load

SHORTEST_SECRET = 16
"""Minimum characters of a component's secret that cannot realistically be guessed."""

_EXAMPLES = frozenset({"change-me", "changeme", "secret", "password", "a long random word"})


def look(environment: Mapping[str, str] | None = None) -> tuple[Settings | None, list[Result]]:
    """Read the settings; None, and the reason, if they cannot be used."""
    try:
        settings = load(environment)
    except SettingsError as error:
        return None, [
            Result(
                "settings",
                Level.WRONG,
                line,
                "Correct it in the environment; `mixpam settings --table` explains every setting.",
            )
            for line in error.lines
        ]
    return settings, list(_about(settings, os.environ if environment is None else environment))


def _about(settings: Settings, environment: Mapping[str, str]) -> Iterator[Result]:
    yield ok("settings", f"settings are complete, for users of {', '.join(settings.domains)}")
    for reason in at_odds(settings):
        yield Result("settings", Level.WARNING, reason, "Change one of the two.")
    secret = settings.secret.get_secret_value()
    if secret in _EXAMPLES or len(secret) < SHORTEST_SECRET:
        what = "is an example's" if secret in _EXAMPLES else "is short"
        yield Result(
            "secret",
            Level.WARNING,
            f"the component's secret {what}: who guesses it speaks as any user",
            "Make a new one with `openssl rand -hex 32`, and put it here and into the server.",
            prosody='component_secret = "…"',
            ejabberd='password: "…"',
        )
    else:
        where = f"{PREFIX}SECRET_FILE"
        kept = where if where in environment else f"{PREFIX}SECRET"
        yield ok("secret", f"the component's secret is long enough, from {kept}")
