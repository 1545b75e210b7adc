"""No query reads much more than it returns, whoever asks: explained as the service on a tenant of a million rows.

Every query of the SQL files is asked in several places of very unequal data (see `skewed`), with each of its options
and without, under both kinds of plan that a server may choose. What it may not do is said in `plans.judge`: read a
table of tenants from end to end, throw away more than a hundred rows for each that it keeps, read a hundred times as
many rows as it returns or writes, walk an index in vain. That goes for the statements inside of functions, triggers and
foreign keys, too. What does so nevertheless needs an allowance with a reason, and one that nothing needs is a failure.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from tests.plans import skewed
from tests.plans.allowances import ALLOWED, Allowance
from tests.plans.arguments import NOWHERE, Place, Values, asked_by_rarity, cases, find_places
from tests.plans.explain import Fault, Mode, Plan, Planner, judge, open_planner
from thea_store.queries.binding import bind
from thea_store.queries.file import Query
from thea_store.queries.query import TENANT
from thea_store.store import SQL_FILES
from thea_store.testing import TestDatabase

# The first test waits for the data, which one worker builds.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("plans")]

QUERIES = {query.name: query for file in SQL_FILES for query in file.claimed}
MODES: tuple[Mode, ...] = ("custom", "generic")

# Of a user with a fifth of a table, a server may well read the whole table.
_SHARE = 6
# One for each day and intent, and the messages of two days: a hundredth of the tenant's.
_SUMS = 6000


@dataclass(frozen=True, slots=True)
class Found:
    """A fault, and how it came about."""

    place: Place
    case: str
    mode: Mode
    fault: Fault
    inside: str
    """The statement within the query's, where it is one."""

    def __str__(self) -> str:
        within = f", in `{' '.join(self.inside.split())[:60]}`" if self.inside else ""
        return f"{self.place.name}, given {self.case}, {self.mode} plan{within}: {self.fault.rule}: {self.fault.text}"


@dataclass(slots=True)
class Account:
    """What is to be told of a query."""

    faults: list[Found] = field(default_factory=list)
    indexes: set[str] = field(default_factory=set)
    """Those that served it."""
    answers: set[tuple[str, int]] = field(default_factory=set)
    """The cases in which it found or wrote something, by the rarity of what was asked for."""


@dataclass(frozen=True, slots=True)
class Ground:
    """The data, and who tells what is done with it."""

    database: TestDatabase
    planner: Planner
    superuser: psycopg.Connection[Any]
    places: list[Place]
    promised: dict[str, set[str]]
    """The indexes that say of themselves that they serve a query, by its name."""

    async def examine(self, query: Query[Any], spoilt: str | None = None) -> Account:
        """What is to be told of a query, which both tenants must have answered if it is asked for one."""
        account = Account()
        answered: set[str] = set()
        for mode in MODES:
            for place, case, values in self._calls(query):
                for plan in await self._plans(query, place, values, mode, spoilt):
                    answered.add(place.tenant)
                    inside = "" if plan.statement == query.text else plan.statement
                    account.faults += [Found(place, case, mode, fault, inside) for fault in self._faults(plan, place)]
                    account.indexes |= plan.indexes
                    if plan.returned + plan.written:
                        account.answers.add((case, place.rarity))
        assert answered == ({skewed.BIG, skewed.SMALL} if TENANT in query.parameters else set())
        return account

    async def _plans(
        self, query: Query[Any], place: Place, values: Values, mode: Mode, spoilt: str | None
    ) -> list[Plan]:
        plans = await self.planner.explain(query, place.tenant, values, mode, spoilt=spoilt)
        if any(fault.rule == "pages" for plan in plans for fault in self._faults(plan, place)):
            self.clean_up()
            plans = await self.planner.explain(query, place.tenant, values, mode, spoilt=spoilt)
        return plans

    def clean_up(self) -> None:
        """What earlier calls wrote and undid is still met in the indexes, and keeps an index from being read alone."""
        self.superuser.execute("vacuum (index_cleanup on)")

    def _faults(self, plan: Plan, place: Place) -> list[Fault]:
        return list(judge(plan, self.planner.tables, place.hidden))

    def calls_with_one_plan(self, query: Query[Any]) -> list[tuple[Place, str, Values]]:
        """Those calls for which the server keeps one plan."""
        return [call for call in self._calls(query) if bind(query, call[0].tenant, call[2]).has_one_plan]

    def _calls(self, query: Query[Any]) -> list[tuple[Place, str, Values]]:
        """What is asked where, each once: not every query has to do with a user."""
        calls = [(place, case, values) for place in self.places for case, values in cases(query, place)]
        return list({repr((call[0].tenant, call[2])): call for call in reversed(calls)}.values())


