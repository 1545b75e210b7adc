"""The proof finds each fault that was planted in an extension, and none in a sound one."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.proving.planted import NAME, QUERIES, TABLES, planted
from thea_store.errors import IsolationError
from thea_store.testing import Report, prove


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Report]:
    directory = tmp_path_factory.mktemp("planted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        with pytest.raises(IsolationError) as found:
            prove(planted(directory))
        yield found.value.report
    for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
        del sys.modules[name]


def found(report: Report, name: str) -> set[str]:
    return {
        fault.rule for fault in report.faults if fault.name.split("(")[0] in {name, f"{NAME}.{name}", f"tasks.{name}"}
    }


@pytest.mark.parametrize("table", TABLES)
def test_each_fault_of_a_table_a_view_or_a_function_is_found(report: Report, table: str) -> None:
    assert found(report, table)


@pytest.mark.parametrize("query", QUERIES)
def test_each_fault_of_a_query_is_found(report: Report, query: str) -> None:
    assert found(report, query)


def test_the_sound_table_and_its_queries_are_not_accused(report: Report) -> None:
    planted_names = {f"tasks.{name}" for name in QUERIES}
    accused = {fault.name for fault in report.faults if fault.name.startswith(("tasks.", f"{NAME}.tasks"))}

    assert accused - planted_names == set()


def test_faults_are_many_and_their_sentences_name_the_fix(report: Report) -> None:
    assert len(TABLES) + len(QUERIES) >= 20
    bare = [fault.found for fault in report.faults if fault.name == f"{NAME}.bare"]
    assert any("select thea.protect('leaky.bare')" in sentence for sentence in bare)
