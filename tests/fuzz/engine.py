"""The process that fuzzes, replays kept inputs, tries new ones, or repeats one finding."""

import gc
import hashlib
import importlib
import json
import signal
import sys
from pathlib import Path
from types import ModuleType

import schemas.namespaces
from fuzz import memory

HANG = 10.0
"""CPU seconds after which an input counts as a hang."""
REPLAYS = 5
_CODE = {
    "stream": ["component/wire/framing.py", "component/wire/ending.py", "component/link/stream.py"],
    "control": ["component/core/*", "component/wire/framing.py", "schemas/*"],
    "events": ["component/core/machine.py", "component/core/presence/devices.py", "schemas/tap.py"],
    "records": ["component/store/store.py", "component/store/keys.py", "schemas/records.py"],
}
"""The modules that each target concerns, for the share of lines it reaches."""

_WORDS = [
    "<message ", "<presence ", "<iq ", "</message>", "</presence>", "</iq>", "/>", "<query ",
    "<![CDATA[", "]]>", "<!--", "<?", "&amp;", "&#10;", "xmlns='", "xmlns:x='", " to='", " from='",
    " type='", "type='set'", "type='get'", "type='result'", "type='error'", "type='groupchat'",
    "type='unavailable'", "type='probe'", " id='own-1'", " id='own-2'", " id='own-3'", " id='j1'",
    "<item jid='", "subscription='remove'", "<annotate ", "<forwarded xmlns='urn:xmpp:forward:0'>",
    "<client-join ", "<client-leave ", "<join ", "<leave ", "<subscribe node='", "<error ",
    "\x01\x7f", "\x01\x20",
    "<wait seconds='31'/>", "<cut/>", "<store state='fails'/>", "<store state='sleeps'/>",
    "<store/>", "anna@example.org", "anna@example.org/phone", "coven@mix.example", "mix.example",
    "9#coven@mix.example/r", "mixpam.example.org", "example.org", "mixpam:{", "}:channels",
    "<address type='to' jid='", "<addresses xmlns='http://jabber.org/protocol/address'>",
    "mixpam.example.org/own-1", "}:journal", "}:shown", "mixpam:capabilities",
    '{"v":1,', '"channel":"', '"kind":"join"',
    '"step":"ask"', '"step":"roster"', '"member":true', '"participant_id":"', '"features":[',
]  # fmt: skip


def main() -> None:
    """Run the command line: TARGET fuzz|replay|fresh|repeat …."""
    target, mode, where, *flags = sys.argv[1:]
    if mode == "fuzz":
        _fuzz(target, Path(where), flags)
    elif mode == "replay":
        _replay(target, Path(where))
    elif mode == "fresh":
        _fresh(target, Path(where), float(flags[0]))
    else:
        _load(target).check(Path(where).read_bytes())
        print("nothing found")


def _load(target: str) -> ModuleType:
    return importlib.import_module(f"fuzz.{target}")


def _fuzz(target: str, corpus: Path, flags: list[str]) -> None:
    import atheris  # noqa: PLC0415 - only here: replaying does not need it

    with atheris.instrument_imports(include=["component", "schemas"]):
        module = _load(target)
    for number, seed in enumerate(module.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    _write_words(corpus.with_name("words"))
    check = memory.watched(in_time(module.check), corpus.with_name("memory"))
    atheris.Setup([sys.argv[0], *flags, str(corpus)], check)
    atheris.Fuzz()


def in_time(check: memory.Check, seconds: float = HANG) -> memory.Check:
    """Return `check`, which fails when it computes for too long.

    CPU time counts: a busy machine is no hang, nor is a process that was stopped for a while.
    """

    def too_long(*_: object) -> None:
        message = f"no end after {seconds} s of the processor"
        raise AssertionError(message)

    signal.signal(signal.SIGVTALRM, too_long)

    def check_in_time(data: bytes) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        try:
            check(data)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    return check_in_time


def _write_words(path: Path) -> None:
    """Write the fuzzer's dictionary."""
    namespaces = [
        name
        for value in vars(schemas.namespaces).values()
        for name in (value if isinstance(value, tuple) else (value,))
        if isinstance(name, str) and ":" in name and "\n" not in name
    ]
    words = sorted({*_WORDS, *namespaces})
    quoted = ['"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"' for word in words]
    path.write_text("\n".join(quoted) + "\n", encoding="ascii")


def _replay(target: str, corpus: Path) -> None:
    import coverage  # noqa: PLC0415 - before any module that it is to measure

    watch = coverage.Coverage(include=_CODE[target], data_file=None)
    watch.start()
    module = _load(target)
    inputs = [path.read_bytes() for path in sorted(corpus.iterdir())]
    blocks = []
    for _ in range(REPLAYS):
        for data in inputs:
            module.check(data)
        gc.collect()
        blocks.append(sys.getallocatedblocks())
    watch.stop()
    with Path("/dev/null").open("w", encoding="ascii") as nowhere:
        share = watch.report(file=nowhere)
    facts = {"inputs": len(inputs), "blocks_before": blocks[1], "blocks_after": blocks[-1]}
    print(json.dumps({**facts, "lines": f"{share:.0f} %"}))


def _fresh(target: str, corpus: Path, seconds: float) -> None:
    check = in_time(_load(target).check)
    findings = corpus.with_name("findings")

    def check_and_keep(data: bytes) -> None:
        try:
            check(data)
        except BaseException:
            name = hashlib.sha256(data).hexdigest()[:16]
            (findings / f"fresh-{name}").write_bytes(data)
            raise

    kept = [path.read_bytes() for path in sorted(corpus.iterdir())]
    print(json.dumps(memory.fresh(check_and_keep, kept, seconds)))


if __name__ == "__main__":
    main()
