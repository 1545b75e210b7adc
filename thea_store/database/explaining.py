"""The plan that the server would make for a query whatever its values are."""

from __future__ import annotations

from typing import Any

from thea_store.database.connection import Connection, set_local
from thea_store.queries.file import Query

__all__ = ["generic_plan"]


async def generic_plan(connection: Connection, query: Query[Any], tenant_id: str) -> str:
    """The generic plan, as this login and this tenant have it, in PostgreSQL's words; it shows `$1` and no value.

    Nothing is run, and nothing stays on the server: what is prepared is dropped before the transaction is rolled back.
    An error of the driver's leaves the connection in a state that is not known.
    """
    raw, patience = connection.raw, connection.prompt
    # The planner estimates for the tenant of the session, so this one's is said; the plan does not show it.
    await raw.execute(
        "; ".join(
            [
                "begin read only",
                *set_local(tenant_id=tenant_id),
                "set local plan_cache_mode = force_generic_plan",
                f"prepare thea_plan as {query.text}",
            ]
        ),
        timeout=patience,
    )
    nulls = ", ".join(["null"] * len(query.parameters))
    rows = await raw.fetch(f"explain (settings) execute thea_plan{f'({nulls})' if nulls else ''}", timeout=patience)
    await raw.execute("deallocate thea_plan; rollback", timeout=patience)
    return "\n".join(str(row[0]) for row in rows)
