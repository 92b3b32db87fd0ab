"""What an operator gets to see: one line for each mistake, and never a secret.

Settings come from what is given to `load`, or to `Settings` itself, and from nowhere else:
no variable of the process, no other spelling, no file. What looks as if it were meant for us
and is not used is told of, with the name that was meant.
"""

from pathlib import Path

import pytest
from pydantic import ValidationError

from component.core.stanza_size import Largest
from schemas import settings as module
from schemas.odds import PASSED_ON, at_odds
from schemas.settings import Settings, SettingsError, load

GOOD = {
    "MIXPAM_COMPONENT_JID": "mixpam.example.org",
    "MIXPAM_SECRET": "hunter2-the-secret",
    "MIXPAM_DOMAINS": "example.org",
}
SECRET = "hunter2-the-secret"


def problems(environment: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(environment)
    assert str(caught.value).splitlines() == caught.value.lines
    return caught.value.lines


def test_three_settings_are_enough() -> None:
    settings = load(GOOD)
    assert settings.component_jid == "mixpam.example.org"
    assert settings.domains == ("example.org",)
    assert settings.secret.get_secret_value() == SECRET
    assert settings.server_port == 5347


def test_addresses_are_canonical_and_lists_are_split() -> None:
    settings = load(
        GOOD
        | {
            "MIXPAM_COMPONENT_JID": "MixPam.Example.ORG.",
            "MIXPAM_DOMAINS": " Example.org , b\u00fccher.example,,xn--bcher-kva.example",
            "MIXPAM_CONTACT": "xmpp:a@b, mailto:a@b",
        }
    )
    assert settings.component_jid == "mixpam.example.org"
    assert settings.domains[:2] == ("example.org", "b\u00fccher.example")
    assert settings.contact == ("xmpp:a@b", "mailto:a@b")


def test_nothing_set_says_what_is_needed() -> None:
    lines = problems({})
    assert [line.partition(":")[0] for line in lines] == list(GOOD)
    assert all("is not set" in line for line in lines)
    assert "(example: MIXPAM_DOMAINS='example.org')" in lines[2]


MISTAKES = {
    "MIXPAM_COMPONENT_JID": ["", "a@b", "mixpam.example.org/x", "two words", "a..b"],
    "MIXPAM_SECRET": [""],
    "MIXPAM_DOMAINS": ["", " , ", "a@b", "example.org,two words"],
    "MIXPAM_SERVER_HOST": [""],
    "MIXPAM_SERVER_PORT": ["", "0", "65536", "5347x", "-1"],
    "MIXPAM_REDIS_URL": [
        "",
        "redis.example.org",
        "http://127.0.0.1/",
        f"redis://:{SECRET}@127.0.0.1:port/0",
        f"redis://:{SECRET}/with-slash@127.0.0.1:6379/0",
        f"redis://:{SECRET}@127.0.0.1:6379/zero",
        "unix:",
    ],
    "MIXPAM_REDIS_PREFIX": ["", "a b", "a:b", "{a}"],
    "MIXPAM_REDIS_TIMEOUT": ["0", "-1", "nan", "inf", "five"],
    "MIXPAM_CHANNEL_TIMEOUT": ["0", "3601", "30s"],
    "MIXPAM_DISCO_TIMEOUT": ["0"],
    "MIXPAM_MAX_CHANNELS": ["0", "1.5"],
    "MIXPAM_MAX_PENDING": ["0"],
    "MIXPAM_MAX_STANZA_BYTES": ["9999"],
    "MIXPAM_CAPS_CACHE": ["99"],
    "MIXPAM_KEEPALIVE": ["0"],
    "MIXPAM_LOG_LEVEL": ["", "loud"],
    "MIXPAM_LOG_FORMAT": ["xml"],
}


@pytest.mark.abuse(26)
@pytest.mark.parametrize(
    ("variable", "value"),
    [(variable, value) for variable, values in MISTAKES.items() for value in values],
)
def test_each_mistake_is_one_line_with_variable_and_example(variable: str, value: str) -> None:
    (line,) = problems(GOOD | {variable: value})
    assert line.startswith(f"{variable}: ")
    assert f"(example: {variable}=" in line
    assert SECRET not in line


def test_all_mistakes_are_told_at_once() -> None:
    lines = problems(
        GOOD | {"MIXPAM_SERVER_PORT": "x", "MIXPAM_LOG_LEVEL": "x", "MIXPAM_TYPO": "x"}
    )
    assert [line.partition(":")[0] for line in lines] == [
        "MIXPAM_TYPO",
        "MIXPAM_SERVER_PORT",
        "MIXPAM_LOG_LEVEL",
    ]
    assert "no such setting" in lines[0]


def test_the_component_is_no_domain_of_users() -> None:
    (line,) = problems(GOOD | {"MIXPAM_DOMAINS": "example.org,mixpam.example.org"})
    assert line.startswith("MIXPAM_COMPONENT_JID: ")


def secret_file(folder: Path, content: str | bytes, mode: int = 0o640) -> dict[str, str]:
    path = folder / "secret"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return {
        "MIXPAM_COMPONENT_JID": "mixpam.example.org",
        "MIXPAM_DOMAINS": "example.org",
        "MIXPAM_SECRET_FILE": str(path),
    }


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    settings = load(secret_file(tmp_path, f"{SECRET}\n"))
    assert settings.secret.get_secret_value() == SECRET


@pytest.mark.abuse(26)
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666])
def test_a_secret_file_open_to_everybody_is_refused(tmp_path: Path, mode: int) -> None:
    (line,) = problems(secret_file(tmp_path, SECRET, mode))
    assert line.startswith("MIXPAM_SECRET_FILE: ")
    assert f"chmod o-rwx {tmp_path}/secret" in line
    assert SECRET not in line