@pytest_asyncio.fixture(scope="module")
async def ground(thea_new_database: Callable[..., TestDatabase]) -> AsyncIterator[Ground]:
    database = thea_new_database()
    skewed.build(database.superuser_url)
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        places, promised = find_places(superuser), _promised(superuser)
        async with open_planner(database) as planner:
            yield Ground(database, planner, superuser, places, promised)


# No directory of tenants is here. `test_group_plans.py` drops each of these queries' indexes and sees it read more.
_PROVED_WITH_A_DIRECTORY = ["limits.of_calls"]


def _promised(superuser: psycopg.Connection[Any]) -> dict[str, set[str]]:
    """What the comments of the indexes say, as `tests/migrations/test_schema.py` wants them to."""
    promised: defaultdict[str, set[str]] = defaultdict(set)
    for index, comment in superuser.execute(
        "select c.relname, obj_description(c.oid) from pg_index i join pg_class c on c.oid = i.indexrelid"
        " where c.relnamespace = 'thea'::regnamespace and obj_description(c.oid) is not null"
    ):
        for query in comment.split(", "):
            promised[query].add(index)
    for query in _PROVED_WITH_A_DIRECTORY:
        del promised[query]
    return promised


def forbidden(name: str, found: list[Found]) -> list[str]:
    """A sentence for each fault without an allowance."""
    faults = [one for one in found if not any(allows(allowance, name, one) for allowance in ALLOWED)]
    return [f"{QUERIES[name].source}: {name}: {one}" for one in faults]


def unneeded(name: str, found: list[Found]) -> list[str]:
    """A sentence for each case with an allowance and without a fault."""
    faulty = {one.case for one in found}
    return [
        f"{name}, given {case}, needs no allowance: drop it from `{allowance.queries}` in tests/plans/allowances.py"
        for allowance in ALLOWED
        if allowance.names(name)
        for case in allowance.unneeded(faulty)
    ]


def allows(allowance: Allowance, name: str, found: Found) -> bool:
    """Whether the fault is within the allowance."""
    limit = {"user": found.place.owned * _SHARE, "sums": _SUMS, "tenant": float("inf")}[allowance.upto]
    return allowance.covers(name, found.case) and found.fault.read <= limit


@pytest.mark.parametrize("name", QUERIES)
async def test_a_query_reads_no_more_than_it_needs(ground: Ground, name: str) -> None:
    account = await ground.examine(QUERIES[name])

    assert forbidden(name, account.faults) == []
    assert unneeded(name, account.faults) == []
    unanswered = asked_by_rarity(QUERIES[name]) - account.answers
    assert not unanswered, f"{name} finds nothing, given {unanswered} (case, rarity): add rows to tests/plans/skewed.py"
    # Each index is paid for with every write, so it must serve whom it says it does.
    promised = ground.promised.get(name, set())
    if promised - account.indexes:
        ground.clean_up()
        account = await ground.examine(QUERIES[name])
    unused = promised - account.indexes
    assert not unused, f"no plan of {name} uses {unused}, whose comment says that it serves it: correct the comment"


