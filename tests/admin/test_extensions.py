"""The doctor knows the tables of extensions, and what one leaves behind that went without a word."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from thea_store import Settings
from thea_store.admin.doctor import examine
from thea_store.migrator import Lineage, migrate
from thea_store.testing import TestDatabase

SHOPS = """
create schema shops;

create table shops.orders (
  tenant_id text not null,
  id bigint generated always as identity,
  user_id bigint not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint orders_pkey primary key (tenant_id, id),
  constraint orders_user_id_fkey foreign key (tenant_id, user_id)
    references thea.users (tenant_id, id) on delete cascade
);

select thea.protect('shops.orders');
"""


@pytest.fixture
def with_shops(lone: TestDatabase, tmp_path: Path) -> TestDatabase:
    tmp_path.joinpath("shops.0001.orders.sql").write_text(SHOPS)
    migrate(lone.migrator_url, lineages=[Lineage("shops", tmp_path)])
    return lone


def _settings(database: TestDatabase) -> Settings:
    return Settings(url=database.app_url, migrator_url=database.migrator_url)


def test_a_protected_table_of_an_extension_is_nothing_to_mend(with_shops: TestDatabase) -> None:
    findings = examine(_settings(with_shops))
    [migrations] = [finding for finding in findings if finding.check == "migrations"]

    assert [finding for finding in findings if finding.state != "ok"] == []
    assert "of no extension that is installed here: shops.0001.orders" in migrations.found


def test_a_sequence_behind_the_ids_of_a_table_of_an_extension_is_found(with_shops: TestDatabase) -> None:
    with psycopg.connect(with_shops.superuser_url, autocommit=True) as connection:
        connection.execute("insert into thea.users (tenant_id, telegram_id) values ('acme', 1)")
        connection.execute(
            "insert into shops.orders (tenant_id, id, user_id) overriding system value"
            " select 'acme', 41, id from thea.users"
        )
    [finding] = [finding for finding in examine(_settings(with_shops)) if finding.state != "ok"]

    assert finding.check == "sequences"
    assert finding.fix == "`alter table shops.orders alter column id restart with 42`"


def test_what_a_dropped_table_leaves_on_its_parent_is_named_with_its_removal(with_shops: TestDatabase) -> None:
    with psycopg.connect(with_shops.superuser_url, autocommit=True) as connection:
        connection.execute("drop table shops.orders")
    [finding] = [finding for finding in examine(_settings(with_shops)) if finding.state != "ok"]

    assert "hide_shops_orders_user_id" in finding.found
    assert finding.fix == "`drop trigger if exists hide_shops_orders_user_id on thea.users`"
