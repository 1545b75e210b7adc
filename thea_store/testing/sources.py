"""Where the tests' server comes from."""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from importlib import import_module
from typing import TYPE_CHECKING

from thea_store.errors import EmbeddedServerError, SettingsError, StoreError
from thea_store.extensions import Extension, discover
from thea_store.settings import extensions_setting
from thea_store.testing.server import TestServer

if TYPE_CHECKING:
    from thea_store.embedded import EmbeddedPostgres

__all__ = ["start_server"]

_VARIABLE = "THEA_TEST_DATABASE_URL"
# For a container that is thrown away: no test survives a power cut.
_RISKS = ("fsync", "synchronous_commit", "full_page_writes")


def start_server(resources: ExitStack, extensions: Sequence[Extension] = (), kind: str | None = None) -> TestServer:
    """The server that the environment names, or the first that can be had; ended with `resources`.

    `kind` is what THEA_TEST_SERVER says where it is not given. Its databases have the tables of `extensions`, and of
    those that are found without being named. `StoreError` when there is no server, or it cannot be used.
    """
    lineages = [extension.lineage for extension in discover(extensions, extensions_setting())]
    if kind is None and (url := os.environ.get(_VARIABLE)):
        try:
            return TestServer(url, lasting=True, lineages=lineages)
        except ValueError as error:
            raise SettingsError(_VARIABLE, str(error)) from None
    match os.environ.get("THEA_TEST_SERVER", "") if kind is None else kind:
        case "":
            return TestServer(_container(resources, required=False) or _embedded(resources, None), lineages=lineages)
        case "embedded":
            return TestServer(_embedded(resources, None), lineages=lineages)
        case "docker":
            return TestServer(_container(resources, required=True) or "", lineages=lineages)
        case bin_dir:
            return TestServer(_embedded(resources, bin_dir), lineages=lineages)


def _embedded(resources: ExitStack, bin_dir: str | None) -> str:
    from thea_store.embedded import EmbeddedPostgres  # noqa: PLC0415

    # A loop and a thread of its own: the plugins that run coroutines replace and close the loops of the main thread.
    thread = resources.enter_context(ThreadPoolExecutor(1, "thea_store test server"))
    runner = asyncio.Runner()
    resources.callback(lambda: thread.submit(runner.close).result())
    server = EmbeddedPostgres(bin_dir=bin_dir)
    try:
        thread.submit(lambda: runner.run(_started(server))).result()
    except EmbeddedServerError as error:
        raise StoreError(f"no PostgreSQL for the tests: {error}; or give a superuser's URL as {_VARIABLE}") from error
    resources.callback(lambda: thread.submit(lambda: runner.run(server.stop())).result())
    return server.superuser_url


async def _started(server: EmbeddedPostgres) -> None:
    """Start the server, and meanwhile import what its tests need, which takes about as long as `initdb`."""
    starting = asyncio.create_task(server.start())
    await asyncio.sleep(0.05)  # for the launch, which needs the interpreter too
    import_module("thea_store.store")
    await starting


def _container(resources: ExitStack, *, required: bool) -> str | None:
    if not required and not _may_have_docker():
        return None
    try:
        from docker.errors import DockerException  # noqa: PLC0415
        from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415
    except ImportError:
        if required:
            raise StoreError("THEA_TEST_SERVER=docker needs testcontainers: pip install testcontainers") from None
        return None
    image = os.environ.get("THEA_TEST_POSTGRES_IMAGE") or "postgres:18"
    container = None
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        with suppress(DockerException):
            container = PostgresContainer(image, driver=None, docker_client_kw={"timeout": 60})
        # Docker's client leaves its sockets open when nobody answers, which would fail a test by its warning.
        gc.collect()
    if container is None:
        if required:
            raise StoreError("THEA_TEST_SERVER=docker, but no Docker engine answers: start it")
        return None
    container.with_command(["postgres", *(part for name in _RISKS for part in ("-c", f"{name}=off"))])
    try:
        resources.enter_context(container)
    except DockerException as error:
        raise StoreError(
            f"the Docker engine does not start {image} ({error}): pull it, name another one as "
            "THEA_TEST_POSTGRES_IMAGE, or set THEA_TEST_SERVER=embedded"
        ) from error
    url: str = container.get_connection_url()
    return url


def _may_have_docker() -> bool:
    """Whether anything points to an engine; the answer saves the third of a second that its client takes to import."""
    places = ("/var/run/docker.sock", "~/.docker/config.json", "~/.testcontainers.properties")
    return "DOCKER_HOST" in os.environ or any(os.path.exists(os.path.expanduser(place)) for place in places)  # noqa: PTH110, PTH111 - unlike Path's, they fail nowhere