@pytest.mark.abuse(26)
@pytest.mark.parametrize(
    "content",
    ["", " \n", b"\xff" + SECRET.encode(), f"{SECRET}\nmore", f"{SECRET}\0x", SECRET * 1000],
    ids=["empty", "blank", "no text", "two lines", "no word", "long"],
)
def test_a_useless_secret_file_is_one_line(tmp_path: Path, content: str | bytes) -> None:
    (line,) = problems(secret_file(tmp_path, content))
    assert line.startswith("MIXPAM_SECRET_FILE: ")
    assert SECRET not in line


def test_a_secret_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        (line,) = problems(
            {k: v for k, v in GOOD.items() if k != "MIXPAM_SECRET"}
            | {"MIXPAM_SECRET_FILE": str(path)}
        )
        assert line.startswith("MIXPAM_SECRET_FILE: ")


def test_a_secret_file_wins_over_the_variable_and_is_told_alone_when_bad(tmp_path: Path) -> None:
    environment = GOOD | secret_file(tmp_path, "from the file")
    assert load(environment).secret.get_secret_value() == "from the file"
    environment["MIXPAM_REDIS_URL_FILE"] = str(tmp_path / "nowhere")
    (line,) = problems(environment)
    assert line.startswith("MIXPAM_REDIS_URL_FILE: ")


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "redis://[::1]:6379/15",
        "rediss://user:p%2Fw@redis.example.org:6380/0",
        "unix:///run/redis.sock",
    ],
)
def test_urls_that_the_redis_client_reads(url: str) -> None:
    assert load(GOOD | {"MIXPAM_REDIS_URL": url}).redis_url.get_secret_value() == url


@pytest.mark.abuse(26)
def test_secrets_are_in_no_representation() -> None:
    url = f"redis://:{SECRET}@127.0.0.1:6379/0"
    settings = load(GOOD | {"MIXPAM_REDIS_URL": url})
    shown = [repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())]
    shown += [f"{name}={value}" for name, value in settings]
    assert settings.redis_url.get_secret_value() == url
    assert not [text for text in shown if SECRET in text]


