"""Values that must not come out, and a net that catches all that does."""

from __future__ import annotations

import itertools
import logging
import pickle
import random
import re
import sys
import traceback
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pprint import pformat
from urllib.parse import quote

from rich.pretty import pretty_repr

from thea_store import StoreError

_SETTING = re.compile(r"set (?:local )?app\.(?:tenant_id|actor|request_id) = E'[^']*'")


@dataclass(frozen=True)
class Marks:
    """Values that nothing else has, in forms that are found in a part of themselves, too.

    A text is a word repeated, so that one cut short still has it. A number begins with digits of its own.
    """

    word: str = field(default_factory=lambda: f"zq{uuid.uuid4().hex[:8]}")
    tenant: str = field(default_factory=lambda: f"mieter-{uuid.uuid4().hex[:8]}")
    secret: str = field(default_factory=lambda: f"pw{uuid.uuid4().hex[:8]}")
    is_given: bool = False
    """Whether the secret is the very password of a server that asks for it."""
    digits: int = field(default_factory=lambda: random.randrange(7_000_000, 8_000_000))
    ids: int = field(default_factory=lambda: random.randrange(8_000_000, 9_000_000))
    microsecond: int = field(default_factory=lambda: random.randrange(200_000, 999_999))

    @property
    def text(self) -> str:
        return " ".join([self.word] * 4)

    @property
    def password(self) -> str:
        """One that has to be written another way in a URL, where the server does not mind."""
        return self.secret if self.is_given else f"{self.secret}/?#@:[%ñ {self.secret}"

    @property
    def encoded(self) -> str:
        return quote(self.password, safe="")

    @property
    def first_number(self) -> int:
        return self.digits * 1000

    @property
    def first_id(self) -> int:
        return self.ids * 1000

    def numbers(self) -> Iterator[int]:
        return itertools.count(self.first_number)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        texts = f"{self.word}|{self.tenant}|{self.secret}"
        return re.compile(rf"{texts}|(?<![\w.])-?(?:{self.digits}|{self.ids})\d{{3,}}|(?<!\d){self.microsecond}(?!\d)")

    def shown_in(self, text: str) -> str | None:
        """The place in the text where one of the values stands; `None` where there is none."""
        found = self._pattern.search(text)
        return found and text[max(0, found.start() - 80) : found.end() + 80]


@dataclass
class Caught:
    """What came out, and where."""

    marks: Marks
    said: list[tuple[str, str]] = field(default_factory=list)

    @property
    def origins(self) -> Counter[str]:
        """How often something came from where."""
        return Counter(origin for origin, _ in self.said)

    def add(self, origin: str, text: str) -> None:
        self.said.append((origin, text))

    def error(self, error: BaseException, origin: str = "") -> None:
        """All that an error tells: itself, its attributes, and whatever it is chained to."""
        name = f"{origin} {type(error).__name__}"
        for one in chain(error):
            # As in a traceback, of which the rest are lines of source; it would take most of the tests' time.
            told = "".join(traceback.format_exception_only(one))
            self.add(f"{name}, {type(one).__name__} in its chain", f"{told}{one}\n{one!r}\n{one.args!r}\n{vars(one)!r}")
        if isinstance(error, StoreError):
            self.add(f"{name} pickled", repr(pickle.dumps(error)))

    def object(self, value: object) -> None:
        """What an object shows of itself, on a terminal and in a log line."""
        said = f"{value!r}\n{value!s}\n{value}\n{pformat(value)}\n{pretty_repr(value, expand_all=True)}"
        self.add(f"repr of {type(value).__name__}", said)

    def statement(self, text: str) -> None:
        """A statement as the server sees it, without what alone may stand in one: who works, for which tenant."""
        self.add("statement", _SETTING.sub("", text))

    def leaks(self) -> list[str]:
        """Each place where a value came out."""
        return [f"{origin}: …{shown}…" for origin, text in self.said if (shown := self.marks.shown_in(text))]


def chain(error: BaseException) -> list[BaseException]:
    """The error and all that it was raised from or during, be it shown in a traceback or not."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.append(one)
            inner = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
            waiting += [other for other in (one.__cause__, one.__context__, *inner) if other is not None]
    return found


class _Ear(logging.Handler):
    def __init__(self, caught: Caught) -> None:
        super().__init__(level=0)
        self._caught = caught
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(threadName)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        # The arguments too: some services send them on apart from the line.
        self._caught.add(f"log of {record.name}", f"{self.format(record)}\n{record.args!r}")
        if record.exc_info and record.exc_info[1] is not None:
            self._caught.error(record.exc_info[1], f"log of {record.name}:")


@contextmanager
def everything(caught: Caught) -> Iterator[None]:
    """Catch every log line of every level, every warning, and what Python says of errors that nobody took."""
    root, ear = logging.getLogger(), _Ear(caught)
    level, unraisable = root.level, sys.unraisablehook
    root.setLevel(1)
    root.addHandler(ear)
    sys.unraisablehook = lambda args: caught.error(args.exc_value or Exception(), f"unraisable {args.err_msg}")
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            yield
        for one in heard:
            caught.add("warning", f"{one.message} {one.message!r} {one.source!r}")
    finally:
        sys.unraisablehook = unraisable
        root.removeHandler(ear)
        root.setLevel(level)
