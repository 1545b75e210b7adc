"""No way of reading shows another tenant's rows, to the application or to a reader, in any table of the catalog."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import Connection, errors

from tests.isolation.attacks import (  # noqa: F401 - fixtures
    MINE,
    THEIRS,
    Scene,
    app_fixture,
    attacker_fixture,
    run,
    scene_fixture,
    undone,
    untouched_fixture,
)

# Each shows the tenants that it finds in the table `{t}`.
OPEN = {
    "plainly": "select tenant_id from {t}",
    "by the table command": "select x.tenant_id from (table {t}) x",
    "by only": "select tenant_id from only {t}",
    "whatever the condition": "select tenant_id from {t} where tenant_id = tenant_id or true or tenant_id is null",
    "in a star": "select (x).* from (select x.tenant_id from {t} x) x",
    "in whole rows": "select (x).tenant_id from (select x from {t} x) y",
    "as JSON": "select row_to_json(x) ->> 'tenant_id' from {t} x",
    "aggregated as JSON": "select j ->> 'tenant_id'"
    " from (select jsonb_agg(x) a from {t} x) y, jsonb_array_elements(a) j",
    "as an array": "select unnest(array(select tenant_id from {t}))",
    "as a text": "select distinct substring(x::text from 'tenant-[a-z]+') from {t} x",
    "joined with itself": "select b.tenant_id from {t} a cross join {t} b",
    "in an outer join": "select coalesce(b.tenant_id, a.tenant_id)"
    " from {t} a left join {t} b on a.tenant_id <> b.tenant_id",
    "in a lateral join": "select b.tenant_id"
    " from {t} a, lateral (select tenant_id from {t} where (id = a.id) is not null offset 0) b",
    "in a subquery": "select (select max(b.tenant_id) from {t} b where b.tenant_id >= a.tenant_id) from {t} a",
    "in a CTE": "with x as materialized (select * from {t}) select tenant_id from x",
    "recursively": "with recursive x as (select tenant_id, 1 n from {t}"
    " union select t.tenant_id, n + 1 from {t} t, x where n < 3) select tenant_id from x",
    "in a union": "select tenant_id from {t} union all select tenant_id from {t} where tenant_id <> '" + MINE + "'",
    "by groups": "select tenant_id from {t} group by grouping sets ((tenant_id), (id, tenant_id))",
    "in an aggregate": "select unnest(array[min(tenant_id), max(tenant_id)]) from {t}",
    "in windows": "select first_value(tenant_id) over (order by tenant_id desc) from {t}",
    "by sampling": "select tenant_id from {t} tablesample bernoulli (100)",
    "by sampling pages": "select tenant_id from {t} tablesample system (100)",
    "by system columns": "select tenant_id from {t}"
    " where ctid >= '(0,0)' and xmin <> '0' and tableoid = '{t}'::regclass",
    "in an order": "select tenant_id from {t} order by tenant_id desc, id desc limit 1000",
    "in an order of theirs": "select tenant_id from {t} order by tenant_id <> '"
    + THEIRS
    + "', id desc fetch first 3 rows with ties",
}

# Each finds something of the tenant that it names, if that tenant's rows are there to be found.
NAMED = {
    "equal": "select from {t} where tenant_id = %(tenant)s",
    "not distinct": "select from {t} where tenant_id is not distinct from %(tenant)s",
    "like": "select from {t} where tenant_id like %(tenant)s || '%%'",
    "matching": "select from {t} where tenant_id ~* %(tenant)s",
    "in a list": "select from {t} where tenant_id = any(array['x', %(tenant)s])",
    "in a subquery": "select from {t} where tenant_id in (select %(tenant)s)",
    "a row": "select from {t} where (tenant_id, 0) = (%(tenant)s, 0)",
    "a range": "select from {t} where tenant_id >= %(tenant)s and tenant_id <= %(tenant)s || 'z'",
    "a case": "select from {t} where case tenant_id when %(tenant)s then true else false end",
    "whole row": "select from {t} x where strpos(x::text, %(tenant)s) > 0",
    "existing": "select where exists (select from {t} where tenant_id = %(tenant)s)",
    "counted": "select from (select count(*) filter (where tenant_id = %(tenant)s) n from {t}) x where n > 0",
    "grouped": "select from {t} group by tenant_id having tenant_id = %(tenant)s",
    "in a window": "select from (select tenant_id, count(*) over (partition by tenant_id) from {t}) x"
    " where tenant_id = %(tenant)s",
    "intersecting": "select tenant_id from {t} intersect select %(tenant)s",
    "joined": "select from (values (%(tenant)s)) v (x) join {t} on tenant_id = v.x",
    "lateral": "select from (values (%(tenant)s)) v (x), lateral (select from {t} where tenant_id = v.x limit 1) y",
    "by id": "select from {t} where id = any(%(ids)s)",
    "by place": "select from {t} where ctid = any(%(places)s::tid[])",
    "by place, joined": "select from unnest(%(places)s::tid[]) p (place) join {t} on ctid = p.place",
}


@pytest.mark.parametrize("way", OPEN)
def test_whatever_way_a_table_is_read_it_has_one_tenant(scene: Scene, attacker: Connection[Any], way: str) -> None:
    for table in scene.tables:
        seen = {tenant for (tenant,) in run(attacker, OPEN[way].format(t=table))}

        assert seen == {MINE}, table


@pytest.mark.parametrize("way", NAMED)
def test_whoever_names_another_tenants_rows_finds_none(scene: Scene, attacker: Connection[Any], way: str) -> None:
    for table in scene.tables:
        found = {}
        for tenant in (MINE, THEIRS):
            places = [place for (place,) in scene.ask(f"select ctid::text from {table} where tenant_id = %s", tenant)]
            named = {"tenant": tenant, "ids": scene.ids(table, tenant), "places": places}
            found[tenant] = bool(run(attacker, NAMED[way].format(t=table), **named).fetchall())

        assert found == {MINE: True, THEIRS: False}, table


def test_every_relation_with_a_tenant_shows_no_other(scene: Scene, attacker: Connection[Any]) -> None:
    relations = scene.ask(
        "select c.oid::regclass::text, has_any_column_privilege(%s, c.oid, 'select')"
        " from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'"
        " where c.relkind in ('r', 'p', 'v', 'm', 'f') order by 1",
        attacker.info.user,
    )
    readable = [name for name, is_readable in relations if is_readable]

    assert set(readable) >= set(scene.tables)
    for name in readable:
        assert {tenant for (tenant,) in run(attacker, f"select tenant_id from {name}")} <= {MINE}, name


@pytest.mark.parametrize(
    "statement",
    [
        # XML has no infinity, so not all columns of all tables.
        "select query_to_xml('select tenant_id, id from {t}', true, false, '')::text",
        "select table_to_xml('thea.notes', true, true, '')::text",
        "select cursor_to_xml('opened', 1000, true, false, '')::text",
    ],
)
def test_what_runs_sql_given_as_text_is_bound_too(scene: Scene, attacker: Connection[Any], statement: str) -> None:
    for table in scene.tables:
        with undone(attacker):
            run(attacker, f"declare opened cursor for select tenant_id, id from {table}")
            try:
                dumped = run(attacker, statement.format(t=table)).fetchall()[0][0]
            except errors.FeatureNotSupported as error:
                pytest.skip(f"this server has no XML: {error.diag.message_primary}")

        assert MINE in dumped
        assert THEIRS not in dumped


def test_the_words_of_a_search_index_are_ones_own(scene: Scene, attacker: Connection[Any]) -> None:
    words = run(attacker, "select word from ts_stat('select search_vector from thea.notes')").fetchall()
    users = scene.mine.ids["users"]
    scopes = scene.ask("select thea.note_scope(%s, u) from unnest(%s::bigint[]) u", MINE, list(users))

    assert {word[:22] for (word,) in words} == {scope for (scope,) in scopes}


def test_copying_out_copies_ones_own(scene: Scene, attacker: Connection[Any]) -> None:
    for table in scene.tables:
        for source in (table, f"{table} (tenant_id)", f"(select * from {table})", f"(table {table})"):
            with attacker.cursor().copy(f"copy {source} to stdout".encode()) as copy:
                copied = b"".join(bytes(part) for part in copy).decode()

            assert copied.count(MINE) >= scene.counts[table], source
            assert THEIRS not in copied, source


@pytest.mark.parametrize("strength", ["update", "no key update", "share", "key share"])
def test_a_foreign_row_can_be_neither_locked_nor_waited_for(scene: Scene, app: Connection[Any], strength: str) -> None:
    run(app, "set lock_timeout = '5s'")
    with scene.connected("app", THEIRS) as owner:
        for table in scene.written:
            run(owner, f"select from {table} for update")
            statement = f"select from {table} where id = any(%s) for {strength} nowait"

            assert run(app, statement, scene.ids(table, THEIRS)).fetchall() == []
            assert len(run(app, statement, scene.ids(table, MINE)).fetchall()) == scene.counts[table]
            assert run(app, f"update {table} set deleted_at = null where tenant_id = %s", THEIRS).rowcount == 0