def test_only_what_is_given_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MIXPAM_SERVER_PORT": "1", "mixpam_server_port": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MIXPAM_SECRET", "the environment's own")
    assert load(GOOD | {"SECRET": "x"}).server_port == 5347
    assert load(GOOD).secret.get_secret_value() == SECRET
    given = Settings(component_jid="a.example", secret="s", domains="b.example")  # type: ignore[arg-type]
    assert (given.server_port, given.secret.get_secret_value()) == (5347, "s")
    with pytest.raises(ValidationError):
        Settings(component_jid="a.example", domains="b.example")  # type: ignore[call-arg, arg-type]


@pytest.mark.abuse(26)
@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("mixpam_secret", "its name is written MIXPAM_SECRET"),
        ("Mixpam_Server_Port", "its name is written MIXPAM_SERVER_PORT"),
        ("mixpam_http_token_file", "its name is written MIXPAM_HTTP_TOKEN_FILE"),
        ("MIXPAM_DOMAIN", "did you mean MIXPAM_DOMAINS?"),
        ("MIXPAM_REDIS_UR", "did you mean MIXPAM_REDIS_URL?"),
        ("mixpam_sevrer_host", "did you mean MIXPAM_SERVER_HOST?"),
        ("MIXPAM_", "`mixpam settings --table` lists them"),
        ("MIXPAM_SOMETHING_ELSE_ALTOGETHER", "`mixpam settings --table` lists them"),
        ("MIXPAM_SERVICE_HOST", "enableServiceLinks: false"),
        ("MIXPAM_PORT_5405_TCP_ADDR", "enableServiceLinks: false"),
    ],
)
def test_a_name_with_a_fault_is_told_with_the_one_that_was_meant(variable: str, meant: str) -> None:
    (line,) = problems(GOOD | {variable: SECRET})
    assert line.startswith(f"{variable}: no such setting (")
    assert meant in line
    assert SECRET not in line


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"HTTP_PORT": "5347"}, ("HTTP_PORT", "SERVER_PORT")),
        ({"PRESENCE_RATE": "9000"}, ("PRESENCE_USER_RATE", "PRESENCE_RATE")),
        ({"HELD_BYTES": "10000"}, ("HELD_BYTES", "MAX_STANZA_BYTES")),
        ({"SERVER_STANZA_BYTES": "262144"}, ("SERVER_STANZA_BYTES", "MAX_STANZA_BYTES")),
    ],
)
def test_settings_that_make_each_other_vain_are_told_and_usable(
    values: dict[str, str], names: tuple[str, ...]
) -> None:
    (line,) = at_odds(load(GOOD | {f"MIXPAM_{name}": each for name, each in values.items()}))
    assert all(f"MIXPAM_{name}" in line for name in names)
    assert list(at_odds(load(GOOD))) == []


def test_what_a_stanza_needs_is_what_the_core_says() -> None:
    assert Largest(0, 1_000_000).wanted == 1_000_000 + PASSED_ON


@pytest.mark.abuse(26)
def test_no_error_repeats_what_was_given() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(
            component_jid=f"a/{SECRET}", secret=[SECRET], domains=SECRET + " x", redis_url=SECRET
        )  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(GOOD).server_port = 1  # type: ignore[misc]


def test_the_table_has_each_setting_with_its_meaning() -> None:
    rows = module.table().splitlines()[2:]
    assert len(rows) == len(Settings.model_fields)
    for row, (name, field) in zip(rows, Settings.model_fields.items(), strict=True):
        assert row.startswith(f"| `MIXPAM_{name.upper()}` | ")
        assert field.description
        assert field.description in row
    assert "| required |" in rows[0]
    assert "| `5347` |" in module.table()
    assert "| none |" in module.table()


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_each_example_is_one_that_works(name: str) -> None:
    (example,) = Settings.model_fields[name].examples or [None]
    load(GOOD | {f"MIXPAM_{name.upper()}": str(example)})
