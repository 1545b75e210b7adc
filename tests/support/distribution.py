"""What a cluster refuses, for the tests that read statements, and for those that ask a cluster."""

from __future__ import annotations

__all__ = ["REFUSED"]

_FROM_LIST = "from jsonb_to_recordset('[{\"a\": 1}]') as r (a bigint)"

REFUSED = [
    ("update thea.notes set deleted_at = clock_timestamp() where tenant_id = $1", "no volatile function"),
    (
        "update thea.notes set reminder_datetime = coalesce(reminder_datetime, now()) where tenant_id = $1",
        "no function of the clock in `coalesce`",
    ),
    (
        "update thea.notes set reminder_datetime = reminder_datetime + interval '1 day' where tenant_id = $1",
        "moved by an interval",
    ),
    ("insert into thea.users (tenant_id, telegram_id) values ($1, (select 1))", "no subquery in `values`"),
    (f"insert into thea.users (tenant_id, telegram_id) select $1, r.a {_FROM_LIST}", "without `returning`"),
    (
        (
            f"insert into thea.users (tenant_id, telegram_id) select $1, k.id + 1000 {_FROM_LIST} cross join lateral"
            " (select u.id from thea.users u where u.tenant_id = $1 and u.telegram_id = r.a for share) k returning id"
        ),
        "locks no rows in a subquery",
    ),
    (
        (
            f"insert into thea.users (tenant_id, telegram_id) select $1, k.id + 1000 {_FROM_LIST} cross join lateral"
            " (select u.id from thea.users u where u.tenant_id = $1 and u.telegram_id = r.a offset 0) k returning id"
        ),
        "no `offset` in a lateral subquery",
    ),
    (
        (
            f"insert into thea.users (tenant_id, telegram_id) select $1, r.a {_FROM_LIST}"
            " on conflict (tenant_id, telegram_id) do update set username = $2::text returning id"
        ),
        "no parameter to `on conflict`",
    ),
    (
        (
            f"insert into thea.users (tenant_id, telegram_id) select $1, r.a {_FROM_LIST}"
            " on conflict (tenant_id, telegram_id) do update set last_activity = now() returning id"
        ),
        "no function of the clock in `on conflict`",
    ),
]
"""Statements, each with what the reading of it says."""
