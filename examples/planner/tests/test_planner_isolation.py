"""Each query and table keeps tenants apart."""

from __future__ import annotations

from thea_store.testing import prove

from planner import PLANNER


def test_each_query_and_table_keeps_tenants_apart() -> None:
    assert prove(PLANNER).is_isolated
