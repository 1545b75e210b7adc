"""`thea-store encryption`: a tenant's texts as nobody reads them who has the database alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from thea_store.cli.archives import MOVERS, Tenant, print_counts, run
from thea_store.cli.conventions import AsJson, say
from thea_store.errors import InvalidArgumentError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from thea_store.encryption import KeyProvider
    from thea_store.postgres.url import DatabaseUrl
    from thea_store.settings import Settings
    from thea_store.tenancy.archive import Progress
    from thea_store.tenancy.encryption import Encrypted
    from thea_store.tenancy.encryption_status import TenantEncryption

__all__ = ["encryption", "forget_key", "key_provider"]

encryption = typer.Typer(help="Encrypt what a tenant's people say.", no_args_is_help=True)


@encryption.command("begin")
def begin(tenant: Tenant, *, as_json: AsJson = False) -> None:
    """Give a tenant a key and seal its texts with it, with a login in thea_mover. Run again, it goes on."""
    _encrypt(tenant, rotate=False, as_json=as_json)


@encryption.command("rotate")
def rotate(tenant: Tenant, *, as_json: AsJson = False) -> None:
    """Give an encrypted tenant a new key and seal its texts with that one, with a login in thea_mover."""
    _encrypt(tenant, rotate=True, as_json=as_json)


@encryption.command("end")
def end(tenant: Tenant, *, as_json: AsJson = False) -> None:
    """Have a tenant's texts plain again, with a login in thea_mover. Run again, it goes on.

    It takes a minute at least, in which services learn of it. The keys stay.
    """
    from thea_store.tenancy.encryption import end_encryption  # noqa: PLC0415

    def work(settings: Settings, tell: Progress) -> Encrypted:
        return end_encryption(settings.address(), key_provider(settings.encryption_keys), tenant, on_progress=tell)

    _change(tenant, work, "opened", lambda _: "its texts are plain, and its notes can be searched", as_json=as_json)


@encryption.command("status")
def status(
    tenant: Annotated[str | None, typer.Argument(metavar="[TENANT]", help="One tenant, with its rows.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the tenants that have keys, or count the rows of one that are sealed, and say what is to be done next.

    The login is one in thea_mover; for the list, one in thea_auditor as well.
    """
    from thea_store.cli.output import print_json  # noqa: PLC0415
    from thea_store.tenancy.encryption_status import encrypted_tenants, encryption_of  # noqa: PLC0415

    def work(settings: Settings, _tell: Progress) -> list[TenantEncryption]:
        if tenant is None:
            return encrypted_tenants(settings.address())
        provider = key_provider(settings.encryption_keys) if settings.encryption_keys else None
        return [encryption_of(settings.address(), tenant, provider)]

    found = run(work, MOVERS)
    if as_json:
        print_json({"tenants": [each.as_json() for each in found]} if tenant is None else found[0].as_json())
    elif tenant is None:
        for each in found:
            key = each.keys[-1]
            typer.echo(f"{each.tenant}\t{each.state}\tversion {key.version} since {key.since:%Y-%m-%d}")
        if not found:
            say("no tenant is encrypted")
    else:
        _tell(found[0])


@encryption.command("forget")
def forget(
    tenant: Tenant,
    *,
    for_good: Annotated[
        bool, typer.Option("--for-good", help="Nobody can read the tenant's texts afterwards, in no backup either.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no database, and write no entry: for one that is gone.")
    ] = False,
) -> None:
    """Destroy the key that wraps a tenant's keys, with a login in thea_mover for the entry in the activity log."""
    from thea_store.queries.arguments import check_tenant  # noqa: PLC0415
    from thea_store.settings import key_provider_setting  # noqa: PLC0415

    check_tenant(tenant)
    if not for_good:
        raise InvalidArgumentError(
            "--for-good", "is not given: without the key nobody can ever read this tenant's texts, in no backup either"
        )
    if offline:
        asyncio.run(key_provider(key_provider_setting()).forget(tenant))
    else:
        run(lambda s, _tell: forget_key(s.address(), key_provider(s.encryption_keys), tenant), MOVERS)
    typer.echo(f"the key of {tenant} is forgotten; running services forget it within a minute")


def forget_key(address: DatabaseUrl, provider: KeyProvider, tenant: str) -> None:
    """Destroy the provider's key of a tenant, and write into the activity log that it is done."""
    from thea_store.tenancy.encryption import note_forgotten_key  # noqa: PLC0415

    # First the entry: no key goes without one.
    note_forgotten_key(address, tenant)
    asyncio.run(provider.forget(tenant))


def _encrypt(tenant: str, *, rotate: bool, as_json: bool) -> None:
    from thea_store.tenancy.encryption import encrypt_tenant  # noqa: PLC0415

    def work(settings: Settings, tell: Progress) -> Encrypted:
        provider = key_provider(settings.encryption_keys)
        return encrypt_tenant(settings.address(), provider, tenant, rotate=rotate, on_progress=tell)

    _change(tenant, work, "sealed", lambda v: f"its texts are sealed by version {v} of its key", as_json=as_json)


def _change(
    tenant: str,
    work: Callable[[Settings, Progress], Encrypted],
    done: str,
    sentence: Callable[[int], str],
    *,
    as_json: bool,
) -> None:
    from thea_store.cli.output import print_json  # noqa: PLC0415

    found = run(work, MOVERS)
    if as_json:
        print_json({"tenant": tenant, "version": found.version, "tables": found.tables})
    else:
        print_counts(found.tables, done)
        typer.echo(f"{tenant}: {sentence(found.version)}")


def _tell(found: TenantEncryption) -> None:
    typer.echo(f"{found.tenant}: {found.state}")
    for key in found.keys:
        opens = {None: "", True: ", which the provider opens", False: ", which the provider does not open"}[key.opens]
        typer.echo(f"version {key.version} since {key.since:%Y-%m-%d}{', retired' if key.is_retired else ''}{opens}")
    for name, rows in found.tables.items():
        typer.echo(
            f"{name:<30}{rows.sealed:>12,} sealed, {rows.of_an_older_key:,} of an older key, {rows.plain:,} plain"
        )
    for sentence in found.advice:
        say(sentence)


def key_provider(setting: str | None) -> KeyProvider:
    """What holds the keys; `SettingsError` where it is not said."""
    from thea_store.encryption import provider_of  # noqa: PLC0415

    if not setting:
        raise SettingsError(
            "DATABASE_ENCRYPTION_KEYS",
            "is not set: say what holds the keys, such as file:/directory; services need the same",
        )
    return provider_of(setting)
