"""The machine of `tests/interleaving/test_interleaving.py` for longer."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import settings

from tests.interleaving.calls import Call
from tests.interleaving.crew import Scope
from tests.interleaving.history import CUT
from tests.interleaving.test_interleaving import QUICK, impatient_database, run
from tests.support.profiles import scaled
from thea_store.testing import TestDatabase

pytestmark = pytest.mark.slow

__all__ = ["impatient_database"]

THOROUGH = settings(QUICK, max_examples=scaled(100), stateful_step_count=40)
TURNS = ["begin", "savepoint", "release", "undo", "commit", "roll back"]
ERRORS = [
    "ConflictError",
    "DuplicateError",
    "InvalidArgumentError",
    "InvalidReferenceError",
    "NotFoundError",
    "PoolTimeoutError",
    "QueryTimeoutError",
    "StoreError",
]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scope", ["session", "transaction"])
def test_each_tenant_sees_what_it_did_whatever_the_others_do_for_long(
    impatient_database: TestDatabase, scope: Scope
) -> None:
    met = run(impatient_database, scope, THOROUGH)

    # Nothing was left out: each call in a transaction and outside, each turn of a transaction, each error.
    assert {(doing, inside) for doing, inside, outcome in met if outcome != CUT} >= {
        *product((call.__name__ for call in Call.__subclasses__()), [True, False]),
        *product(TURNS, [True]),
    }
    assert {outcome for *_, outcome in met} >= {"done", CUT, *ERRORS}
