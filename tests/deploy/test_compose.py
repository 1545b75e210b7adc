"""The compose file: what each profile starts."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server

from tests.deploy.images import built, provide
from tests.observability.test_dashboards import ALERTS
from tests.observability.timeline import Prometheus
from tests.support.commands import Run
from thea_store import Settings, Store, StoreUnavailableError
from thea_store.telemetry.prometheus import instrument

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


class Started(NamedTuple):
    """A profile whose services run."""

    command: list[str]
    services: dict[str, str]
    """Their containers."""


@contextmanager
def started(profile: str, *services: str) -> Iterator[Started]:
    """These services of the profile, which are removed at the end with all that they wrote."""
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no container engine answers: start one, or name it in DOCKER_HOST")
    project = f"thea-{profile}"
    command = [*compose(), "--project-name", project, "--file", str(FILE), "--profile", profile]
    for name in services:
        service = yaml.safe_load(FILE.read_text())["services"][name]
        if "image" in service:
            provide(service["image"])
        else:
            # The first releases of compose join a project and a service by another sign.
            sign = "-" if command[0] == "docker" else "_"
            place = ROOT / service["build"]["context"]
            built(f"{project}{sign}{name}", place / service["build"]["dockerfile"])
    try:
        subprocess.run([*command, "up", "--detach", "--no-deps", *services], check=True)
        yield Started(command, {name: container(command, name) for name in services})
    finally:
        subprocess.run([*command, "down", "--volumes"], check=True)


def container(command: list[str], service: str) -> str:
    done = subprocess.run([*command, "ps", "--quiet", service], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def add_replica(profile: Started) -> None:
    """Start it when the primary serves, which it copies."""
    subprocess.run([*profile.command, "up", "--detach", "--no-deps", "replica"], check=True)
    until_healthy(container(profile.command, "replica"))


def settings(primary: int, replica: int | None = None) -> dict[str, str]:
    """A service's, by the ports of its servers."""
    login = "postgresql://thea_service:change-me-too@localhost"
    given = {
        "DATABASE_URL": f"{login}:{primary}/thea",
        "DATABASE_MIGRATOR_URL": f"postgresql://thea_migrator:change-me@localhost:{primary}/thea",
    }
    return given if replica is None else {**given, "DATABASE_REPLICA_URL": f"{login}:{replica}/thea"}


def roles(run: Run, **given: str) -> list[tuple[str, str]]:
    """What `status` says of each server."""
    told = run("status", "--json", **given)
    return [(each["role"], each["state"]) for each in json.loads(told.stdout)["servers"]]


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_the_database_can_be_started_migrated_and_asked(run: Run) -> None:
    with started("db", "postgres") as profile:
        until_healthy(profile.services["postgres"])
        migrated = run("migrate", **settings(5432))

        assert migrated.exit_code == 0, migrated.output
        assert roles(run, **settings(5432)) == [("primary", "up")]


@pytest.mark.nightly
@pytest.mark.timeout(600)
async def test_the_cluster_has_a_replica_and_a_pooler_that_serve(run: Run) -> None:
    with started("cluster", "primary", "pgbouncer") as profile:
        until_healthy(profile.services["primary"])
        add_replica(profile)
        migrated = run("migrate", **settings(5433))
        assert migrated.exit_code == 0, migrated.output
        assert roles(run, **settings(5433, 5434)) == [("primary", "up"), ("standby", "up")]

        behind = settings(6432)["DATABASE_URL"]
        with pytest.raises(StoreUnavailableError, match="there is a pooler"):
            await Store.open(Settings(url=behind))
        given = Settings(url=behind, replica_url=settings(5433, 5434)["DATABASE_REPLICA_URL"])
        async with Store.open(given.model_copy(update={"tenant_scope": "transaction"})) as store:
            user = await store.users.create("acme", telegram_id=1)
            async with store.transaction("acme", read_only=True) as tx:
                assert await tx.users.get_by_id("acme", user.id) == user
            assert await store.users.count("other") == 0


@pytest.mark.nightly
@pytest.mark.timeout(600)
async def test_prometheus_reads_a_service_on_this_machine_and_knows_the_alerts() -> None:
    with started("observability", "prometheus"):
        registry, ours = CollectorRegistry(), Prometheus(9090)
        ours.until_ready()
        alerts = {rule["name"] for group in ours.ask("rules")["groups"] for rule in group["rules"]}
        async with Store.open("embedded:") as store:
            instrument(store, registry)
            await store.users.count("acme")
            server, thread = start_http_server(9464, "0.0.0.0", registry=registry)  # for a container too
            try:
                found = await until_scraped(ours)
            finally:
                server.shutdown()
                server.server_close()
                thread.join()

    assert alerts == set(re.findall(r"alert: (\w+)", ALERTS.read_text()))
    assert [series["metric"]["job"] for series in found] == ["notes"]


async def until_scraped(server: Prometheus) -> Any:
    """What Prometheus knows of the pool, once it has read it: it looks four times a minute."""
    for _ in range(200):
        if found := server.ask("query", query="db_client_connection_max")["result"]:
            return found
        await asyncio.sleep(0.2)
    pytest.fail(f"nothing was read: {server.ask('targets')}")


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
