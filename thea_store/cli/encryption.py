"""`thea-store encryption`: a tenant's texts as nobody reads them who has the database alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from thea_store.cli.archives import MOVERS, Tenant, print_counts, run
from thea_store.cli.conventions import AsJson
from thea_store.errors import InvalidArgumentError, SettingsError

if TYPE_CHECKING:
    from thea_store.encryption import KeyProvider
    from thea_store.settings import Settings
    from thea_store.tenancy.archive import Progress

__all__ = ["encryption"]

encryption = typer.Typer(help="Encrypt what a tenant's people say.", no_args_is_help=True)


@encryption.command("begin")
def begin(tenant: Tenant, *, as_json: AsJson = False) -> None:
    """Give a tenant a key and seal its texts with it, with a login in thea_mover. Run again, it goes on."""
    _encrypt(tenant, rotate=False, as_json=as_json)


@encryption.command("rotate")
def rotate(tenant: Tenant, *, as_json: AsJson = False) -> None:
    """Give an encrypted tenant a new key and seal its texts with that one, with a login in thea_mover."""
    _encrypt(tenant, rotate=True, as_json=as_json)


@encryption.command("forget")
def forget(
    tenant: Tenant,
    *,
    for_good: Annotated[
        bool, typer.Option("--for-good", help="Nobody can read the tenant's texts afterwards, in no backup either.")
    ] = False,
) -> None:
    """Destroy the key that wraps a tenant's keys. The database is not asked, and nothing in it changes."""
    from thea_store.queries.arguments import check_tenant  # noqa: PLC0415
    from thea_store.settings import key_provider_setting  # noqa: PLC0415

    check_tenant(tenant)
    if not for_good:
        raise InvalidArgumentError(
            "--for-good", "is not given: without the key nobody can ever read this tenant's texts, in no backup either"
        )
    asyncio.run(_provider(key_provider_setting()).forget(tenant))
    typer.echo(f"the key of {tenant} is forgotten; running services forget it within a minute")


def _encrypt(tenant: str, *, rotate: bool, as_json: bool) -> None:
    from thea_store.cli.output import print_json  # noqa: PLC0415
    from thea_store.tenancy.encryption import Encrypted, encrypt_tenant  # noqa: PLC0415

    def work(settings: Settings, tell: Progress) -> Encrypted:
        provider = _provider(settings.encryption_keys)
        return encrypt_tenant(settings.address(), provider, tenant, rotate=rotate, on_progress=tell)

    found = run(work, MOVERS)
    if as_json:
        print_json({"tenant": tenant, "version": found.version, "tables": found.tables})
    else:
        print_counts(found.tables, "sealed")
        typer.echo(f"{tenant}: its texts are sealed by version {found.version} of its key")


def _provider(setting: str | None) -> KeyProvider:
    from thea_store.encryption import provider_of  # noqa: PLC0415

    if not setting:
        raise SettingsError(
            "DATABASE_ENCRYPTION_KEYS",
            "is not set: say what holds the keys, such as file:/directory; services need the same",
        )
    return provider_of(setting)
