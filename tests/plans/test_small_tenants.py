"""The pages of a small tenant are read by the right index, too: alone on a server, with 10, 600 or 20,000 rows a table.

Where little is stored, plans cost nearly the same, and a condition that the planner misjudges decides for a wrong
index. What that costs is small beside a million rows, and is everything beside six hundred.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from tests.plans.arguments import Place, cases, find_place
from tests.plans.explain import Plan, Planner, open_planner
from thea_store.postgres.types import is_optional
from thea_store.queries.file import Query
from thea_store.store import SQL_FILES
from thea_store.testing import TestDatabase

pytestmark = pytest.mark.xdist_group("small tenants")

SIZES = (10, 600, 20_000)
TENANT = "small"
# Twenty users, or as many as there are rows for; each has every twentieth row.
USERS = 20
# Rows that a page may throw away: some, and some for each row that it returns.
_FEW, _EACH = 20, 5

# These look at all rows of a user, or at all rows where there are few: no index leads to a part of a text, to one of
# several tags, or to what is deleted.
WHOLE = {"events.get_by_location", "notes.get_by_tags", "events.get_deleted_id", "conversations.get_deleted_id"}
# Of a range of time the planner may well read all, and leave out the rows of others.
RANGE = {"created_from", "created_before"}
OWNERS = {"user_id", "conversation_id"}


def _is_of_an_owner(query: Query[Any]) -> bool:
    """Whether it returns the rows of one user or conversation, whatever their time."""
    given = {name for name in query.parameters if not is_optional(query.types[name])}
    is_whole = query.name in WHOLE or bool(RANGE & {*query.name.split("+")})
    return ".get_" in query.name and bool(OWNERS & given) and not is_whole


QUERIES = {query.name: query for file in SQL_FILES for query in file.claimed if _is_of_an_owner(query)}

_FILL = """
set session_replication_role = replica;
insert into thea.users (tenant_id, id, telegram_id, first_name, language_code, timezone, preferences, created_at)
overriding system value
select '{tenant}', n, n, 'Ana', 'es', 'UTC', '{{}}', now() - interval '1 hour' * n
from generate_series(1, {users}) n;
insert into thea.conversations (tenant_id, id, user_id, session_id, context_data, created_at)
overriding system value
select '{tenant}', n, 1 + n % {users}, 's-' || n, '{{}}', now() - interval '1 hour' * n
from generate_series(1, {rows}) n;
insert into thea.message_history (tenant_id, user_id, conversation_id, user_message, intent_detected, created_at)
select
  '{tenant}', 1 + n % {users}, 1 + (n + {users} - 1) % {users}, 'Hola',
  (array['greet', 'create_event'])[1 + n / {users} % 2],
  now() - interval '1 hour' * n
from generate_series(1, {rows}) n;
insert into thea.events (tenant_id, user_id, title, start_datetime, category, external_id, created_at)
select
  '{tenant}', 1 + n % {users}, 'Dentista', now() - interval '1 hour' * n, 'trabajo', 'e-' || n,
  now() - interval '1 hour' * n
from generate_series(1, {rows}) n;
insert into thea.notes (tenant_id, user_id, content, category, tags, search_vector, created_at)
select
  '{tenant}', 1 + n % {users}, 'Comprar pan', (array['trabajo', 'casa'])[1 + n / {users} % 2], array['tag1'], '',
  now() - interval '1 hour' * n
from generate_series(1, {rows}) n;
"""


class Small:
    """A database with one tenant, and who tells what is done with it."""

    def __init__(self, planner: Planner, place: Place) -> None:
        self.planner, self.place = planner, place

    async def wasteful(self, query: Query[Any]) -> list[str]:
        """A sentence for each plan that throws away more rows than a page may; empty when none does."""
        case, values = next(cases(query, self.place))
        plans = await self.planner.explain(query, TENANT, values, "generic")
        return [
            f"{query.name}, given {case}: {plan.thrown:.0f} rows thrown away for {plan.returned:.0f}, by {plan.indexes}"
            for plan in plans
            if plan.thrown > _FEW + _EACH * plan.returned
        ]

    async def plans(self, query: Query[Any]) -> list[Plan]:
        """The plans of one call that gives nothing optional."""
        return await self.planner.explain(query, TENANT, next(cases(query, self.place))[1], "generic")


@pytest_asyncio.fixture(scope="module")
async def tenants(thea_new_database: Callable[..., TestDatabase]) -> AsyncIterator[dict[int, Small]]:
    async with AsyncExitStack() as resources:
        made: dict[int, Small] = {}
        for rows in SIZES:
            database = thea_new_database()
            with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
                superuser.execute(_FILL.format(tenant=TENANT, users=min(USERS, rows), rows=rows).encode())
                superuser.execute("vacuum analyze")
                place = find_place(superuser, f"{rows} rows", TENANT, 1, rarity=0, many=5)
            made[rows] = Small(await resources.enter_async_context(open_planner(database)), place)
        yield made


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("rows", SIZES)
async def test_a_page_of_a_small_tenant_throws_few_rows_away(tenants: dict[int, Small], name: str, rows: int) -> None:
    assert await tenants[rows].wasteful(QUERIES[name]) == []


PAGES = {
    query.name: query
    for file in SQL_FILES
    for query in file.claimed
    if query.name.endswith((".get_all", ".get_all+newest_first"))
}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("rows", SIZES)
async def test_a_page_without_filters_reads_no_rows_that_it_does_not_return(
    tenants: dict[int, Small], name: str, rows: int
) -> None:
    for plan in await tenants[rows].plans(PAGES[name]):
        assert plan.read <= plan.returned + _FEW, f"{plan.read:.0f} rows for {plan.returned:.0f}, by {plan.indexes}"


async def test_the_pages_find_something(tenants: dict[int, Small]) -> None:
    for rows in SIZES:
        plans = await tenants[rows].plans(QUERIES["notes.get_all+user_id+newest_first"])

        assert max(plan.returned for plan in plans) == min(51, max(1, rows // USERS))


async def test_two_plain_bounds_of_a_column_lead_to_a_wrong_index_and_are_noticed(tenants: dict[int, Small]) -> None:
    query = QUERIES["notes.get_all+user_id+newest_first"]
    assert query.text.count("$2") == 2
    bounds = (
        "and created_at >= case when $2::timestamptz is null then '-infinity' else $2 end"
        " and created_at < case when $2::timestamptz is null then 'infinity' else $2 end order by"
    )

    assert await tenants[600].wasteful(replace(query, text=query.text.replace("order by", bounds))) != []
