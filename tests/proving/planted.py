"""An extension with faults of every kind that lets tenants see each other, planted on purpose."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from thea_store import Extension, Id, Limit, LongText
from thea_store.cli.new import new_aggregate, new_extension, new_migration

NAME = "leaky"

_TABLE = """
create table leaky.{0} (
  tenant_id text not null,
  id bigint generated always as identity,
  user_id bigint not null,
  title text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint {0}_pkey primary key (tenant_id, id),
  constraint {0}_user_fkey foreign key (tenant_id, user_id) references thea.users (tenant_id, id) on delete cascade
);
"""
_PROTECTED = _TABLE + "select thea.protect('leaky.{0}');\n"

# What a migration does to a table of its own, by the table's name.
TABLES = {
    "bare": _TABLE + "grant select, insert, update, delete on leaky.bare to thea_app;\n",
    "widened": _PROTECTED
    + "drop policy tenant_guard on leaky.widened;"
    + " alter policy tenant on leaky.widened using (true) with check (true);\n",
    "unguarded": _PROTECTED + "drop policy tenant_guard on leaky.unguarded;\n",
    "unforced": _PROTECTED + "alter table leaky.unforced no force row level security;\n",
    "peeked": _PROTECTED + "create policy peek on leaky.peeked for select using (true);\n",
    "loose": _PROTECTED
    + "alter policy tenant on leaky.loose using (lower(tenant_id) = lower(thea.tenant()));"
    + " alter policy tenant_guard on leaky.loose using (lower(tenant_id) = lower(thea.tenant()));\n",
    "unique_titles": _PROTECTED + "create unique index unique_titles_title_key on leaky.unique_titles (title);\n",
    "crossing": _PROTECTED
    + "create unique index crossing_id_key on leaky.crossing (id);"
    + " alter table leaky.crossing add column other_id bigint"
    + " constraint crossing_other_fkey references leaky.crossing (id);\n",
    "truncatable": _PROTECTED + "grant truncate on leaky.truncatable to thea_app;\n",
    "copies": "create table leaky.copies (tenant_id text, title text);"
    " grant select, insert on leaky.copies to thea_app;\n",
    "heir": "create table leaky.heir () inherits (leaky.tasks); grant select, insert on leaky.heir to thea_app;\n",
    "unaudited": _PROTECTED + "drop trigger audit on leaky.unaudited;\n",
    "cache": "create table leaky.cache (key text primary key, value jsonb);"
    " grant select, insert, update, delete on leaky.cache to thea_app;\n",
    "everything": "create view leaky.everything as select * from leaky.tasks;"
    " grant select on leaky.everything to thea_app;\n",
    "snapshot": "create materialized view leaky.snapshot as select * from leaky.tasks with no data;"
    " grant select on leaky.snapshot to thea_app;\n",
    "all_titles": "create function leaky.all_titles() returns setof text language plpgsql security definer"
    " set search_path = pg_catalog, pg_temp as $$ begin return query select title from leaky.tasks; end $$;"
    " grant execute on function leaky.all_titles() to thea_app;\n",
}

_COLUMNS = "t.tenant_id, t.id, t.user_id, t.title, t.created_at, t.updated_at, t.deleted_at"
_OF_TENANT = "-- tenant: none, it counts for everybody.\n"

# Statements, by the query's name; each lacks something.
QUERIES = {
    "without": f"{_OF_TENANT}select {_COLUMNS} from leaky.tasks t limit :limit",
    "join": f"select {_COLUMNS} from leaky.tasks t join thea.users u on u.id = t.user_id"
    " where t.tenant_id = :tenant_id limit :limit",
    "wrong_alias": f"select {_COLUMNS} from leaky.tasks t, leaky.tasks o where o.tenant_id = :tenant_id"
    " and o.tenant_id = :tenant_id and t.title = o.title limit :limit",
    "beside_an_or": f"select {_COLUMNS} from leaky.tasks t where (t.tenant_id = :tenant_id or t.title = :title)"
    " limit :limit",
    "subselect": f"select {_COLUMNS} from leaky.tasks t where t.tenant_id = :tenant_id"
    " and t.user_id in (select id from thea.users) limit :limit",
    "outer": f"select {_COLUMNS} from leaky.tasks t left join thea.users u on t.tenant_id = :tenant_id"
    " and u.tenant_id = :tenant_id limit :limit",
    "lowered": f"select {_COLUMNS} from leaky.tasks t where lower(t.tenant_id) = lower(:tenant_id) limit :limit",
    "given": "insert into leaky.tasks as t (tenant_id, user_id, title)"
    f" select :title, :id, :tenant_id returning {_COLUMNS}",
    "moved": f"update leaky.tasks t set tenant_id = :title where t.tenant_id = :tenant_id returning {_COLUMNS}",
    "swept": f"with gone as (delete from leaky.tasks where id = :id returning id)"
    f" select {_COLUMNS} from leaky.tasks t, gone where t.tenant_id = :tenant_id",
    "another_session": f"select {_COLUMNS} from (select set_config('app.tenant_id', :title, true)) s, leaky.tasks t"
    " where t.tenant_id = :tenant_id limit :limit",
    "as_xml": f"select {_COLUMNS} from leaky.tasks t where t.tenant_id = :tenant_id"
    " and xmlexists('//title' passing query_to_xml('select title from leaky.tasks', true, false, '')) limit :limit",
    # In both databases of the proof, and hardly ever at the same time.
    "fails": f"select {_COLUMNS} from leaky.tasks t where t.tenant_id = :tenant_id"
    " and 1 / length(pg_sleep(random() * 0.2)::text) > 0 limit :limit",
    "coalesced": f"select {_COLUMNS} from leaky.tasks t where t.tenant_id = coalesce(:tenant_id, t.tenant_id)"
    " and (:tenant_id = t.tenant_id) is not false limit :limit",
    "through_a_view": f"select {_COLUMNS} from leaky.everything t where t.id = :id and :tenant_id::text is not null",
}
_TYPES = {"limit": Limit, "title": LongText, "id": Id}


def planted(directory: Path) -> Extension:
    """The extension, written into `directory`, which is the current one."""
    new_extension(NAME)
    new_aggregate("tasks", NAME, ["title:text"], ["users"])
    for name, statements in TABLES.items():
        new_migration(name.replace("_", "-"), NAME)
        path = max(directory.glob(f"{NAME}/migrations/*{name.replace('_', '-')}.sql"))
        path.write_text(path.read_text().replace("select 1;\n", statements.format(name)))
    queries = directory / NAME / "sql" / "tasks.sql"
    more = "".join(
        f"\n-- name: {name}\n-- What it gives.\n{text.replace(chr(10) + 'select', chr(10) + 'select')};\n"
        for name, text in QUERIES.items()
    )
    queries.write_text(queries.read_text() + more)
    sys.path.insert(0, str(directory))
    try:
        extension = importlib.import_module(NAME).LEAKY
        module = importlib.import_module(f"{NAME}.tasks")
    finally:
        sys.path.remove(str(directory))
    for name, text in QUERIES.items():
        module.SQL.query(name, module.Task, **{key: kind for key, kind in _TYPES.items() if f":{key}" in text})
    assert isinstance(extension, Extension)
    return extension
