"""Ways in which a value may slip out, for the proof that the net catches them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable

from tests.secrets.arguments import Alien
from tests.secrets.caught import Caught
from tests.support.calls import NOW
from thea_store import DuplicateError, StoreError

_log = logging.getLogger("a.service")

SLIPS: dict[str, Callable[[Caught], object]] = {
    "a log line": lambda caught: _log.debug("%s", caught.marks.text),
    "a log line's argument": lambda caught: _log.debug("%.3s", caught.marks.text),
    "a logged traceback": lambda caught: _log.error("failed", exc_info=KeyError(caught.marks.text)),
    "a number": lambda caught: _log.info("telegram_id=%d", caught.marks.first_number),
    "an id": lambda caught: _log.info("user %d is new", caught.marks.first_id + 17),
    "a time": lambda caught: _log.info("at %s", NOW.replace(microsecond=caught.marks.microsecond)),
    "the tenant": lambda caught: _log.info("of %s", caught.marks.tenant),
    "a password": lambda caught: _log.info("with %s", caught.marks.password),
    "an encoded password": lambda caught: _log.info("postgresql://u:%s@h", caught.marks.encoded),
    "a warning": lambda caught: warnings.warn(caught.marks.text, stacklevel=1),
    "an error": lambda caught: caught.error(StoreError(caught.marks.text)),
    "an error's cause": lambda caught: caught.error(_chained(cause=ValueError(caught.marks.text))),
    "an error's context": lambda caught: caught.error(_chained(context=ValueError(caught.marks.text))),
    "an error's attribute": lambda caught: caught.error(DuplicateError("", [caught.marks.text])),
    "an error's note": lambda caught: caught.error(_noted(caught.marks.text)),
    "a statement": lambda caught: caught.statement(f"set local app.actor = E'x'; select '{caught.marks.text}'"),
    "a `repr`": lambda caught: caught.object([Alien(caught.marks.text)]),
}


def _chained(cause: Exception | None = None, context: Exception | None = None) -> StoreError:
    error = StoreError()
    error.__cause__, error.__context__, error.__suppress_context__ = cause, context, True
    return error


def _noted(note: str) -> StoreError:
    error = StoreError()
    error.add_note(note)
    return error
