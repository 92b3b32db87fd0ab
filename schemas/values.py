"""Types of the settings' values: the accepted ones, and the errors for all others."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from schemas import jid


def _domain(text: str) -> str:
    parsed = jid.parse(text)
    if parsed.local is not None or parsed.resource is not None:
        raise ValueError("must be a domain, without @ and /")
    return str(parsed)


def _address(text: str) -> str:
    return str(jid.parse(text).bare)


def _redis_url(value: SecretStr) -> SecretStr:
    """Refuse a URL that the Redis client would misread, without repeating any of it."""
    parts = urlsplit(value.get_secret_value())
    try:
        usable = parts.port != 0
    except ValueError:
        usable = False
    if parts.scheme == "unix":
        usable = usable and bool(parts.path)
    else:
        database = parts.path.removeprefix("/")
        usable = (
            usable
            and parts.scheme in {"redis", "rediss"}
            and bool(parts.hostname)
            and (not database or (database.isascii() and database.isdigit()))
        )
    if not usable:
        raise ValueError(
            "must look like redis://user:password@host:port/number, redis being rediss for TLS, "
            "or unix:///path; special characters in the password are written as %XX"
        )
    return value


Domain = Annotated[str, AfterValidator(_domain)]
Address = Annotated[str, AfterValidator(_address)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
