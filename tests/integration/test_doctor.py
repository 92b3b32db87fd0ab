"""`mixpam check` on real servers: each symptom is made by breaking that very thing."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from commandline import Change, as_it_is, environment, instead, mixpam, server_with, without
from harness import ns
from harness.client import Account, register
from harness.component import SECRET
from harness.loopback import Block, answering
from harness.mixpam import Mixpam
from harness.process import Process
from harness.redis import Redis
from harness.server import Server

PROSODY_TAP = '\t"mixpam_tap";\n'


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def redis(block: Block, logs: Any) -> AsyncIterator[Redis]:
    """Run a Redis as it should be."""
    made = Redis(block)
    logs.add(made.folder)
    await made.start()
    yield made
    await made.stop()
    logs.done(made.folder)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(server_kind: str, block: Block, logs: Any) -> AsyncIterator[Server]:
    """Run a server as it should be, with no component."""
    async with server_with(server_kind, block, logs, as_it_is, as_it_is) as made:
        yield made


async def test_all_is_well(server: Server, redis: Redis) -> None:
    done = await mixpam("check", "--json", env=environment(server, redis))
    assert done.code == 0, done.out + done.err
    assert done.json["exit_code"] == 0
    assert set(done.levels.values()) <= {"ok", "skipped"}
    assert {
        "settings", "secret", "redis-permissions", "redis-version", "redis-persistence",
        "redis-eviction", "redis-latency", "redis-clock", "server-name", "server-port",
        "handshake", f"tap {server.domain}", f"archive {server.domain}", "sender-check",
    } <= {check for check, level in done.levels.items() if level == "ok"}  # fmt: skip
    software = "Prosody" if server.kind.software == "prosody" else "ejabberd"
    assert software in done.result(f"tap {server.domain}")["text"]


@pytest.mark.abuse(26)
async def test_lines_for_people_without_colour_or_secret(server: Server, redis: Redis) -> None:
    done = await mixpam("check", env=environment(server, redis))
    assert done.code == 0
    assert "all is well" in done.out
    assert "\x1b" not in done.out
    assert SECRET not in done.out + done.err


# -- settings --------------------------------------------------------------------------------


async def test_settings_that_are_missing_or_unknown(server: Server, redis: Redis) -> None:
    env = environment(server, redis, MIXPAM_SERVER_PORT="many", MIXPAM_DOMIANS="x")
    del env["MIXPAM_COMPONENT_JID"]
    done = await mixpam("check", "--json", env=env)
    assert done.code == 2
    text = done.out
    for variable in ("MIXPAM_SERVER_PORT", "MIXPAM_DOMIANS", "MIXPAM_COMPONENT_JID"):
        assert variable in text


@pytest.mark.abuse(26)
async def test_a_secret_that_everybody_may_read(
    server: Server, redis: Redis, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET, encoding="utf-8")
    env = environment(server, redis, MIXPAM_SECRET_FILE=str(file))
    del env["MIXPAM_SECRET"]
    file.chmod(0o644)
    done = await mixpam("check", "--json", env=env)
    assert done.code == 2
    assert f"chmod o-rwx {file}" in done.result("settings")["text"]
    file.chmod(stat.S_IRUSR)
    done = await mixpam("check", "--json", env=env)
    assert done.code == 0, done.out
    assert "MIXPAM_SECRET_FILE" in done.result("secret")["text"]


# -- name, port, handshake -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"MIXPAM_SERVER_HOST": "no-such-host.invalid"}, "server-name", "does not resolve"),
        ({"MIXPAM_SERVER_PORT": "5499"}, "server-port", "nothing listens"),
        ({"MIXPAM_SECRET": "another-secret-than-the-servers"}, "handshake", "secret is wrong"),
        ({"MIXPAM_COMPONENT_JID": "other.example"}, "handshake", "MIXPAM_COMPONENT_JID"),
        ({"MIXPAM_SERVER_PORT": "5222"}, "handshake", "port for components"),
    ],
    ids=["name", "port", "secret", "component", "port of clients"],
)
async def test_what_keeps_the_component_out(
    server: Server, redis: Redis, changes: dict[str, str], check: str, words: str
) -> None:
    done = await mixpam("check", "--json", env=environment(server, redis, **changes))
    assert done.code == 2, done.out
    result = done.result(check)
    assert result["level"] == "wrong"
    assert words in result["text"] + result["remedy"], result
    if check == "handshake":
        assert result["prosody"]
        assert result["ejabberd"]
    assert "another-secret" not in done.out


async def test_a_component_that_cannot_be_asked_is_not_thrown_out(
    server: Server, redis: Redis
) -> None:
    # One that is in no Redis and has no HTTP port: only the server knows of it.
    link = server.link()
    await link.connect()
    try:
        done = await mixpam("check", "--json", env=environment(server, redis))
        assert done.result("handshake")["level"] == "warning", done.out
        assert "connected already" in done.result("handshake")["text"]
        assert done.code == 1
        await link.fence()
    finally:
        await link.close()


# -- tap, archive, sender check, discovery ---------------------------------------------------


def broken(
    name: str, prosody: Change, ejabberd: Change, check: str, level: str, *lines: str
) -> Any:
    """Describe a broken configuration and what is to be said of it."""
    return pytest.param(prosody, ejabberd, check, level, lines, id=name)


@pytest.mark.parametrize(
    ("prosody", "ejabberd", "check", "level", "lines"),
    [
        broken(
            "no tap",
            without(PROSODY_TAP),
            lambda text: text.replace("  mod_mixpam_tap:\n", "", 1).replace(
                next(line for line in text.splitlines(True) if "    component: mixpam." in line),
                "",
            ),
            "tap {domain}",
            "wrong",
            "mixpam_tap",
            "mod_mixpam_tap",
        ),
        broken(
            "tap of another component",
            instead('mixpam_component = "mixpam.', 'mixpam_component = "other.'),
            instead("component: mixpam.", "component: other."),
            "tap {domain}",
            "wrong",
            "mixpam_component",
            "component:",
        ),
        broken(
            "no archive",
            instead("default_archive_policy = true", "default_archive_policy = false"),
            instead("    default: always\n", "    default: never\n"),
            "archive {domain}",
            "warning",
            "default_archive_policy = true",
            "default: always",
        ),
        broken(
            "sender check on",
            without("validate_from_addresses = false"),
            without("    check_from: false "),
            "sender-check",
            "wrong",
            "validate_from_addresses = false",
            "check_from: false",
        ),
    ],
)
async def test_what_is_wrong_in_the_servers_configuration(
    server_kind: str, block: Block, logs: Any, redis: Redis, *,
    prosody: Change, ejabberd: Change, check: str, level: str, lines: tuple[str, str],
) -> None:  # fmt: skip
    async with server_with(server_kind, block, logs, prosody, ejabberd) as server:
        done = await mixpam("check", "--json", env=environment(server, redis))
        result = done.result(check.format(domain=server.domain))
        assert result["level"] == level, done.out
        assert done.code == (2 if level == "wrong" else 1)
        assert lines[0] in result["prosody"]
        assert lines[1] in result["ejabberd"]


async def test_what_a_client_sees(server: Server, redis: Redis, tmp_path: Path) -> None:
    account = await register(server.place)
    password = tmp_path / "password"
    password.write_text(account.password, encoding="utf-8")
    argv = ["check", "--json", "--user", account.jid, "--password-file", str(password)]
    env = environment(server, redis)
    check = f"discovery {server.domain}"
    # Nobody is connected, so nothing is promised.
    done = await mixpam(*argv, env=env)
    assert done.result(check)["level"] == "wrong", done.out
    assert ns.PAM2 in done.result(check)["text"]
    component = Mixpam(server, redis.url, **env)
    try:
        await component.start()
        done = await mixpam(*argv, env=env)
        assert done.result(check)["level"] == "ok", done.out
        assert "with archive" in done.result(check)["text"]
        password.write_text("wrong", encoding="utf-8")
        done = await mixpam(*argv, env=env)
        assert done.result(check)["level"] == "warning"
        assert "wrong user name or password" in done.result(check)["text"]
    finally:
        await component.stop()


SCRAM_ONLY = (
    # Prosody offers PLAIN unless it is disabled; ejabberd likewise.
    lambda text: (
        'disable_sasl_mechanisms = { "PLAIN" }\n'
        + text.replace('authentication = "internal_plain"', 'authentication = "internal_hashed"')
    ),
    lambda text: (
        'disable_sasl_mechanisms: ["PLAIN", "X-OAUTH2"]\n'
        + text.replace("auth_password_format: plain", "auth_password_format: scram")
    ),
)


async def test_a_server_that_offers_scram_alone(
    server_kind: str, block: Block, logs: Any, redis: Redis, tmp_path: Path
) -> None:
    async with server_with(server_kind, block, logs, *SCRAM_ONLY) as server:
        account, env = await register(server.place), environment(server, redis)
        argv = as_user(account, tmp_path, server.place.ip)
        check = f"discovery {server.domain}"
        # The login works; without a component there is nothing to be seen.
        done = await mixpam(*argv, env=env)
        assert ns.PAM2 in done.result(check)["text"], done.out
        assert done.result(check)["level"] == "wrong"
        (tmp_path / "password").write_text("wrong", encoding="utf-8")
        done = await mixpam(*argv, env=env)
        assert "wrong user name or password" in done.result(check)["text"]


def elsewhere(server: Server) -> str:
    """Spell the server's address so that it does not look like this very machine's."""
    return hex(int(ip_address(server.place.ip)))


def as_user(account: Account, folder: Path, host: str, port: int = 5222) -> list[str]:
    """Return a command that looks at what an account's clients see."""
    password = folder / "password"
    password.write_text(account.password, encoding="utf-8")
    return [
        "check", "--json", "--user", account.jid, "--password-file", str(password),
        "--client-host", host, "--client-port", str(port),
    ]  # fmt: skip


