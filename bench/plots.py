"""The pictures of the figures in `docs/figures`: how calls grow, what many tasks get, and what peers take.

    python bench/plots.py [DIRECTORY]

Each picture is drawn from the JSON of one benchmark, which stands beside it: `scale.json` (`bench/scale.py --json`),
`tasks.json` (`bench/tasks.py --json`) and `field.json` (`bench/field.py --json`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import matplotlib as mpl
import typer
from matplotlib import pyplot as plt

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
BLUE, ORANGE, GREY = "#1f5fa8", "#d9730d", "#9aa3ad"
# Calls above this are named in the picture.
GROWS = 1.5

# The same figures draw the same file, with text that can be searched.
mpl.rcParams |= {"svg.hashsalt": "thea_store", "svg.fonttype": "none", "font.size": 9, "axes.grid": True}
mpl.rcParams |= {"grid.alpha": 0.25, "axes.spines.top": False, "axes.spines.right": False, "figure.figsize": (8, 4)}


def draw_scale(found: dict[str, Any]) -> None:
    """A line for each call: the 95th percentile at each size, in times of that of the smallest database."""
    calls = defaultdict[str, dict[int, float]](dict)
    for each in found["calls"]:
        calls[each["call"]][each["messages"]] = each["ratio"]
    plt.axhline(1.3, color=GREY, linestyle="--", linewidth=1)
    for name, ratios in calls.items():
        size, last = max(ratios.items())
        grows = last > GROWS
        plt.plot(list(ratios), list(ratios.values()), color=ORANGE if grows else BLUE, alpha=1 if grows else 0.35)
        if grows:
            plt.annotate(name, (size, last), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7)
    plt.xscale("log")
    plt.yscale("log")
    plt.xlabel("messages in the database")
    plt.ylabel("95th percentile, times the smallest")
    plt.title(f"Each of {len(calls)} public calls")


def draw_tasks(found: dict[str, Any]) -> None:
    """A line for each traffic: calls a second, in times of asyncpg's pool."""
    plt.axhline(1, color=GREY, linestyle="--", linewidth=1)
    for (traffic, ratios), color in zip(found["ratios"].items(), (BLUE, ORANGE), strict=True):
        plt.plot(list(ratios), list(ratios.values()), marker="o", color=color, label=traffic)
    plt.ylim(bottom=0)
    plt.xlabel("tasks over a pool of ten connections")
    plt.ylabel("calls a second, times asyncpg's pool")
    plt.legend(frameon=False)


def draw_field(found: dict[str, Any]) -> None:
    """Bars for each peer: the time of one row and of a page, over all aggregates, in times of asyncpg's pool."""
    ratios: dict[str, dict[str, float]] = found["ratios"]
    for place, (label, size, color) in enumerate((("one row", 1, BLUE), ("page of 20", 20, ORANGE))):
        heights = [mean(ratio for call, ratio in own.items() if call.endswith(f", {size}")) for own in ratios.values()]
        rows = [row + 0.38 * (place - 0.5) for row in range(len(ratios))]
        bars = plt.barh(rows, heights, height=0.36, color=color, label=label)
        plt.bar_label(bars, fmt="%.2f", padding=3, fontsize=7)
    plt.yticks(range(len(ratios)), list(ratios))
    plt.gca().invert_yaxis()
    plt.axvline(1, color=GREY, linestyle="--", linewidth=1)
    plt.xlabel("time of a call, times asyncpg's pool (mean of five aggregates)")
    plt.legend(frameon=False)


DRAWN = {"scale": draw_scale, "tasks": draw_tasks, "field": draw_field}


def command(directory: Annotated[Path, typer.Argument(help="Where the figures are.")] = FIGURES) -> None:
    """Draw each picture whose figures are there."""
    for name, draw in DRAWN.items():
        source = directory / f"{name}.json"
        if not source.exists():
            print(f"{source} is not there: run bench/{name}.py --json")
            continue
        plt.figure()
        draw(json.loads(source.read_text()))
        plt.savefig(directory / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
        plt.close()


if __name__ == "__main__":
    typer.run(command)
