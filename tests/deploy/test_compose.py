"""The compose file: what each profile starts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.support.commands import Run

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


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("profile", "services", "ports", "roles"),
    [
        ("db", ["postgres"], [5432], ["primary"]),
        # PgBouncer's image is built from Debian's, and is what tests/database/test_pooler.py tries without one.
        ("cluster", ["primary", "replica"], [5433, 5434], ["primary", "standby"]),
    ],
)
def test_a_profile_can_be_started_migrated_and_asked(
    run: Run, profile: str, services: list[str], ports: list[int], roles: list[str]
) -> None:
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no container engine answers: start one, or name it in DOCKER_HOST")
    command = [*compose(), "--project-name", f"thea-{profile}", "--file", str(FILE), "--profile", profile]
    names = dict(zip(["DATABASE_URL", "DATABASE_REPLICA_URL"], ports, strict=False))
    settings = {name: f"postgresql://thea_service:change-me-too@localhost:{port}/thea" for name, port in names.items()}
    settings["DATABASE_MIGRATOR_URL"] = f"postgresql://thea_migrator:change-me@localhost:{ports[0]}/thea"
    try:
        subprocess.run([*command, "up", "--detach", *services], check=True)
        for each in services:
            found = [*command, "ps", "--quiet", each]
            container = subprocess.run(found, check=True, capture_output=True, text=True).stdout.strip()
            until_healthy(container)
        migrated = run("migrate", **settings)
        status = run("status", "--json", **settings)
    finally:
        subprocess.run([*command, "down", "--volumes"], check=True)

    assert migrated.exit_code == 0, migrated.output
    assert [(each["role"], each["state"]) for each in json.loads(status.stdout)["servers"]] == [
        (role, "up") for role in roles
    ]


def until_healthy(container: str) -> None:
    command = ["docker", "inspect", "--format", "{{.State.Health.Status}}", container]
    for _ in range(120):
        if subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "healthy":
            return
        time.sleep(0.5)
    log = subprocess.run(["docker", "logs", container], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    pytest.fail(log.stdout.decode(errors="replace"))


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
