"""The type checkers judge a use of every public method (see `typing_api.py`)."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.calls import CALLS

# What only the import calls.
OF_THE_IMPORT = {"advance", "find_answers", "import_many", "lock_sessions", "take_back_answers"}


def test_every_method_has_its_types_judged() -> None:
    used = set(re.findall(r"\.(\w+)\(", Path(__file__).with_name("typing_api.py").read_text()))

    assert {call.method for call in CALLS} - OF_THE_IMPORT - used == set(), "use it in tests/typing_api.py"
