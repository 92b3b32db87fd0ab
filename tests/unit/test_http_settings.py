"""Settings of the HTTP port: closed unless opened on purpose."""

from pathlib import Path

import pytest

from schemas.settings import SettingsError, load

BASE = {
    "MIXPAM_COMPONENT_JID": "mixpam.example.org",
    "MIXPAM_SECRET": "s",
    "MIXPAM_DOMAINS": "example.org",
}
TOKEN = "correct-horse-battery"


def test_by_default_only_this_machine_is_let_in() -> None:
    settings = load(BASE)
    assert settings.http_host == "127.0.0.1"
    assert settings.http_port not in {5222, 5269, 5280, 5281, 5347, 5443}
    assert not settings.http_open


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "mix.example.org"])  # noqa: S104 - it is refused
def test_other_machines_need_a_token(host: str) -> None:
    with pytest.raises(SettingsError, match="MIXPAM_HTTP_TOKEN: is needed"):
        load({**BASE, "MIXPAM_HTTP_HOST": host})
    assert load({**BASE, "MIXPAM_HTTP_HOST": host, "MIXPAM_HTTP_TOKEN": TOKEN}).http_open
    assert load({**BASE, "MIXPAM_HTTP_HOST": host, "MIXPAM_HTTP_PORT": "0"}).http_port == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_needs_none(host: str) -> None:
    assert not load({**BASE, "MIXPAM_HTTP_HOST": host}).http_open


def test_an_empty_port_is_off() -> None:
    assert load({**BASE, "MIXPAM_HTTP_PORT": ""}).http_port == 0


def test_a_short_token_is_refused_and_never_shown(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="at least 16 characters") as caught:
        load({**BASE, "MIXPAM_HTTP_TOKEN": "hunter2"})
    assert "hunter2" not in str(caught.value)
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    settings = load({**BASE, "MIXPAM_HTTP_TOKEN_FILE": str(path)})
    assert settings.http_token.get_secret_value() == TOKEN
    assert TOKEN not in repr(settings)