async def test_clients_that_cannot_connect(server: Server, redis: Redis, tmp_path: Path) -> None:
    account, env = await register(server.place), environment(server, redis)
    check = f"discovery {server.domain}"
    done = await mixpam(*as_user(account, tmp_path, server.place.ip, 5498), env=env)
    assert "connection refused" in done.result(check)["text"]
    assert "--client-port" in done.result(check)["remedy"]
    done = await mixpam(*as_user(account, tmp_path, "no-such-host.invalid"), env=env)
    assert "--client-host" in done.result(check)["remedy"]
    # A server without a certificate: the password stays here.
    done = await mixpam(*as_user(account, tmp_path, elsewhere(server)), env=env)
    why = {
        "prosody": "TLS failed, has it a certificate?",
        "ejabberd": "it offers no TLS, and the password shall not go open",
    }[server.kind.software]
    assert f"cannot be trusted with a password: {why}" in done.result(check)["text"]
    assert f"a certificate for {server.domain}" in done.result(check)["remedy"]


async def test_a_certificate_that_nobody_trusts(
    server_kind: str, block: Block, logs: Any, redis: Redis, tmp_path: Path
) -> None:
    await openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", "/CN=example.org", "-days", "2",
        "-keyout", str(tmp_path / "own.key"), "-out", str(tmp_path / "own.crt"),
    )  # fmt: skip
    async with server_with(
        server_kind, block, logs,
        lambda text: 'ssl = { key = "@folder@/own.key"; certificate = "@folder@/own.crt" };\n'
        + text,
        lambda text: 'certfiles: ["@folder@/own.*"]\n'
        + text.replace("module: ejabberd_c2s\n", "module: ejabberd_c2s\n    starttls: true\n"),
        files={name: (tmp_path / name).read_bytes() for name in ("own.key", "own.crt")},
    ) as server:  # fmt: skip
        account, env = await register(server.place), environment(server, redis)
        check = f"discovery {server.domain}"
        done = await mixpam(*as_user(account, tmp_path, elsewhere(server)), env=env)
        result = done.result(check)
        assert result["level"] == "warning"
        assert "not trusted here: self-signed certificate" in result["text"]
        assert "update-ca-certificates" in result["remedy"]
        assert f"import {server.domain}" in result["prosody"]
        assert "certfiles" in result["ejabberd"]
        # Authorities are one thing, names another.
        env["SSL_CERT_FILE"] = str(tmp_path / "own.crt")
        done = await mixpam(*as_user(account, tmp_path, elsewhere(server)), env=env)
        assert "not valid for" in done.result(check)["text"]
        # On the server's own machine nobody is in between.
        done = await mixpam(*as_user(account, tmp_path, server.place.ip), env=env)
        assert ns.PAM2 in done.result(check)["text"]


