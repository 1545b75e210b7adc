"""The commands of the runbooks, as an operator would type them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.commands import Run
from thea_store.testing import TestDatabase

PAGE = Path(__file__).resolve().parents[2] / "docs" / "runbooks.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
COMMANDS = sorted({line for block in BLOCKS for line in block.splitlines()})


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_runbooks_runs(run: Run, thea_database: TestDatabase, command: str) -> None:
    program, *arguments = command.split()
    is_audit = arguments[0] == "audit"  # for another login, and silent where the log has no entry
    url = thea_database.url_of("thea_auditor") if is_audit else thea_database.app_url
    result = run(*arguments, DATABASE_URL=url)

    assert program == "thea-store"
    # `doctor` may find something to warn of on whatever server the tests have.
    assert result.exit_code == 0 or (arguments == ["doctor"] and "warning(s)" in result.stderr), result.output
    assert result.stdout or is_audit
