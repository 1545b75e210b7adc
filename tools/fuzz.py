"""Reads random SQL by the loader and by PostgreSQL's own scanner, and says where they differ.

    python tools/fuzz.py --inputs 1000000 --seed 7

Prints how many texts were taken and refused. The exit status is 1 when there is a text that the two read
differently; the shortest that it leads to is shown.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.queries.lexing import agreed
from tests.support.fuzzing import minimised, sql_text

CHUNK = 5_000
PROGRESS = 50_000


def fault(text: str) -> str:
    """Why the text is a finding; empty where it is none."""
    try:
        agreed(text)
    except Exception as error:  # noqa: BLE001 - whatever is raised is a finding
        return f"{type(error).__name__}: {error}"
    return ""


def chunk(seed: str, texts: int) -> tuple[Counter[str], str | None]:
    """What became of so many texts, and the first that was read differently."""
    random = Random(seed)
    verdicts: Counter[str] = Counter()
    for _ in range(texts):
        text = sql_text(random)
        try:
            verdicts[agreed(text)] += 1
        except Exception:  # noqa: BLE001 - as above
            return verdicts, text
    return verdicts, None


def chunks(inputs: int, seed: int) -> Iterator[tuple[str, int]]:
    """A seed and a number of texts for each chunk."""
    for start in range(0, inputs, CHUNK):
        yield f"{seed}.{start}", min(CHUNK, inputs - start)


def main() -> int:
    """Run; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    asked = parser.parse_args()
    print(f"{asked.inputs:,} texts with --seed {asked.seed}", flush=True)
    started, verdicts, found = time.monotonic(), Counter[str](), None
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for some, found in pool.map(chunk, *zip(*chunks(asked.inputs, asked.seed), strict=True)):
            verdicts += some
            if found is not None:
                pool.shutdown(wait=False, cancel_futures=True)
                break
            if verdicts.total() % PROGRESS < CHUNK:
                print(f"  {verdicts.total():>9,} in {time.monotonic() - started:.0f} s", flush=True)
    for verdict, count in verdicts.most_common():
        print(f"{count:>9,} {verdict}")
    if found is None:
        return 0
    shortest = minimised(found, lambda text: bool(fault(text)))
    print(f"\nRead differently: {shortest!r}\n  {fault(shortest)}\n  from {found!r}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
