"""`thea.protect` makes of a plain table one that keeps tenants apart, and refuses a table that cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection, errors

from tests.support.catalogs import protection_of
from thea_store.testing import TestDatabase

COLUMNS = """
  tenant_id text not null,
  id bigint not null generated always as identity,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
"""
KEY = "constraint tasks_pkey primary key (tenant_id, id)"
OF_USER = "constraint tasks_user_fkey foreign key (tenant_id, user_id) references thea.users (tenant_id, id)"
TASKS = (
    f"create table planner.tasks ({COLUMNS} user_id bigint not null, title text not null, {KEY},"
    f" {OF_USER} on delete cascade)"
)


class Scene:
    """A database with the schema `planner`, seen by its operator and by a service."""

    def __init__(self, operator: Connection[Any], service: Connection[Any], superuser_url: str) -> None:
        self.operator, self.service, self.superuser_url = operator, service, superuser_url

    def make(self, *statements: str) -> None:
        for statement in statements:
            self.operator.execute(statement.encode())

    def as_tenant(self, tenant: str, statement: str) -> list[tuple[Any, ...]]:
        with self.service.transaction():
            self.service.execute("select set_config('app.tenant_id', %s, true)", [tenant])
            cursor = self.service.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def user(self, tenant: str, telegram_id: int = 1) -> int:
        insert = f"insert into thea.users (tenant_id, telegram_id) values ('{tenant}', {telegram_id}) returning id"
        return int(self.as_tenant(tenant, insert)[0][0])

    def hide(self, table: str, tenant: str, row: int) -> None:
        self.as_tenant(tenant, f"update {table} set deleted_at = now() where tenant_id = '{tenant}' and id = {row}")

    def bring_back(self, table: str, tenant: str, row: int) -> None:
        self.as_tenant(tenant, f"update {table} set deleted_at = null where tenant_id = '{tenant}' and id = {row}")

    def hidden(self, table: str, tenant: str) -> dict[int, str | None]:
        """The hidden rows of a table, with what each was hidden with."""
        return dict(
            self.as_tenant(
                tenant, f"select id, deleted_with from {table} where tenant_id = '{tenant}' and deleted_at is not null"
            )
        )


@pytest.fixture
def scene(thea_new_database: Callable[..., TestDatabase]) -> Iterator[Scene]:
    database = thea_new_database()
    with (
        psycopg.connect(database.migrator_url, autocommit=True) as operator,
        psycopg.connect(database.app_url, autocommit=True) as service,
    ):
        operator.execute("create schema planner")
        yield Scene(operator, service, database.superuser_url)


def test_a_protected_table_is_as_the_librarys_own(scene: Scene) -> None:
    scene.make(TASKS, "select thea.protect('planner.tasks')")

    assert protection_of(scene.operator, "planner.tasks") == protection_of(scene.operator, "thea.conversations")


def test_each_tenant_sees_and_writes_its_own_rows_alone(scene: Scene) -> None:
    scene.make(TASKS, "select thea.protect('planner.tasks')")
    ours, theirs = scene.user("acme"), scene.user("other")
    add = "insert into planner.tasks (tenant_id, user_id, title) values ('{}', {}, 'mine')"
    scene.as_tenant("acme", add.format("acme", ours))
    scene.as_tenant("other", add.format("other", theirs))

    assert scene.as_tenant("acme", "select tenant_id from planner.tasks") == [("acme",)]
    with pytest.raises(errors.InsufficientPrivilege):
        scene.as_tenant("acme", add.format("other", theirs))
    with pytest.raises(errors.ForeignKeyViolation):
        scene.as_tenant("acme", add.format("acme", theirs + 1000))
    for column in ("tenant_id", "user_id", "created_at", "updated_at"):
        with pytest.raises(errors.InsufficientPrivilege):
            scene.as_tenant("acme", f"update planner.tasks set {column} = {column}")
    assert scene.service.execute("select count(*) from planner.tasks").fetchone() == (0,)


def test_a_change_moves_the_time_and_is_audited_under_the_full_name(scene: Scene) -> None:
    scene.make(TASKS, "select thea.protect('planner.tasks')")
    user = scene.user("acme")
    add = f"insert into planner.tasks (tenant_id, user_id, title) values ('acme', {user}, 'one') returning updated_at"
    [(before,)] = scene.as_tenant("acme", add)
    [(after,)] = scene.as_tenant("acme", "update planner.tasks set title = 'two' returning updated_at")
    log = scene.as_tenant(
        "acme", "select action, after from thea.audit_log where table_name = 'planner.tasks' order by at"
    )

    assert after > before
    assert [(action, entry["title"]) for action, entry in log] == [("insert", "one"), ("update", "two")]


def test_quiet_untouched_and_computed_columns_keep_to_their_lists(scene: Scene) -> None:
    columns = "seen timestamptz, rank bigint not null default 0, length bigint"
    scene.make(
        TASKS.replace("title text not null", f"title text not null, {columns}"),
        "select thea.protect('planner.tasks', quiet => array['seen', 'rank'], untouched => array['rank'],"
        " computed => array['length'])",
    )
    user = scene.user("acme")
    add = f"insert into planner.tasks (tenant_id, user_id, title) values ('acme', {user}, 'one') returning updated_at"
    [(made,)] = scene.as_tenant("acme", add)
    [(ranked,)] = scene.as_tenant("acme", "update planner.tasks set rank = 1 returning updated_at")
    [(seen,)] = scene.as_tenant("acme", "update planner.tasks set seen = now() returning updated_at")
    actions = scene.as_tenant("acme", "select action from thea.audit_log where table_name = 'planner.tasks'")

    assert (made == ranked, seen > made, actions) == (True, True, [("insert",)])
    with pytest.raises(errors.InsufficientPrivilege):
        scene.as_tenant("acme", "update planner.tasks set length = 3")


@pytest.mark.parametrize(
    ("table", "extra", "named"),
    [
        (TASKS.replace("tenant_id text not null", "tenant_id varchar(50) not null"), "", "tenant_id text not null"),
        (TASKS.replace("generated always as identity", ""), "", "id bigint not null generated always as identity"),
        (TASKS.replace("  deleted_at timestamptz,\n", ""), "", "deleted_at timestamptz"),
        (TASKS.replace("updated_at timestamptz not null default now()", "updated_at timestamptz"), "", "updated_at"),
        (TASKS.replace(KEY, "constraint tasks_pkey primary key (id)"), "", "primary key (tenant_id, id)"),
        (
            TASKS.replace("title text not null", "title text not null unique"),
            "",
            "tasks_title_key is unique across tenants",
        ),
        (TASKS, "create unique index by_title on planner.tasks (lower(title))", "by_title is unique across tenants"),
        (
            TASKS,
            "create unique index by_title on planner.tasks (title, tenant_id)",
            "by_title is unique across tenants",
        ),
        (
            TASKS.replace("title text not null", "title text not null, exclude using btree (title with =)"),
            "",
            "tasks_title_excl is unique across tenants",
        ),
        (
            TASKS.replace(
                "user_id bigint not null",
                "user_id bigint not null, other bigint references planner.shared (id)",
            ),
            "",
            "tasks_other_fkey",
        ),
        (TASKS.replace(" on delete cascade", " on delete set null"), "", "set columns to null"),
        (TASKS, "create policy open on planner.tasks using (true)", "the policy open"),
        (TASKS, "create rule log as on insert to planner.tasks do also notify tasks", "the rule log"),
        (TASKS, "create table planner.more () inherits (planner.tasks)", "planner.more"),
    ],
)
def test_what_cannot_be_isolated_is_refused_by_name(scene: Scene, table: str, extra: str, named: str) -> None:
    scene.make("create table planner.shared (id bigint primary key)", table, extra or "select")
    with pytest.raises(errors.InvalidTableDefinition) as refused:
        scene.make("select thea.protect('planner.tasks')")
    unprotected = scene.operator.execute(
        "select relrowsecurity from pg_class where oid = 'planner.tasks'::regclass"
    ).fetchone()

    assert "planner.tasks cannot keep tenants apart" in str(refused.value)
    assert named in str(refused.value)
    assert unprotected == (False,)


def test_a_collation_for_which_tenants_are_equal_is_refused(scene: Scene) -> None:
    try:
        scene.make("create collation planner.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    except errors.FeatureNotSupported:
        pytest.skip("this server has no ICU")
    scene.make(
        TASKS.replace("tenant_id text not null", "tenant_id text collate planner.loose not null").replace(
            f", {OF_USER} on delete cascade", ""
        ),
    )

    with pytest.raises(errors.InvalidTableDefinition, match="non-deterministic collation loose"):
        scene.make("select thea.protect('planner.tasks')")


def test_a_parent_must_be_protected_first(scene: Scene) -> None:
    scene.make(
        f"create table planner.projects ({COLUMNS} primary key (tenant_id, id))",
        f"create table planner.tasks ({COLUMNS} project_id bigint not null, {KEY}, constraint tasks_project_fkey"
        " foreign key (tenant_id, project_id) references planner.projects (tenant_id, id) on delete cascade)",
    )
    with pytest.raises(errors.InvalidTableDefinition, match="planner.projects, which is not protected"):
        scene.make("select thea.protect('planner.tasks')")
    scene.make("select thea.protect('planner.projects')", "select thea.protect('planner.tasks')")


@pytest.mark.parametrize(("own", "kept"), [("", "0.02"), ("autovacuum_vacuum_insert_scale_factor = 0.1", "0.1")])
def test_new_rows_are_marked_for_counts_soon_unless_the_table_says_when(scene: Scene, own: str, kept: str) -> None:
    scene.make(TASKS, f"alter table planner.tasks set ({own})" if own else "", "select thea.protect('planner.tasks')")
    options = scene.operator.execute("select reloptions from pg_class where oid = 'planner.tasks'::regclass")

    assert options.fetchone() == ([f"autovacuum_vacuum_insert_scale_factor={kept}"],)


def test_a_column_that_is_not_there_is_named(scene: Scene) -> None:
    scene.make(TASKS)

    with pytest.raises(errors.UndefinedColumn, match="has no column sen"):
        scene.make("select thea.protect('planner.tasks', quiet => array['sen'])")


def test_a_second_call_changes_nothing_that_writers_wait_for(scene: Scene) -> None:
    scene.make(TASKS, "select thea.protect('planner.tasks', quiet => array['title'])")
    state = (
        (
            "select array_agg((oid, xmin::text, pg_get_triggerdef(oid)) order by oid)::text from pg_trigger"
            " where not tgisinternal"
        ),
        "select array_agg((oid, xmin::text) order by oid)::text from pg_policy",
    )
    before = [scene.operator.execute(each).fetchone() for each in state]
    with psycopg.connect(scene.operator.info.dsn, password=scene.operator.info.password) as writer:
        writer.execute("lock table thea.users in row exclusive mode")
        scene.make("set lock_timeout = '2s'", "select thea.protect('planner.tasks')")

    assert [scene.operator.execute(each).fetchone() for each in state] == before


def test_what_was_loosened_is_mended_by_a_second_call(scene: Scene) -> None:
    scene.make(TASKS, "select thea.protect('planner.tasks')")
    whole = protection_of(scene.operator, "planner.tasks")
    scene.make(
        "alter policy tenant on planner.tasks using (true)",
        "drop policy tenant_guard on planner.tasks",
        "alter table planner.tasks no force row level security",
        "grant update on planner.tasks to thea_app",
        "drop trigger audit on planner.tasks",
        "drop trigger hide_planner_tasks_user_id on thea.users",
    )
    assert protection_of(scene.operator, "planner.tasks") != whole

    scene.make("select thea.protect('planner.tasks')")

    assert protection_of(scene.operator, "planner.tasks") == whole


# --- deleting ------------------------------------------------------------------------------------


def test_a_row_is_hidden_restored_and_purged_with_its_parent(scene: Scene) -> None:
    scene.make(TASKS, "select thea.protect('planner.tasks')")
    user = scene.user("acme")
    add = f"insert into planner.tasks (tenant_id, user_id, title) values ('acme', {user}, 'x') returning id"
    [(alone,)], [(together,)] = scene.as_tenant("acme", add), scene.as_tenant("acme", add)
    scene.hide("planner.tasks", "acme", alone)
    scene.hide("thea.users", "acme", user)

    assert scene.hidden("planner.tasks", "acme") == {alone: None, together: "users"}
    scene.bring_back("thea.users", "acme", user)
    assert scene.hidden("planner.tasks", "acme") == {alone: None}
    scene.as_tenant("acme", f"delete from thea.users where tenant_id = 'acme' and id = {user}")
    assert scene.as_tenant("acme", "select count(*) from planner.tasks") == [(0,)]


CHAIN = (
    (
        f"create table planner.projects ({COLUMNS} user_id bigint not null, primary key (tenant_id, id),"
        " constraint projects_user_fkey foreign key (tenant_id, user_id)"
        " references thea.users (tenant_id, id) on delete cascade)"
    ),
    (
        f"create table planner.steps ({COLUMNS} user_id bigint not null, project_id bigint not null,"
        " primary key (tenant_id, id),"
        " constraint steps_user_fkey foreign key (tenant_id, user_id)"
        " references thea.users (tenant_id, id) on delete cascade,"
        " constraint steps_project_fkey foreign key (tenant_id, project_id)"
        " references planner.projects (tenant_id, id) on delete cascade)"
    ),
    "select thea.protect('planner.projects')",
    "select thea.protect('planner.steps')",
)


def test_a_chain_comes_back_as_it_was_in_any_order(scene: Scene) -> None:
    scene.make(*CHAIN)
    user = scene.user("acme")
    [(project,)] = scene.as_tenant(
        "acme", f"insert into planner.projects (tenant_id, user_id) values ('acme', {user}) returning id"
    )
    [(step,)] = scene.as_tenant(
        "acme",
        f"insert into planner.steps (tenant_id, user_id, project_id) values ('acme', {user}, {project}) returning id",
    )
    scene.hide("thea.users", "acme", user)
    assert set(scene.hidden("planner.projects", "acme")) == {project}
    assert set(scene.hidden("planner.steps", "acme")) == {step}

    scene.bring_back("thea.users", "acme", user)
    assert (scene.hidden("planner.projects", "acme"), scene.hidden("planner.steps", "acme")) == ({}, {})

    scene.hide("planner.projects", "acme", project)
    scene.hide("thea.users", "acme", user)
    scene.bring_back("thea.users", "acme", user)
    assert set(scene.hidden("planner.projects", "acme")) == {project}
    assert scene.hidden("planner.steps", "acme") == {step: "planner.projects"}


def test_a_row_of_two_deleted_parents_waits_for_both(scene: Scene) -> None:
    scene.make(*CHAIN)
    owner, guest = scene.user("acme", 1), scene.user("acme", 2)
    [(project,)] = scene.as_tenant(
        "acme", f"insert into planner.projects (tenant_id, user_id) values ('acme', {owner}) returning id"
    )
    [(step,)] = scene.as_tenant(
        "acme",
        f"insert into planner.steps (tenant_id, user_id, project_id) values ('acme', {guest}, {project}) returning id",
    )
    scene.hide("thea.users", "acme", guest)
    scene.hide("planner.projects", "acme", project)

    scene.bring_back("thea.users", "acme", guest)
    assert scene.hidden("planner.steps", "acme") == {step: "planner.projects"}
    scene.bring_back("planner.projects", "acme", project)
    assert scene.hidden("planner.steps", "acme") == {}


@pytest.mark.parametrize("analyzed", [True, False])
def test_a_cascade_reads_hardly_more_than_the_rows_that_it_changes(scene: Scene, analyzed: bool) -> None:
    sessions, messages = 30, 30
    user = scene.user("acme")
    scene.as_tenant(
        "acme",
        f"""
        with k as (
          insert into thea.conversations (tenant_id, user_id, session_id)
          select 'acme', {user}, n::text from generate_series(1, {sessions}) n
          returning id
        )
        insert into thea.message_history (tenant_id, user_id, conversation_id, user_message)
        select 'acme', {user}, k.id, 'hello' from k, generate_series(1, {messages})
        """,
    )
    if analyzed:
        scene.operator.execute("analyze thea.message_history")

    for change in (scene.hide, scene.bring_back):
        with scene.service.transaction():
            change("thea.users", "acme", user)
            fetched = scene.as_tenant(
                "acme",
                "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables"
                " where relid = 'thea.message_history'::regclass",
            )[0][0]

        # Each row, what is left of it from before, and for a restore the look for another parent that is deleted.
        assert fetched <= 8 * sessions * messages


def test_a_superuser_who_names_no_tenant_hides_what_hangs_on_a_row_too(scene: Scene) -> None:
    user = scene.user("acme")
    [(note,)] = scene.as_tenant(
        "acme",
        f"insert into thea.notes (tenant_id, user_id, content) values ('acme', {user}, 'bread') returning id",
    )
    with psycopg.connect(scene.superuser_url) as superuser:
        superuser.execute("update thea.users set deleted_at = now()")

        assert superuser.execute("select coalesce(current_setting('app.tenant_id', true), '')").fetchone() == ("",)

    assert scene.hidden("thea.notes", "acme") == {note: "users"}


def test_a_table_that_was_dropped_without_a_word_stops_no_delete(scene: Scene) -> None:
    scene.make(TASKS, "select thea.protect('planner.tasks')", "drop table planner.tasks")
    user = scene.user("acme")

    scene.hide("thea.users", "acme", user)
    scene.bring_back("thea.users", "acme", user)

    assert scene.as_tenant("acme", "select count(*) from thea.users where deleted_at is null") == [(1,)]


def test_unprotecting_takes_back_what_stands_on_other_tables_and_closes_the_table(scene: Scene) -> None:
    triggers = (
        "select array_agg(tgname order by tgname) from pg_trigger"
        " where tgrelid = 'thea.users'::regclass and not tgisinternal"
    )
    before = scene.operator.execute(triggers).fetchone()
    scene.make(TASKS, "select thea.protect('planner.tasks')", "select thea.unprotect('planner.tasks')")

    assert scene.operator.execute(triggers).fetchone() == before
    with pytest.raises(errors.InsufficientPrivilege):
        scene.as_tenant("acme", "select from planner.tasks")
