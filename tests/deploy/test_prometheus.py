"""The alerts, as Prometheus' own tool reads and tries them."""

import re
import shutil
import subprocess

import pytest
from harness.machines import REPOSITORY

FOLDER = REPOSITORY / "deploy/prometheus"
ALERTS = re.findall(r"- alert: (\w+)", (FOLDER / "alerts.yml").read_text(encoding="utf-8"))

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus"
)


def promtool(*argv: str) -> str:
    said = subprocess.run(["promtool", *argv], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


@needs_promtool
def test_the_rules_are_sound() -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", str(FOLDER / "alerts.yml"))


@needs_promtool
def test_each_alert_fires_when_it_should_and_only_then() -> None:
    promtool("test", "rules", str(FOLDER / "alerts_test.yml"))


def test_each_alert_is_tried() -> None:
    assert len(ALERTS) > 5
    text = (FOLDER / "alerts_test.yml").read_text(encoding="utf-8")
    well, _, broken = text.partition("\n  - name: the process is gone\n")
    assert re.findall(r"alertname: (\w+), exp_alerts: \[\]", well) == ALERTS
    for alert in ALERTS:
        assert f"alertname: {alert}, exp_alerts: []" in broken
        assert f"alertname: {alert}\n        exp_alerts:\n          - exp_labels" in broken