@pytest.mark.parametrize("name", QUERIES)
def test_there_is_a_value_for_each_parameter(name: str) -> None:
    assert list(cases(QUERIES[name], NOWHERE))


@pytest.mark.parametrize("name", [name for name, query in QUERIES.items() if query.one_plan])
async def test_one_plan_for_all_values_reads_no_more_than_one_for_each(ground: Ground, name: str) -> None:
    asked = ground.calls_with_one_plan(QUERIES[name])
    assert asked
    for place, case, values in asked:
        pages = {
            mode: sum(plan.pages for plan in await ground.planner.explain(QUERIES[name], place.tenant, values, mode))
            for mode in MODES
        }
        # A few more, where an index was split meanwhile.
        assert pages["generic"] <= 1.1 * pages["custom"] + 10, f"{place.name}, given {case}: {pages}"


def test_every_allowance_is_for_queries_that_exist() -> None:
    patterns = [pattern for allowance in ALLOWED for pattern in allowance.queries.split()]

    assert [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in QUERIES)] == []


# --- controls: the guard notices --------------------------------------------------------------------


async def test_the_plans_are_those_of_the_service_under_row_security(ground: Ground) -> None:
    role = await ground.planner.connection.raw.fetchrow(
        "select rolsuper, rolbypassrls, row_security_active('thea.notes') as bound, session_user = current_user as same"
        " from pg_roles where rolname = current_user and pg_has_role(oid, 'thea_app', 'member')"
    )

    assert role is not None
    assert dict(role) == {"rolsuper": False, "rolbypassrls": False, "bound": True, "same": True}


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("notes.get_all+user_id+newest_first", "notes_user_id_idx"),
        ("notes.search", "notes_search_vector_idx"),  # used within a function
        ("users.purge", "message_history_user_id_idx"),  # used by a foreign key
    ],
)
async def test_a_missing_index_is_noticed(ground: Ground, name: str, index: str) -> None:
    account = await ground.examine(QUERIES[name], spoilt=f"drop index thea.{index}")

    assert forbidden(name, account.faults) != []


@pytest.mark.parametrize(
    ("name", "condition", "other"),
    [
        # Not leakproof, save where it is worked out beforehand.
        (
            "notes.get_all",
            "case when :after_id::bigint is null then 0 else :after_id end",
            "coalesce(:after_id::bigint, 0)",
        ),
        ("notes.get_by_category", "category = :category", "category like :category"),
        ("notes.get_all+user_id+newest_first", "user_id = :user_id", "user_id + 0 = :user_id"),
    ],
)
async def test_a_condition_that_no_index_serves_is_noticed(
    ground: Ground, name: str, condition: str, other: str
) -> None:
    query = QUERIES[name]
    sent, spoilt = (_numbered(query, text) for text in (condition, other))
    assert sent in query.text

    account = await ground.examine(replace(query, text=query.text.replace(sent, spoilt)))

    assert forbidden(name, account.faults) != []


def _numbered(query: Query[Any], text: str) -> str:
    for number, name in enumerate(query.parameters, 1):
        text = re.sub(rf"(?<!:):{name}\b", f"${number}", text)
    return text


def test_a_parameter_of_which_nothing_is_known_is_a_sentence() -> None:
    query = replace(QUERIES["notes.get_by_id"], parameters=("tenant_id", "colour"))

    with pytest.raises(LookupError, match=r"notes\.get_by_id has a parameter :colour .* give it a value"):
        list(cases(query, NOWHERE))


async def test_the_notes_have_the_words_that_a_trigger_would_give_them(ground: Ground) -> None:
    with psycopg.connect(ground.database.superuser_url) as superuser:
        wrong = superuser.execute(
            "select id from thea.notes where id % 1000 < 2"
            " and search_vector is distinct from thea.note_vector(tenant_id, user_id, title, tags, content)"
        ).fetchall()

    assert wrong == []
