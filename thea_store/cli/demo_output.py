"""What the demonstration is shown with: scenes, spoken lines and figures, in any width and without colour."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

__all__ = ["DemoOutput"]

_WIDEST = 96
_INDENT = 2


class DemoOutput:
    """Prints to a console; every text is taken as it is, not as markup."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._width = min(self._console.width, _WIDEST)
        self._scenes = 0

    def title(self, text: str, below: str) -> None:
        """Open the play."""
        self._console.print()
        self._console.print(Text(text, style="bold"))
        self._console.print(Text(below, style="dim"), width=self._width)

    def scene(self, title: str) -> None:
        """Begin the next scene."""
        self._scenes += 1
        self._console.print()
        heading = Text.assemble((f"{self._scenes}  ", "bold cyan"), (title, "bold"))
        self._console.print(Rule(heading, align="left", style="dim"), width=self._width)

    def tell(self, text: str) -> None:
        """Narrate."""
        self._console.print(_indented(Text(text)), width=self._width)

    def note(self, text: str) -> None:
        """Add what went on behind the scene."""
        self._console.print(_indented(Text(text, style="dim")), width=self._width)

    def gap(self) -> None:
        """Leave a line."""
        self._console.print()

    def dialogue(self, lines: Iterable[tuple[str, str]], *, assistant: str) -> None:
        """Print who says what."""
        grid = _grid()
        grid.add_column(justify="right", no_wrap=True, max_width=14)
        grid.add_column(overflow="fold")
        for name, said in lines:
            style = "magenta" if name == assistant else "green"
            grid.add_row(Text(name, style=style), Text(said))
        self._console.print(_indented(grid), width=self._width)

    def figures(self, rows: Iterable[tuple[str, str]], *, style: str = "cyan") -> None:
        """Print what was asked, and the answer."""
        grid = _grid()
        grid.add_column(overflow="fold")
        grid.add_column(overflow="fold")
        for name, value in rows:
            grid.add_row(Text(name), Text(value, style=style))
        self._console.print(_indented(grid), width=self._width)


def _grid() -> Table:
    return Table.grid(padding=(0, 2))


def _indented(shown: RenderableType) -> Padding:
    return Padding(shown, (0, 0, 0, _INDENT), expand=False)
