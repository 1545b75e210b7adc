"""The compose file: what each profile starts."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
PROFILES = {
    "db": {"postgres"},
    "cluster": {"primary", "replica", "pgbouncer"},
    "observability": {"prometheus", "grafana"},
}


def compose() -> list[str]:
    """The command, as a plugin of docker or on its own; without either, the test is skipped."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0])
            and not subprocess.run([*command, "version"], capture_output=True, check=False).returncode
        ):
            return command
    pytest.skip("neither `docker compose` nor docker-compose is installed")


def test_a_profile_starts_its_services_and_no_other() -> None:
    services = yaml.safe_load(FILE.read_text())["services"]
    found = {
        profile: {name for name, each in services.items() if each["profiles"] == [profile]} for profile in PROFILES
    }

    assert found == PROFILES
    assert set().union(*PROFILES.values()) == set(services)


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_compose_reads_a_profile(profile: str) -> None:
    command = [*compose(), "--file", str(FILE), "--profile", profile, "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert PROFILES[profile] <= set(yaml.safe_load(done.stdout)["services"])


def test_what_is_mounted_is_there_and_no_port_is_open_to_others() -> None:
    text = FILE.read_text()
    mounts = re.findall(r"^ +- \./([^:]+):", text, re.MULTILINE)
    ports = re.findall(r'^ +- "(.*:\d+)"$', text, re.MULTILINE)

    assert mounts
    assert [path for path in mounts if not (ROOT / path).exists()] == []
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_every_script_of_the_containers_is_read_by_the_shell() -> None:
    scripts = sorted((ROOT / "docker").glob("*.sh"))

    assert len(scripts) == 4
    for script in scripts:
        assert subprocess.run(["sh", "-n", str(script)], capture_output=True, check=False).returncode == 0, script
