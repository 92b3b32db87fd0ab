"""Settings: environment variables, each with a meaning, a default, a check and an example.

The README's table and the one-line errors an operator sees are made from this model, so that
neither can differ from the program's behaviour.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from schemas.values import Address, Domain, Port, RedisUrl, Seconds

PREFIX = "MIXPAM_"

SHORTEST_TOKEN = 16
"""Minimum characters of MIXPAM_HTTP_TOKEN."""


LONGEST_SECRET = 8_192
"""Maximum characters of a secret in a file."""


class SettingsError(ValueError):
    """Invalid settings; `lines` has one sentence for each, fit for a terminal."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Settings(BaseModel):
    """All settings of the component; see each field's description."""

    # Some of these contain secrets and passwords: no error may repeat a value.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    component_jid: Domain = Field(
        description="Domain of the component, as in the server's configuration.",
        examples=["mixpam.example.org"],
    )
    secret: SecretStr = Field(
        min_length=1,
        description="Secret shared with the server. "
        "MIXPAM_SECRET_FILE names a file that holds it instead.",
        examples=["a long random word"],
    )
    domains: Annotated[tuple[Domain, ...], Field(min_length=1)] = Field(
        description="Domains of the users that are served, separated by commas.",
        examples=["example.org"],
    )
    server_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Where the server listens for components.",
        examples=["127.0.0.1"],
    )
    server_port: Port = Field(
        5347, description="Port on which the server listens for components.", examples=["5347"]
    )
    redis_url: RedisUrl = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis that keeps memberships and capabilities. "
        "MIXPAM_REDIS_URL_FILE names a file that holds it instead.",
        examples=["redis://:password@127.0.0.1:6379/0"],
    )
    redis_prefix: str | None = Field(
        None,
        # The second is the default of a component on a Redis where another one has `mixpam`.
        pattern=r"^([A-Za-z0-9_.-]{1,64}|mixpam:[A-Za-z0-9_.%~-]{1,3069})$",
        description="Beginning of every key in Redis, for no other component. By default"
        " `mixpam`, or, if another component has that, `mixpam:` and MIXPAM_COMPONENT_JID.",
        examples=["mixpam"],
    )
    redis_timeout: Seconds = Field(
        5, description="Seconds until Redis counts as away.", examples=["5"]
    )
    max_waiting_writes: Annotated[int, Field(ge=100)] = Field(
        10_000,
        description="Writes that wait for a Redis that is away; beyond that they are given up,"
        " and everything is written anew from memory when it is back.",
        examples=["10000"],
    )
    channel_timeout: Seconds = Field(
        30,
        description="Seconds a channel has to answer a join or leave; clients wait that long.",
        examples=["30"],
    )
    disco_timeout: Seconds = Field(
        30,
        description="Seconds a device has to tell what it can do; then it counts as not MIX.",
        examples=["30"],
    )
    server_timeout: Seconds = Field(
        30,
        description="Seconds the server has to read or write a roster, which may be on a slow"
        " disk; the client is told then that it did not.",
        examples=["30"],
    )
    max_channels: Annotated[int, Field(ge=1)] = Field(
        1000,
        description="Channels one user may be in; each costs memory, and a presence to send"
        " whenever one of the user's devices comes or goes.",
        examples=["1000"],
    )
    max_pending: Annotated[int, Field(ge=1)] = Field(
        10,
        description="Joins and leaves of one user that are under way at the same time, each of"
        " which may wait for a channel that never answers; others, at most MIXPAM_JOIN_BURST,"
        " wait for their turn, a minute at most.",
        examples=["10"],
    )
    join_rate: Annotated[float, Field(gt=0)] = Field(
        1,
        description="Joins and leaves a second that one user may go on with after"
        " MIXPAM_JOIN_BURST at once; each is written to Redis, roster and channel.",
        examples=["1"],
    )
    join_burst: Annotated[int, Field(ge=1)] = Field(
        100,
        description="Joins and leaves that one user may ask for at once, as a client that moves"
        " house does.",
        examples=["100"],
    )
    max_stanza_bytes: Annotated[int, Field(ge=10_000)] = Field(
        262_144,
        description="Bytes of the largest stanza accepted from the server; of a larger one"
        " nothing is passed on.",
        examples=["262144"],
    )
    server_stanza_bytes: Annotated[int, Field(ge=100_000)] = Field(
        524_288,
        description="Bytes of the largest stanza that the server accepts from the component"
        " (Prosody: component_stanza_size_limit; ejabberd: max_stanza_size of the ejabberd_service"
        " listener), which ends the link when there is a larger one; none is sent.",
        examples=["524288"],
    )
    caps_cache: Annotated[int, Field(ge=100)] = Field(
        10_000,
        description="Capabilities hashes remembered, of which anybody can make up more; the"
        " least used make room.",
        examples=["10000"],
    )
    presence_memory: Annotated[int, Field(ge=0)] = Field(
        1000,
        description="Participants whose presence is kept for each user and channel; "
        "in larger channels it is asked for when a device comes online.",
        examples=["1000"],
    )
    presence_bytes: Annotated[int, Field(ge=0)] = Field(
        67_108_864,
        description="Bytes of memory for the same, all users together, of which one channel may"
        " take a fourth and one user a sixteenth, and for what waits because of the rates below a"
        " fourth more.",
        examples=["67108864"],
    )
    presence_rate: Annotated[float, Field(ge=1)] = Field(
        1000,
        description="Presences a second, of one channel to one user, that are passed on as "
        "they come; beyond that they wait, and only the last of each participant is sent.",
        examples=["1000"],
    )
    presence_user_rate: Annotated[float, Field(ge=1)] = Field(
        5000,
        description="The same of all channels to one user together, so that many channels do"
        " not reach what one may not.",
        examples=["5000"],
    )
    late_presences: Annotated[int, Field(ge=0)] = Field(
        50_000,
        description="Presences that may wait because of these rates, all users together; it is"
        " memory that a crowd can fill. What is beyond is asked for when a device comes online.",
        examples=["50000"],
    )
    held_stanzas: Annotated[int, Field(ge=1)] = Field(
        256,
        description="Stanzas of a channel that wait for the end of one user's join, for their"
        " order; those beyond are only in the archive.",
        examples=["256"],
    )
    held_bytes: Annotated[int, Field(ge=10_000)] = Field(
        1_048_576,
        description="Bytes of the same.",
        examples=["1048576"],
    )
    multicast: bool = Field(
        True,
        description="Whether a message for many users and devices goes over the link once, "
        "with a list of addresses, if the tap can do that; false is for comparison.",
        examples=["true"],
    )
    keepalive: Seconds = Field(
        20,
        description="Seconds of silence after which the link is tested; "
        "twice that without an answer and it is dead.",
        examples=["20"],
    )
    http_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address on which metrics, health and the status page are served; "
        "one that is not loopback needs MIXPAM_HTTP_TOKEN.",
        examples=["127.0.0.1"],
    )
    http_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        5405,
        description="Port on which metrics, health and the status page are served; "
        "0 or empty for none.",
        examples=["5405"],
    )
    http_token: SecretStr = Field(
        SecretStr(""),
        description="Secret that metrics, API and status page ask for, at least "
        f"{SHORTEST_TOKEN} characters. MIXPAM_HTTP_TOKEN_FILE names a file that holds it instead.",
        examples=["a long random word"],
    )
    contact: tuple[str, ...] = Field(
        (),
        description="Addresses of the operator shown in service discovery (XEP-0157).",
        examples=["xmpp:admin@example.org,mailto:admin@example.org"],
    )
    admins: tuple[Address, ...] = Field(
        (),
        description="Accounts, separated by commas, that may use the component's ad-hoc "
        "commands (XEP-0050).",
        examples=["admin@example.org"],
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least important log entries that are written.", examples=["info"]
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto",
        description="How log entries look; auto is console on a terminal, JSON elsewhere.",
        examples=["json"],
    )

    @field_validator("domains", "contact", "admins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("http_port", mode="before")
    @classmethod
    def _empty_is_off(cls, value: object) -> object:
        return 0 if isinstance(value, str) and not value.strip() else value

    @field_validator("http_token")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < SHORTEST_TOKEN:
            raise ValueError(f"must have at least {SHORTEST_TOKEN} characters")
        return value

    @property
    def http_open(self) -> bool:
        """Whether the HTTP port can be reached from other machines."""
        try:
            return not ip_address(self.http_host).is_loopback
        except ValueError:
            return self.http_host != "localhost"


SECRETS = ("secret", "redis_url", "http_token")
"""Fields that may come from a file named by `<variable>_FILE`."""


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the given environment, and from nothing else.

    Without one, from that of the process. Raises SettingsError with one line for each variable that
    is missing, misspelt, wrong, or in conflict with another.
    """
    environment = dict(os.environ if environment is None else environment)
    values, problems, spoiled = _collect(environment)
    problems += _strangers(environment)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        for detail in error.errors(include_input=False, include_context=False):
            name = str(detail["loc"][0])
            if name not in spoiled:
                spoiled.add(name)  # one line is enough, whatever else is wrong with it
                problems.append(_explain(name, detail["type"], detail["msg"]))
        raise SettingsError(problems) from None
    problems += _contradictions(settings)
    if problems:
        raise SettingsError(problems)
    return settings


def _strangers(environment: Mapping[str, str]) -> Iterator[str]:
    """Report each variable that is meant for mixpam, in any spelling, and is no setting.

    Its value is not repeated: it may be a secret under a misspelt name.
    """
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    known += [f"{PREFIX}{name.upper()}_FILE" for name in SECRETS]
    for variable in sorted(environment):
        upper = variable.upper()
        if variable in known or not upper.startswith(PREFIX):
            continue
        if upper in known:
            advice = f"its name is written {upper}"
        elif _KUBERNETES.fullmatch(upper):
            advice = "Kubernetes makes it for a Service of that name: enableServiceLinks: false"
        elif close := get_close_matches(upper, known, n=1, cutoff=0.8):
            advice = f"did you mean {close[0]}?"
        else:
            advice = "`mixpam settings --table` lists them"
        yield f"{variable}: no such setting ({advice})"


_KUBERNETES = re.compile(r"MIXPAM_(SERVICE_(HOST|PORT\w*)|PORT(_\d+_(TCP|UDP|SCTP)\w*)?)")
"""Variables that Kubernetes sets in each container for a Service named mixpam."""


def _contradictions(settings: Settings) -> Iterator[str]:
    """Report settings that cannot work together, though each is valid."""
    if settings.component_jid in settings.domains:
        yield f"{PREFIX}COMPONENT_JID: must differ from the users' domains in {PREFIX}DOMAINS"
    if settings.http_port and settings.http_open and not settings.http_token.get_secret_value():
        yield (
            f"{PREFIX}HTTP_TOKEN: is needed, because {PREFIX}HTTP_HOST={settings.http_host!r}"
            " lets other machines in"
        )


def _collect(
    environment: Mapping[str, str],
) -> tuple[dict[str, object], list[str], set[str]]:
    """Give the values that are set, the errors of secrets' files, and the settings concerned."""
    values: dict[str, object] = {}
    problems: list[str] = []
    spoiled: set[str] = set()
    for name in Settings.model_fields:
        variable = PREFIX + name.upper()
        if variable in environment:
            values[name] = environment[variable]
        file_variable = f"{variable}_FILE"
        if name in SECRETS and file_variable in environment:
            try:
                values[name] = _read_secret(Path(environment[file_variable]))
            except (OSError, ValueError) as error:
                problems.append(f"{file_variable}: {_reason(error)}")
                spoiled.add(name)
    return values, problems, spoiled


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _read_secret(path: Path) -> str:
    """Read a secret's file; refuse one that everybody may read."""
    if path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        raise ValueError(f"{path} is open to everybody; run: chmod o-rwx {path}")
    with path.open(encoding="utf-8") as file:
        value = file.read(LONGEST_SECRET + 1).strip()
    if not value:
        raise ValueError(f"{path} is empty")
    if len(value) > LONGEST_SECRET:
        raise ValueError(f"{path} is longer than {LONGEST_SECRET} characters")
    if not value.isprintable():
        raise ValueError(f"{path} has more than one line, or is no text")
    return value


def _explain(name: str, kind: str, message: str) -> str:
    """Phrase one of pydantic's errors as: variable, what is wrong, an example."""
    example = (Settings.model_fields[name].examples or ["?"])[0]
    if kind in {"missing", "string_too_short", "too_short"}:
        what = "is not set"
    elif kind == "string_pattern_mismatch":
        what = "may have letters, digits, and . _ - only"
    else:
        what = message.removeprefix("Value error, ")
        what = what[:1].lower() + what[1:]
    return f"{PREFIX}{name.upper()}: {what} (example: {PREFIX}{name.upper()}={example!r})"


def table() -> str:
    """Write the settings as the README's Markdown table."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        if field.is_required():
            default = "required"
        else:
            value = field.default
            value = str(value).lower() if isinstance(value, bool) else value
            if isinstance(value, SecretStr):
                value = value.get_secret_value()
            elif isinstance(value, tuple):
                value = ",".join(value)
            default = "none" if value in {"", None} else f"`{value}`"
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"
