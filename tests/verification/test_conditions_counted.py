"""The rule that each opening looks at: as many conditions on the tenant as tables of tenants are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from thea_store.queries.file import SqlFile
from thea_store.verification.conditions_counted import too_few_conditions

TABLES = {"thea.notes", "thea.users", "planner.tasks"}
CONDITION = "tenant_id = :tenant_id"


@pytest.mark.parametrize(
    ("named", "statement"),
    [
        (0, f"select id from thea.tenants where {CONDITION}"),
        (1, f"select id from thea.notes where {CONDITION}"),
        (1, "select id from thea.notes where :tenant_id = tenant_id"),
        (1, "select n.id from thea.notes n where :tenant_id = n.tenant_id"),
        (1, f"select thea.notes.id from thea.notes where {CONDITION}"),
        (2, f"select 1 from thea.notes n join thea.users u on n.id = u.id and n.{CONDITION} and u.{CONDITION}"),
        (2, f"select from thea.notes n, (select from planner.tasks t where t.{CONDITION}) x where n.{CONDITION}"),
        (1, f"select 1 where exists (select from thea.notes where {CONDITION})"),
        (0, "insert into thea.notes (tenant_id) values (:tenant_id)"),
        (1, f"insert into thea.notes (tenant_id) select tenant_id from thea.users where {CONDITION}"),
        (1, f"update thea.notes set priority = 1 where {CONDITION}"),
        (1, f"delete from thea.notes where {CONDITION}"),
        (2, f"delete from thea.notes n using thea.users u where n.{CONDITION} and u.{CONDITION}"),
    ],
)
def test_each_table_of_tenants_counts_but_the_one_that_an_insert_writes_to(
    tmp_path: Path, named: int, statement: str
) -> None:
    tmp_path.joinpath("things.sql").write_text(f"-- name: found\n-- What is there.\n{statement};\n")
    query = SqlFile("things", tmp_path).query("found", int)
    without = replace(query, text=query.text.replace("tenant_id", "other_id"))

    assert too_few_conditions(query, TABLES) is None
    told = too_few_conditions(without, TABLES) or "it names tables of tenants 0 times"
    assert told.startswith(f"it names tables of tenants {named} times")
