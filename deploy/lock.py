#!/usr/bin/env python3
"""Pin every library, with hashes, from what `setup.cfg` allows.

Run `python deploy/lock.py` to take the newest versions and read what changed; needs uv. One
list serves all ways to install: `requirements.txt` runs the component, on a server, in
the image and in the demo; `deploy/demo.d/requirements.txt` adds the demo's client,
`tests/requirements.txt` the rest of the tests. `pip install --no-deps` takes them as they
are. Files are named for CPython 3.11 to 3.15 on Linux with glibc, x86_64 and aarch64, and
the source where a version of Python has no wheel.
"""

import configparser
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OLDEST = "3.11"
USABLE = re.compile(
    r"-(cp31[1-5]-cp31[1-5]|cp3\d+-abi3|py3-none|py2\.py3-none)-"
    r"(any|(manylinux\S*_(x86_64|aarch64)))\.whl$"
)
# aioxmpp's metadata asks for an lxml with known holes that does not build from Python 3.13
# on, and for an old multidict; it works with these, which all tests show.
OVERRIDES = ("lxml>=6", "multidict>=7")
HEAD = "# Made by deploy/lock.py from setup.cfg. Run it again to take newer versions.\n"


def wanted(section: str, option: str) -> list[str]:
    """Return the requirements of an option of `setup.cfg`."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    lines = [line.strip() for line in parser[section][option].splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def resolve(requirements: list[str], *, universal: bool = True) -> dict[str, str]:
    """Have uv choose versions; return the line of each package, with marker and hashes."""
    overrides = ROOT / "deploy/overrides.tmp"
    overrides.write_text("\n".join(OVERRIDES), encoding="utf-8")
    where = ["--universal"] if universal else ["--python-platform", "linux"]
    try:
        found = subprocess.run(  # noqa: S603 - no word of it is from outside
            ["uv", "pip", "compile", "--quiet", "--no-config", "--python-version", OLDEST,  # noqa: S607
             *where, "--overrides", str(overrides), "--format", "pylock.toml", "-"],
            input="\n".join(requirements), capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    finally:
        overrides.unlink()
    packages: list[dict[str, Any]] = tomllib.loads(found)["packages"]
    return {each["name"]: pin(each) for each in packages if not _elsewhere(each)}


def _elsewhere(package: dict[str, Any]) -> bool:
    """Tell whether a package is for another platform only."""
    marker = package.get("marker", "")
    return any(f"== '{name}'" in marker for name in ("win32", "darwin", "PyPy", "Windows"))


def pin(package: dict[str, Any]) -> str:
    """Write one package as pip's requirements file has it. Raises KeyError without a file."""
    wheels = [
        wheel
        for wheel in package.get("wheels", [])
        if USABLE.search(wheel["url"]) and "musllinux" not in wheel["url"]
    ]
    pure = any(wheel["url"].endswith("-none-any.whl") for wheel in wheels)
    files = wheels if pure or "sdist" not in package else [*wheels, package["sdist"]]
    hashes = sorted({file["hashes"]["sha256"] for file in files})
    marker = f" ; {package['marker']}" if "marker" in package else ""
    first = f"{package['name']}=={package['version']}{marker}"
    return " \\\n    ".join([first, *(f"--hash=sha256:{each}" for each in hashes)]) + "\n"


def versions(text: str) -> dict[str, str]:
    """Return the versions that a requirements file pins."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE))


def write(path: Path, lines: dict[str, str]) -> None:
    """Write a file, and print what is different from before."""
    before = versions(path.read_text(encoding="utf-8")) if path.exists() else {}
    text = HEAD + "".join(lines[name] for name in sorted(lines))
    path.write_text(text, encoding="utf-8")
    after = versions(text)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            print(f"{path.relative_to(ROOT)}: {name} "  # noqa: T201 - the command's output
                  f"{before.get(name, '(new)')} -> {after.get(name, '(gone)')}")  # fmt: skip


def main() -> None:
    """Write all four files."""
    component = wanted("options", "install_requires")
    test = wanted("options.extras_require", "test")
    client = [line for line in test if line.startswith("slixmpp")]
    everything = resolve([*component, *test])
    run = resolve(component)
    demo = resolve([*component, *client])
    # One resolution decides, so that the lists fit together.
    write(ROOT / "requirements.txt", {name: everything[name] for name in run})
    write(
        ROOT / "deploy/demo.d/requirements.txt",
        {name: everything[name] for name in demo.keys() - run.keys()},
    )
    write(
        ROOT / "tests/requirements.txt",
        {name: everything[name] for name in everything.keys() - demo.keys()},
    )
    build = resolve(["setuptools", "wheel"], universal=False)
    write(ROOT / "deploy/image/build.txt", build)


if __name__ == "__main__":
    main()
