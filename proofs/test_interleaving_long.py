"""The machine of `tests/test_interleaving.py` for longer, with other plans on every run."""

from __future__ import annotations

import pytest
from hypothesis import settings
from interleaving_crew import Scope
from test_interleaving import QUICK, impatient_database, run

from thea_store.testing import TestDatabase

__all__ = ["impatient_database"]

# A failure prints the plan that found it, and Hypothesis keeps it for the next run.
THOROUGH = settings(QUICK, max_examples=100, stateful_step_count=40, derandomize=False)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scope", ["session", "transaction"])
def test_each_tenant_sees_what_it_did_whatever_the_others_do_for_long(
    impatient_database: TestDatabase,
    scope: Scope,
) -> None:
    run(impatient_database, scope, THOROUGH)
