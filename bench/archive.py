"""How fast a tenant of many rows is exported, brought in, moved, restored and ended, and how much memory that takes.

`python bench/archive.py [MESSAGES]`: a tenant of so many messages, with a tenth of notes and of users, on an embedded
server. A memory peak is that of a process which does nothing else.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from apart import measure
from options import Smoke

from thea_store.postgres.url import DatabaseUrl
from thea_store.tenancy.archive import end_tenant, export_tenant, import_tenant, move_tenant, restore_tenant
from thea_store.testing import TestDatabase, start_server

TENANT = "large"
FILL = """
select set_config('app.tenant_id', 'large', false);
insert into thea.users (tenant_id, telegram_id) select 'large', n from generate_series(1, {users}) n;
insert into thea.conversations (tenant_id, user_id, session_id) select 'large', id, id::text from thea.users;
insert into thea.notes (tenant_id, user_id, title, content)
  select 'large', id, 'Lista de la compra ' || id, repeat('pan, leche y huevos para ' || id || ' ', 8) from thea.users;
insert into thea.message_history (tenant_id, user_id, conversation_id, message_id, user_message, bot_response)
  select 'large', c.user_id, c.id, n, 'recuérdame comprar pan el martes ' || n, 'De acuerdo, te avisaré.'
  from thea.conversations c cross join generate_series(1, 10) n;

"""


def url(database: TestDatabase) -> DatabaseUrl:
    """The URL of its login in `thea_mover`."""
    return DatabaseUrl.parse(database.url_of("thea_mover"))


def main(
    messages: Annotated[int, typer.Argument(min=10)] = 40_000,
    *,
    smoke: Smoke = False,
) -> None:
    """Fill a database, and measure."""
    messages = 100 if smoke else messages
    with ExitStack() as resources, tempfile.TemporaryDirectory() as folder:
        server = start_server(resources, ())
        source, target, other = (server.new_database(resources) for _ in range(3))
        with psycopg.connect(source.app_url, autocommit=True) as service:
            service.execute(FILL.format(users=messages // 10).encode())
        with psycopg.connect(source.superuser_url) as superuser:
            counted = "select sum(n) from (" + " union all ".join(
                f"select count(*) n from thea.{table}"
                for table in ("users", "conversations", "notes", "message_history", "audit_log")
            )
            [(rows,)] = superuser.execute(f"{counted}) c".encode()).fetchall()
        rows = int(rows)
        print(f"{rows:,} rows, the audit log's among them")
        file = Path(folder) / "large.zip"
        measure("export", rows, export_tenant, url(source), TENANT, file)
        print(f"{'':<32}{file.stat().st_size / 1e6:>8.1f} MB of archive")
        measure("import, ids kept", rows, import_tenant, url(target), file)
        measure("import again", rows, import_tenant, url(target), file)
        measure("move", rows, move_tenant, url(source), url(other), TENANT)
        measure("end", rows, end_tenant, url(target), TENANT, None)
        live, side = DatabaseUrl.parse(target.app_url), DatabaseUrl.parse(other.app_url)
        measure("restore, all of it", rows, restore_tenant, live, side, TENANT)
        measure("restore, nothing to do", rows, restore_tenant, live, side, TENANT)


if __name__ == "__main__":
    typer.run(main)
