"""The demo shows what it says, notices when it does not, and leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness.machines import REPOSITORY


def start(root: Path, temporary: Path, *options: str) -> subprocess.Popen[str]:
    """Start the tour of the tree at `root`, as deploy/demo does when all is installed."""
    temporary.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "tour", *options],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{root / 'deploy/demo.d'}:{root / 'tests'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(temporary),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("software", ["ejabberd", "prosody"])
def test_everything_the_demo_claims_is_observed(software: str, tmp_path: Path) -> None:
    demo = start(REPOSITORY, tmp_path / "tmp", "--once", "--server", software)
    output, _ = demo.communicate(timeout=170)
    assert demo.returncode == 0, output
    assert "All of this was observed" in output
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_claim_that_does_not_hold_is_not_made(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    for part in ("component", "schemas", "deploy", "tests/harness"):
        shutil.copytree(REPOSITORY / part, root / part)
    example = root / "deploy/ejabberd/ejabberd.yml"
    text = example.read_text(encoding="utf-8")
    assert "default: always" in text
    example.write_text(text.replace("default: always", "default: never"), encoding="utf-8")
    demo = start(root, tmp_path / "tmp", "--once")
    output, _ = demo.communicate(timeout=170)
    assert demo.returncode == 1, output
    assert "not observed: the laptop finds the message in alice's archive" in output
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("said", ["", "alice joins", "bob joins"])
def test_an_interrupted_demo_leaves_nothing(said: str, tmp_path: Path) -> None:
    demo = start(REPOSITORY, tmp_path / "tmp")
    time.sleep(0.5)
    assert demo.stdout is not None
    # As far as that, however fast the machine is.
    assert not said or any(said in line for line in demo.stdout)
    demo.send_signal(signal.SIGINT)
    output, _ = demo.communicate(timeout=30)
    assert "Traceback" not in output
    assert demo.returncode == 128 + signal.SIGINT, output
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("options", [["--server", "emacs"], ["--server"], ["--nonsense"]])
def test_a_mistake_is_answered_with_the_remedy(options: list[str], tmp_path: Path) -> None:
    answer = subprocess.run(
        [REPOSITORY / "deploy/demo", *options],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1
    assert len(answer.stderr.strip().splitlines()) == 2
    assert list(tmp_path.iterdir()) == []
