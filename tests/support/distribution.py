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
    ("update thea.notes set title = to_char(created_at, 'YYYY') where tenant_id = $1", "function of a column in `set`"),
    ("update thea.notes set extra_data = to_jsonb(title) where tenant_id = $1", "function of a column in `set`"),
    (
        "update thea.notes set reminder_datetime = date_trunc('day', reminder_datetime) where tenant_id = $1",
        "function of a column in `set`",
    ),
    (
        "delete from thea.notes where tenant_id = $1 and created_at::date = '2020-01-01'",
        "function of a column in `where`",
    ),
    (
        "delete from thea.notes where tenant_id = $1 and created_at < clock_timestamp()",
        "no volatile function in `where`",
    ),
    (
        "delete from thea.notes where tenant_id = $1 and created_at < coalesce($2::text::timestamptz, now())",
        "no function of the clock in `coalesce`",
    ),
    (
        "update thea.notes set title = 'x' where tenant_id = $1 and created_at + interval '1 day' < now()",
        "moved by an interval in `where`",
    ),
    ("update thea.notes set title = 'x' where tenant_id = $1 returning id, now()", "nothing in `returning`"),
    (
        (
            "merge into thea.notes n using thea.users u on n.tenant_id = $1 and u.tenant_id = $1 and u.id = n.user_id"
            " when matched then update set title = 'x'"
        ),
        "no `merge`",
    ),
    (
        (
            "insert into thea.users (tenant_id, telegram_id) values ($1, 1)"
            " on conflict (tenant_id, telegram_id) do update set last_activity = now()"
        ),
        "no function of the clock in `on conflict`",
    ),
    (
        (
            "insert into thea.users as u (tenant_id, telegram_id) values ($1, 1)"
            " on conflict (tenant_id, telegram_id) do update set first_name = concat(u.first_name, 'x')"
        ),
        "nothing in `on conflict` that depends on a setting",
    ),
    (
        (
            f"insert into thea.users as u (tenant_id, telegram_id) select $1, r.a {_FROM_LIST}"
            " on conflict (tenant_id, telegram_id) do update set first_name ="
            " (select max(x.first_name) from thea.users x where x.tenant_id = excluded.tenant_id) returning u.id"
        ),
        "no subquery in `on conflict`",
    ),
]
"""Statements, each with what the reading of it says."""