async def openssl(*argv: str) -> None:
    """Run openssl."""
    child = await asyncio.create_subprocess_exec(
        "openssl", *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await child.communicate()
    assert child.returncode == 0, out.decode()


# -- a component that is running -------------------------------------------------------------


async def test_a_running_component_is_asked_and_left_alone(server: Server, redis: Redis) -> None:
    env = environment(server, redis)
    component = Mixpam(server, redis.url, **env)
    try:
        await component.start()
        mark = component.mark()
        done = await mixpam("check", "--json", env=env)
        assert done.code == 0, done.out
        assert "left alone" in done.result("running")["text"]
        for check in ("handshake", f"tap {server.domain}", f"archive {server.domain}"):
            assert done.levels[check] == "ok"

        # Its HTTP port hidden, Redis still knows it.
        hidden = await mixpam("check", "--json", env={**env, "MIXPAM_HTTP_PORT": "5498"})
        assert hidden.code == 1
        assert "connected to Redis" in hidden.result("running")["text"]
        assert "handshake" not in hidden.levels

        wrong = {**env, "MIXPAM_HTTP_TOKEN": "another-token-than-its"}
        refused = await mixpam("check", "--json", env=wrong)
        assert refused.code == 2
        assert "MIXPAM_HTTP_TOKEN" in refused.result("running")["remedy"]
        assert not [e for e in component.process.lines[mark:] if "link-down" in e]
    finally:
        await component.stop()


async def test_what_a_running_component_complains_of(
    server_kind: str, block: Block, logs: Any, redis: Redis
) -> None:
    async with server_with(
        server_kind, block, logs,
        instead('mixpam_component = "mixpam.', 'mixpam_component = "other.'),
        instead("component: mixpam.", "component: other."),
    ) as server:  # fmt: skip
        env = environment(server, redis)
        component = Mixpam(server, redis.url, **env)
        try:
            await component.process.start()
            await component.process.line('"link-up"', 15)
            await answering(server.place.ip, 5405)
            done = await mixpam("check", "--json", env=env)
            assert done.code == 2
            result = done.result(f"tap {server.domain}")
            assert result["level"] == "wrong"
            assert "mixpam_component" in result["prosody"]
        finally:
            await component.stop()


# -- Redis -----------------------------------------------------------------------------------


async def broken_redis(block: Block, logs: Any, *argv: str) -> Redis:
    """Start a Redis with further options."""
    made = Redis(block)
    logs.add(made.folder)
    made.process = Process("redis", [*made.process.argv[3:], *argv], made.folder / "redis.log")
    await made.start()
    return made


@pytest.mark.abuse(22)
@pytest.mark.parametrize(
    ("argv", "check", "level", "line"),
    [
        (["--appendonly", "no"], "redis-persistence", "warning", "appendonly yes"),
        (
            ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"],
            "redis-eviction", "wrong", "maxmemory-policy noeviction",
        ),
        (
            ["--maxmemory-policy", "volatile-lru"],
            "redis-eviction", "warning", "maxmemory-policy noeviction",
        ),
        (["--maxmemory", "1"], "redis-permissions", "wrong", ""),
        (["--requirepass", "needed"], "redis", "wrong", ""),
    ],
    ids=["no AOF", "evicts", "would evict", "full", "password"],
)  # fmt: skip
async def test_a_redis_that_loses_or_refuses(
    server: Server, block: Block, logs: Any, *, argv: list[str], check: str, level: str, line: str
) -> None:  # fmt: skip
    redis = await broken_redis(block, logs, *argv)
    try:
        done = await mixpam("check", "--json", env=environment(server, redis))
        result = done.result(check)
        assert result["level"] == level, done.out
        assert line in result.get("redis", "")
        assert done.code == (2 if level == "wrong" else 1)
    finally:
        await redis.stop()
        logs.done(redis.folder)


async def test_a_redis_that_forbids_commands(server: Server, block: Block, logs: Any) -> None:
    redis = await broken_redis(block, logs)
    url = f"redis://mixpam:pw@{redis.place.ip}:6379/0"
    needed = "+ping +scan +hgetall +hset +hdel +multi +exec +discard +xadd +xrange +xrevrange"
    try:
        await acl(redis, f"ACL SETUSER mixpam on >pw ~mixpam:* -@all {needed}")
        done = await mixpam("check", "--json", env=environment(server, redis, MIXPAM_REDIS_URL=url))
        # All that the component needs is allowed; what is only looked at is not.
        assert done.levels["redis-permissions"] == "ok", done.out
        assert done.levels["redis-info"] == "skipped"
        assert done.levels["running"] == "warning"
        assert "+client|list" in done.result("running")["redis"]
        assert "handshake" not in done.levels
        insist = await mixpam(
            "check", "--json", "--connect", env=environment(server, redis, MIXPAM_REDIS_URL=url)
        )
        assert insist.levels["handshake"] == "ok", insist.out

        await acl(redis, "ACL SETUSER mixpam -hset -scan")
        done = await mixpam("check", "--json", env=environment(server, redis, MIXPAM_REDIS_URL=url))
        assert done.code == 2
        result = done.result("redis-permissions")
        assert "scan, hset" in result["text"]
        assert "+scan +hset" in result["redis"]
        assert "pw" not in done.out.replace("/pw", "")

        # What a version before needed is not enough.
        await acl(redis, "ACL SETUSER mixpam +hset +scan -xadd -xrange -xrevrange")
        done = await mixpam("check", "--json", env=environment(server, redis, MIXPAM_REDIS_URL=url))
        assert "+xadd +xrange +xrevrange" in done.result("redis-permissions")["redis"]
        assert await redis.ask("KEYS", "*") == []
    finally:
        await redis.stop()
        logs.done(redis.folder)


async def acl(redis: Redis, command: str) -> None:
    """Give Redis an administrator's command."""
    import redis.asyncio as client  # noqa: PLC0415 - the fixture's name is the same

    connection = client.Redis.from_url(redis.url)
    await connection.execute_command(*command.split())
    await connection.aclose()


async def test_a_redis_that_is_not_there(server: Server, redis: Redis) -> None:
    url = f"redis://:hunter2@{redis.place.ip}:6399/0"
    done = await mixpam("check", "--json", env=environment(server, redis, MIXPAM_REDIS_URL=url))
    assert done.code == 2
    assert "does not answer" in done.result("redis")["text"]
    assert "hunter2" not in done.out + done.err
    assert done.levels["server-port"] == "ok"


async def test_a_clock_that_is_wrong(server: Server, redis: Redis, tmp_path: Path) -> None:
    # The command's own clock is set back; that of Redis and the server is not.
    (tmp_path / "sitecustomize.py").write_text(
        "import time\n_time = time.time\ntime.time = lambda: _time() - 3600\n", encoding="utf-8"
    )
    env = environment(server, redis)
    env["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"
    done = await mixpam("check", "--json", env=env)
    assert done.result("redis-clock")["level"] == "warning", done.out
    assert "3600 s ahead" in done.result("redis-clock")["text"]
