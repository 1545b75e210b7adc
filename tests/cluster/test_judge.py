"""The judge of `test_failover`: it reports each way in which a writer may have been told what is not so."""

from __future__ import annotations

import pytest

from tests.cluster.judge import Told, Verdict, judge

TOLD = Told(done={"a", "b"}, unknown={"c", "d"}, failed={"e"})
"""What the writers were told where all goes well: of c and d nobody knows, and c is there."""


@pytest.mark.parametrize(
    ("counted", "verdict"),
    [
        ({"a": 1, "b": 1, "c": 1}, Verdict([], [], [])),
        ({"a": 1, "c": 1}, Verdict(["b"], [], [])),
        ({"a": 1, "b": 2, "c": 1}, Verdict([], ["b"], [])),
        ({"a": 1, "b": 1, "d": 2}, Verdict([], ["d"], [])),
        ({"a": 1, "b": 1, "e": 1}, Verdict([], [], ["e"])),
        ({"b": 2, "e": 3}, Verdict(["a"], ["b", "e"], ["e"])),
    ],
)
def test_it_tells_what_was_lost_written_twice_or_told_wrongly(counted: dict[str, int], verdict: Verdict) -> None:
    assert judge(TOLD, counted) == verdict
