"""`thea-store compliance report` and `audit verify`, as who answers for personal data runs them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import pytest
import pytest_asyncio
from typer.testing import Result

from tests.support.commands import Run
from thea_store import Settings, Store
from thea_store.admin.compliance.powers import read_readers
from thea_store.testing import TestDatabase

pytestmark = pytest.mark.usefixtures("no_settings")

Verify: TypeAlias = Callable[..., Result]

REASON = "<script>alert('carta del 3 de mayo')</script>"


@pytest.fixture
def urls(thea_database: TestDatabase) -> dict[str, str]:
    return {"DATABASE_URL": thea_database.app_url, "DATABASE_MIGRATOR_URL": thea_database.migrator_url}


@pytest_asyncio.fixture(scope="module")
async def privacy(thea_database: TestDatabase) -> AsyncIterator[Store]:
    async with Store.open(Settings(url=thea_database.url_of("thea_privacy"), pool_size=1)) as privacy:
        yield privacy


@pytest_asyncio.fixture(scope="module")
async def admin(thea_database: TestDatabase) -> AsyncIterator[Store]:
    async with Store.open(Settings(url=thea_database.url_of("thea_admin"), pool_size=1)) as admin:
        yield admin


@pytest.fixture
async def erased(store: Store, privacy: Store, tenant: str, other_tenant: str) -> int:
    """A person of the tenant who was erased, beside one who was not, and one of another tenant."""
    users = [await store.users.create(tenant, telegram_id=1), await store.users.create(tenant, telegram_id=2)]
    await store.notes.create(tenant, users[1].id, "Comprar pan")
    stranger = await store.users.create(other_tenant, telegram_id=3)
    await store.notes.create(other_tenant, stranger.id, "Vender pan")
    await store.notes.create(other_tenant, stranger.id, "Vender pan")
    await privacy.people.erase(tenant, users[0].id, reason=REASON)
    return users[0].id


@pytest.fixture
async def policies(tenant: str, other_tenant: str, admin: Store) -> AsyncIterator[None]:
    """What is kept for how long, of the tenant and of another one."""
    await admin.retention.keep("notes", "deleted", timedelta(days=30), tenant_id=tenant)
    await admin.retention.keep("users", "deleted", timedelta(days=7), tenant_id=other_tenant)
    yield
    await admin.retention.remove("notes", "deleted", tenant_id=tenant)
    await admin.retention.remove("users", "deleted", tenant_id=other_tenant)


@pytest.mark.usefixtures("policies")
async def test_it_says_what_is_kept_for_how_long_who_may_see_it_and_who_was_erased(
    run: Run, erased: int, tenant: str, urls: dict[str, str]
) -> None:
    done = run("compliance", "report", "--tenant", tenant, "--json", **urls)

    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    stored = {each["table"]: each for each in found["stored"]}
    assert {name: stored[name]["rows"] for name in ("users", "notes", "events")} == {
        "users": 1,
        "notes": 1,
        "events": 0,
    }
    assert "content" in stored["notes"]["columns"]
    assert stored["notes"]["oldest"] is not None
    assert stored["notes"]["kept"] == [{"rule": "deleted", "keep": 30 * 86_400.0, "of_tenant": True}]
    assert stored["users"]["kept"] == []
    readers = {each["role"]: each for each in found["readers"]}
    assert "notes" in readers["thea_app"]["changes"]
    assert "audit_log" not in readers["thea_app"]["changes"]
    assert (readers["thea_privacy"]["changes"], readers["thea_privacy"]["logs_in"]) == ([], False)
    assert not readers["thea_app"]["unbound"]
    assert any(each["unbound"] and each["logs_in"] for each in found["readers"])  # the server's superuser
    assert (readers["thea_admin"]["reads"], readers["thea_admin"]["changes"]) == ([], [])
    assert [(each["user_id"], each["reason"]) for each in found["erased"]] == [(erased, REASON)]


async def test_the_page_stands_for_itself_and_quotes_what_people_wrote(
    run: Run, erased: int, tenant: str, urls: dict[str, str], tmp_path: Path
) -> None:
    del urls["DATABASE_MIGRATOR_URL"]
    file = tmp_path / "report.html"

    done = run("compliance", "report", "--tenant", tenant, "--file", str(file), **urls)
    again = run("compliance", "report", "--tenant", tenant, "--file", str(file), **urls)

    page = file.read_text("utf-8")
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"<td>{erased}</td>" in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"<script|<link|src=|https?:", page)
    assert "not read: it needs a login in thea_auditor, or DATABASE_MIGRATOR_URL" in page
    assert (again.exit_code, "is there already" in again.stderr) == (2, True)
    assert file.read_text("utf-8") == page


async def test_a_tenant_of_whom_nothing_is_kept_is_told(run: Run, tenant: str, urls: dict[str, str]) -> None:
    nothing = run("compliance", "report", "--tenant", tenant, **urls)
    wrong = run("compliance", "report", "--tenant", " ", **urls)

    assert (nothing.exit_code, "nothing is kept of a tenant" in nothing.stderr) == (1, True)
    assert (wrong.exit_code, nothing.stdout) == (2, "")


async def test_of_many_certificates_it_shows_the_newest_hundred_and_says_so(
    run: Run, store: Store, tenant: str, urls: dict[str, str], superuser: psycopg.Connection[Any]
) -> None:
    await store.users.create(tenant, telegram_id=1)
    superuser.execute(
        "insert into thea.compliance_log (tenant_id, action, subject_id, reason, details)"
        " select %s, 'erase user', n, 'carta ' || n, '{}' from generate_series(1, 103) n",
        [tenant],
    )
    page = run("compliance", "report", "--tenant", tenant, **urls).stdout

    assert "The newest 100 of 103 certificates." in page
    assert ("carta 103" in page, "carta 4<" in page, "carta 3<" in page) == (True, True, False)


# --- who may see it -----------------------------------------------------------------------------

GROUP, SUBGROUP, MEMBER = "thea_test_circle", "thea_test_part", "thea_test_guest"


@pytest.fixture
def roles(superuser: psycopg.Connection[Any]) -> Callable[..., dict[str, Any]]:
    """Makes roles and rights, and tells what the catalogs then say of `MEMBER`; all is undone."""

    def given(*statements: str, of: str = MEMBER) -> dict[str, Any]:
        with superuser.transaction(force_rollback=True):
            for role in (GROUP, SUBGROUP, MEMBER):
                superuser.execute(f"create role {role} noinherit {'login' if role == MEMBER else ''}".encode())
            for statement in statements:
                superuser.execute(statement.encode())
            return {reader.role: asdict(reader) for reader in read_readers(superuser, ["thea"])}.get(of, {})

    return given


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ((f"grant thea_readonly to {MEMBER}",), {"reads": "notes", "changes": ""}),
        (
            (f"grant thea_app to {GROUP}", f"grant {GROUP} to {SUBGROUP}", f"grant {SUBGROUP} to {MEMBER}"),
            {"reads": "notes", "changes": "notes"},
        ),
        ((f"grant truncate on thea.notes to {MEMBER}",), {"reads": "", "changes": "notes"}),
        ((f"grant thea_owner to {MEMBER}",), {"owns": True}),
        (
            (f"alter role {GROUP} bypassrls", f"grant {GROUP} to {MEMBER}", f"grant select on thea.notes to {GROUP}"),
            {"unbound": True, "reads": "notes"},
        ),
        ((f"grant update (content) on thea.notes to {MEMBER}", f"grant thea_readonly to {MEMBER}"), {"reads": "notes"}),
    ],
    ids=["set role alone", "groups of groups", "truncate", "the owner", "a group that bypasses", "no policy"],
)
def test_a_right_is_told_by_whatever_way_it_reaches_a_role(
    roles: Callable[..., dict[str, Any]], statements: tuple[str, ...], expected: dict[str, Any]
) -> None:
    found = roles(*statements)

    for field, value in expected.items():
        if isinstance(value, bool):
            assert found[field] is value
        else:
            assert ("notes" in found[field]) == (value == "notes"), field


def test_a_role_without_any_right_is_not_told(roles: Callable[..., dict[str, Any]]) -> None:
    assert roles() == {}
    assert roles(f"grant select on thea.notes to {MEMBER}") == {}  # no policy shows it a row


@pytest.mark.parametrize(
    ("group", "function", "runs_as", "changes"),
    [
        ("thea_privacy", "erase_person", "thea_redactor", "audit_log"),
        ("thea_worker", "expire_audit", "thea_audit_expirer", "audit_log"),
        ("thea_mover", "end_rows", "thea_loader", "notes"),
    ],
)
def test_what_a_role_may_do_by_a_function_is_told(
    roles: Callable[..., dict[str, Any]], group: str, function: str, runs_as: str, changes: str
) -> None:
    [found] = [by for by in roles(f"grant {group} to {MEMBER}")["by_functions"] if by["function"] == function]

    assert found["runs_as"] == runs_as
    assert changes in found["changes"]


def test_a_function_that_adds_nothing_is_not_told(roles: Callable[..., dict[str, Any]]) -> None:
    told = {by["function"] for by in roles(f"grant thea_app to {MEMBER}")["by_functions"]}

    assert "search_notes" not in told


# --- tenants that the server refuses ------------------------------------------------------------


@pytest.fixture(params=["suspended", "ended"])
async def refused(request: pytest.FixtureRequest, erased: int, tenant: str, admin: Store) -> str:
    """How the directory calls a tenant that its service may not work for any more, which has rows and a certificate."""
    del erased
    await admin.tenants.create(tenant)
    done = admin.tenants.suspend(tenant, "unpaid") if request.param == "suspended" else admin.tenants.end(tenant)
    return (await done).status


COMMANDS = (("compliance", "report"), ("audit", "verify"))


async def test_an_auditor_is_told_of_a_tenant_that_the_server_refuses(
    run: Run, refused: str, tenant: str, urls: dict[str, str], thea_database: TestDatabase
) -> None:
    del urls["DATABASE_MIGRATOR_URL"]
    urls["DATABASE_URL"] = thea_database.url_of("thea_auditor")
    report = run("compliance", "report", "--tenant", tenant, "--json", **urls)
    page = run("compliance", "report", "--tenant", tenant, **urls).stdout
    verified = run("audit", "verify", "--tenant", tenant, **urls)

    found = json.loads(report.stdout)
    stored = {each["table"]: each for each in found["stored"]}
    assert {name: stored[name]["rows"] for name in ("users", "notes", "events", "compliance_log")} == {
        "users": 1,
        "notes": 1,
        "events": 0,
        "compliance_log": 1,
    }
    assert stored["audit_log"]["rows"] > 3
    assert stored["notes"]["oldest"] is not None
    assert (stored["notes"]["kept"], found["status"], len(found["erased"])) == ([], refused, 1)
    assert f"In the directory of tenants it is {refused}." in page
    assert (verified.exit_code, verified.stdout.splitlines()[-1][:11]) == (0, "erasures:1:")


async def test_the_server_goes_on_to_refuse_it_to_others_who_are_told_what_to_do(
    run: Run, refused: str, tenant: str, thea_database: TestDatabase
) -> None:
    for group, command in product(("thea_app", "thea_privacy", "thea_readonly"), COMMANDS):
        found = run(*command, "--tenant", tenant, DATABASE_URL=thea_database.url_of(group))

        assert (found.exit_code, found.stdout) == (1, ""), group
        assert refused in found.stderr
        assert "take one in thea_auditor" in found.stderr


async def test_an_auditor_is_told_who_administered_and_who_read(
    run: Run, store: Store, admin: Store, tenant: str, thea_database: TestDatabase
) -> None:
    await store.users.create(tenant, telegram_id=1)
    await admin.tenants.create(tenant, name=REASON)
    for _ in range(101):
        await admin.tenants.rename(tenant, REASON)
    await admin.tenants.update(tenant, settings={"log_reads": True})
    await admin.retention.keep("activity_log.reads", "old", timedelta(days=365), tenant_id=tenant)
    async with Store.open(Settings(url=thea_database.app_url, pool_size=1)) as reader:
        with reader.acting(actor="<b>Ana</b>"):
            for _ in range(3):
                await reader.users.count(tenant)
    url = thea_database.url_of("thea_auditor")
    found = json.loads(run("compliance", "report", "--tenant", tenant, "--json", DATABASE_URL=url).stdout)
    page = run("compliance", "report", "--tenant", tenant, DATABASE_URL=url).stdout
    by_service = run("compliance", "report", "--tenant", tenant, DATABASE_URL=thea_database.app_url).stdout

    own = [act["action"] for act in found["acts"] if act["action"] in {"create tenant", "change tenant"}]
    assert own[:2] == ["change tenant", "create tenant"]
    assert [(read["actor"], read["query"], read["times"]) for read in found["reads"]] == [
        ("<b>Ana</b>", "users.count", 3)
    ]
    assert found["reads_in_all"] == 3
    assert (found["acts_kept"], found["reads_kept"]) == (
        [],
        [{"rule": "old", "keep": 365 * 86_400, "of_tenant": True}],
    )
    assert "For how long entries are kept: for ever." in page
    assert re.search(r"For how long entries are kept: 365 days, 0:00:00 .*\(this tenant's own\)\.", page)
    assert "&lt;b&gt;Ana&lt;/b&gt;, by " in page
    assert "<script" not in page
    assert "<b>Ana" not in page
    assert by_service.count("Not read: it needs a login in thea_auditor.") == 2


def test_a_table_that_nobody_counts_is_named(run: Run, thea_new_database: Callable[[], TestDatabase]) -> None:
    database = thea_new_database()
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute("create table thea.loose (tenant_id text)")
        superuser.execute("alter table thea.loose enable row level security")
        superuser.execute("create policy tenant on thea.loose using (tenant_id = thea.tenant())")

    refused = run("compliance", "report", "--tenant", "acme", DATABASE_URL=database.url_of("thea_auditor"))

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "loose has the policy `tenant`, but nothing else that protects it" in refused.stderr
    assert "run `thea-store doctor`" in refused.stderr


async def test_an_auditor_is_told_the_same_as_a_service(
    run: Run, erased: int, tenant: str, urls: dict[str, str], thea_database: TestDatabase
) -> None:
    del erased
    by_service = run("compliance", "report", "--tenant", tenant, "--json", **urls)
    urls["DATABASE_URL"] = thea_database.url_of("thea_auditor")
    by_auditor = run("compliance", "report", "--tenant", tenant, "--json", **urls)

    for part in ("stored", "readers", "erased", "erased_in_all"):
        assert json.loads(by_auditor.stdout)[part] == json.loads(by_service.stdout)[part]


@pytest.mark.usefixtures("erased")
async def test_a_login_that_sees_no_row_is_not_told_that_there_is_none(
    run: Run, tenant: str, thea_database: TestDatabase
) -> None:
    urls = [thea_database.url_of(group) for group in ("thea_admin", "thea_worker", "thea_mover")]
    for url, command in product((*urls, thea_database.migrator_url), COMMANDS):
        found = run(*command, "--tenant", tenant, DATABASE_URL=url)

        assert (found.exit_code, found.stdout, "thea_auditor" in found.stderr) == (1, "", True)


# --- the chain ----------------------------------------------------------------------------------

ALTER = "update thea.compliance_log set reason = 'nothing' where tenant_id = %s and place = 2"
REMOVE = "delete from thea.compliance_log where tenant_id = %s and place = 2"
CUT = "delete from thea.compliance_log where tenant_id = %s and place = 3"
RENAME = "update thea.compliance_log set id = gen_random_uuid() where tenant_id = %s and place = 2"
CLAIM = "update thea.compliance_log set actor = 'somebody else' where tenant_id = %s and place = 1"
REDATE = "update thea.compliance_log set at = at - interval '1 microsecond' where tenant_id = %s and place = 1"
AGES_AGO = "update thea.compliance_log set at = (at::text || ' BC')::timestamptz where tenant_id = %s and place = 1"
NEVER = "update thea.compliance_log set at = 'infinity' where tenant_id = %s and place = 3"
UNHASH = "update thea.compliance_log set hash = null where tenant_id = %s and place = 3"
UNPLACE = (
    "update thea.compliance_log c set place = null,"
    " hash = thea.compliance_hash("
    "  (select p.hash from thea.compliance_log p where p.tenant_id = c.tenant_id and p.place = 2),"
    "  jsonb_populate_record(c, '{\"place\": null}'))"
    " where c.tenant_id = %s and c.place = 3"
)


REHASH = (
    "update thea.compliance_log c set hash = thea.compliance_hash("
    "  (select p.hash from thea.compliance_log p where p.tenant_id = c.tenant_id and p.place = {}), c)"
    " where c.tenant_id = %s and c.place = {}"
)
_NULLS = "alter table thea.compliance_log alter hash {0} not null, alter place {0} not null"


@pytest.fixture
def verify(run: Run, tenant: str, urls: dict[str, str]) -> Verify:
    return lambda *arguments: run("audit", "verify", "--tenant", tenant, *arguments, **urls)


@pytest.fixture
def head(verify: Verify, superuser: psycopg.Connection[Any], tenant: str) -> str:
    """The head of a chain of three certificates."""
    superuser.execute(
        "insert into thea.compliance_log (tenant_id, action, subject_id, reason, details)"
        " select %s, 'erase user', n, 'carta', '{\"redacted\": 1.50}' from generate_series(1, 3) n",
        [tenant],
    )
    done = verify()
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("erasures:3:")
    return done.stdout.strip()


@pytest.fixture
def tamper(superuser: psycopg.Connection[Any], tenant: str) -> Iterator[Callable[[str], None]]:
    """Changes the log as somebody can who owns the database; at the end the tenant has none."""

    def change(statement: str, nulls: str = "drop") -> None:
        with superuser.transaction():
            superuser.execute("alter table thea.compliance_log disable trigger append_only")
            if nulls == "drop":
                superuser.execute(_NULLS.format(nulls).encode())
            superuser.execute(statement.encode(), [tenant])
            if nulls == "set":
                superuser.execute(_NULLS.format(nulls).encode())
            superuser.execute("alter table thea.compliance_log enable trigger append_only")

    yield change
    change("delete from thea.compliance_log where tenant_id = %s", "set")


@pytest.mark.usefixtures("head")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (ALTER, "the entry 2 of"),
        (REMOVE, "1 are missing"),
        (RENAME, "the entry 2 of"),
        (CLAIM, "the entry 1 of"),
        (REDATE, "the entry 1 of"),
        (AGES_AGO, "the entry 1 of"),
        (NEVER, "the entry 3 of an unknown time"),
        (UNHASH, "the entry 3 of"),
        (UNPLACE, "has no place"),
    ],
    ids=[
        "altered",
        "removed",
        "another entry",
        "of another",
        "of another time",
        "of another age",
        "of no time",
        "without a hash",
        "without a place",
    ],
)
async def test_what_was_changed_past_the_trigger_is_found(
    verify: Verify, tamper: Callable[[str], None], change: str, told: str
) -> None:
    tamper(change)

    found = verify("--json")

    assert found.exit_code == 1
    assert any(told in fault for fault in json.loads(found.stdout)["faults"])
    assert told in found.stderr


async def test_what_is_missing_at_the_end_is_found_by_what_was_noted(
    verify: Verify, tamper: Callable[[str], None], head: str
) -> None:
    before = verify("--expect", head)
    tamper(CUT)
    unnoticed = verify()
    found = verify("--expect", head)
    other = verify("--expect", head.replace(":3:", ":2:"))
    wrong = verify("--expect", "3")

    assert (before.exit_code, before.stdout.strip()) == (0, head)
    assert unnoticed.exit_code == 0
    assert (found.exit_code, "its end was cut off" in found.stderr) == (1, True)
    assert (other.exit_code, "another than the one that was noted" in other.stderr) == (1, True)
    assert (wrong.exit_code, "LOG:PLACE:HASH" in wrong.stderr) == (2, True)


def test_a_chain_that_was_written_anew_is_found_by_what_was_noted_alone(
    verify: Verify, tamper: Callable[[str], None], head: str
) -> None:
    tamper(ALTER)
    for place in (2, 3):
        tamper(REHASH.format(place - 1, place))
    unnoticed, found = verify(), verify("--expect", head)

    assert (unnoticed.exit_code, unnoticed.stdout.strip() != head) == (0, True)
    assert (found.exit_code, "another than the one that was noted" in found.stderr) == (1, True)


async def test_a_log_without_an_entry_is_told(verify: Verify) -> None:
    found = verify()

    assert (found.exit_code, found.stdout, "has no entry" in found.stderr) == (0, "", True)


async def test_a_hash_function_that_was_replaced_hides_nothing(
    verify: Verify, tamper: Callable[[str], None], head: str, superuser: psycopg.Connection[Any]
) -> None:
    [(function,)] = superuser.execute("select pg_get_functiondef('thea.compliance_hash'::regproc)").fetchall()
    try:
        superuser.execute(
            "create or replace function thea.compliance_hash(previous bytea, entry thea.compliance_log) returns bytea"
            " language sql stable set search_path = pg_catalog, pg_temp return entry.hash"
        )
        tamper(ALTER)
        found = verify()
    finally:
        superuser.execute(function)

    assert (found.exit_code, "the entry 2 of" in found.stderr) == (1, True)
    assert verify("--expect", head).exit_code == 1


async def test_of_many_faults_the_first_have_a_sentence_and_the_others_a_number(
    verify: Verify, tamper: Callable[[str], None], superuser: psycopg.Connection[Any], tenant: str
) -> None:
    superuser.execute(
        "insert into thea.compliance_log (tenant_id, action, details) select %s, 'x', '{}' from generate_series(1, 60)",
        [tenant],
    )
    tamper("update thea.compliance_log set action = 'y' where tenant_id = %s")
    faults = json.loads(verify("--json").stdout)["faults"]

    assert len(faults) == 21
    assert "the entry 20 of" in faults[19]
    assert faults[20].startswith("erasures: 40 more entries were altered")


# --- the chains of all tenants ------------------------------------------------------------------


@pytest.fixture
def verify_all(run: Run, thea_database: TestDatabase) -> Verify:
    return lambda *arguments: run("audit", "verify", *arguments, DATABASE_URL=thea_database.url_of("thea_auditor"))


async def test_an_auditor_verifies_the_logs_of_all_tenants_at_once(
    verify_all: Verify, tamper: Callable[[str], None], head: str, tenant: str, tmp_path: Path
) -> None:
    before = verify_all("--json")
    noted = tmp_path / "heads.json"
    noted.write_text(before.stdout, "utf-8")
    same = verify_all("--expect-file", str(noted))
    tamper(CUT)
    unnoticed = verify_all()
    found = verify_all("--expect-file", str(noted), "--json")

    assert json.loads(before.stdout)["tenants"][tenant] == {"heads": [head], "faults": [], "expired": []}
    assert (same.exit_code, f"{tenant}\t{head}" in same.stdout.splitlines()) == (0, True)
    assert unnoticed.exit_code == 0
    assert found.exit_code == 1
    [fault] = json.loads(found.stdout)["tenants"][tenant]["faults"]
    assert "its end was cut off" in fault
    assert f"{tenant}\t{fault}" in found.stderr


async def test_a_log_that_is_gone_as_a_whole_is_found_by_what_was_noted(
    verify_all: Verify, tamper: Callable[[str], None], head: str, tenant: str, tmp_path: Path
) -> None:
    noted = tmp_path / "heads.json"
    noted.write_text(json.dumps({"tenants": {tenant: {"heads": [head]}}}), "utf-8")
    tamper("delete from thea.compliance_log where tenant_id = %s")

    found = verify_all("--expect-file", str(noted))

    assert (found.exit_code, "the log has no entry, and there was an entry 3" in found.stderr) == (1, True)


def test_who_does_not_see_all_tenants_is_not_told_that_all_is_well(run: Run, thea_database: TestDatabase) -> None:
    for group in ("thea_app", "thea_privacy", "thea_readonly", "thea_admin", "thea_mover"):
        found = run("audit", "verify", DATABASE_URL=thea_database.url_of(group))

        assert (found.exit_code, found.stdout, "only a login in thea_auditor" in found.stderr) == (1, "", True)


def test_a_file_that_is_none_of_heads_is_refused(verify_all: Verify, tmp_path: Path) -> None:
    noted = tmp_path / "heads.json"
    for content in ("", "[]", "{}", '{"tenants": 1}', '{"tenants": {"a": {"heads": ["x"]}}}', "[" * 9_999):
        noted.write_text(content, "utf-8")
        found = verify_all("--expect-file", str(noted))

        assert (found.exit_code, found.stdout, "--expect-file" in found.stderr) == (2, "", True), content


def test_options_that_contradict_each_other_are_refused(verify_all: Verify, tmp_path: Path) -> None:
    for arguments in (("--expect", "reads:3:" + "0" * 64), ("--tenant", "a", "--expect-file", str(tmp_path / "no"))):
        assert verify_all(*arguments).exit_code == 2
    assert verify_all("--expect-file", str(tmp_path / "no")).exit_code == 2
