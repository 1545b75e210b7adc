"""A report as one HTML page, which needs nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from html import escape
from typing import TypeVar

from thea_store.admin.compliance.records import Act, ByFunction, Erased, Kept, Read, Reader, Report, Stored

__all__ = ["to_html"]

_COUNTED_FROM = {
    "deleted": "after it was deleted",
    "old": "after it was made",
    "inactive": "after the last activity; then it is closed",
}

_BOUND = (
    "A role that row security binds sees the rows of the tenant that its session names, and no others. The owner of "
    "the tables may lift it. A role that cannot log in gives its rights to its members: with each role stands what it "
    "may do itself, and as every other role that it may become. A function that runs as another role does what it was "
    "written for; what stands here is all that this other role may do."
)

_Row = TypeVar("_Row")

_ACTS = ("When", "What", "By", "Details")
_READS = ("By", "Query", "Times", "Last")

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; margin-bottom: 2rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid #ccc; }
td.number { text-align: right; }
"""


def to_html(report: Report) -> str:
    """The report in plain words, for a browser or for printing."""
    body = [
        f"<h1>What is kept of {_text(report.tenant)}</h1>",
        f"<p>From the database {_text(report.database)}, as of {_moment(report.made_at)}.{_status(report)}</p>",
        "<h2>What is stored, and for how long</h2>",
        _table(("Table", "Rows", "Oldest", "Newest", "Kept", "Columns"), map(_stored, report.stored)),
        "<h2>Who may see and change it</h2>",
        f"<p>{_BOUND}</p>",
        _table(("Role", "Logs in", "Row security", "Reads", "Changes", "By functions"), map(_reader, report.readers)),
        "<h2>Who was erased</h2>",
        *_erasures(report),
        "<h2>Who administered</h2>",
        f"<p>For how long entries are kept: {_kept(report.acts_kept, 'for ever')}.</p>",
        *_newest(_ACTS, report.acts, report.acts_in_all, _act, "Nothing was done."),
        "<h2>Who read</h2>",
        "<p>Each export of the tenant is noted, and each read where its settings say <code>log_reads</code>.</p>",
        f"<p>For how long entries are kept: {_kept(report.reads_kept, 'for ever')}.</p>",
        *_newest(_READS, report.reads, report.reads_in_all, _read, "No read was noted."),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>What is kept of {_text(report.tenant)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _status(report: Report) -> str:
    return f" In the directory of tenants it is {_text(report.status)}." if report.status else ""


def _erasures(report: Report) -> Iterator[str]:
    if not report.erased:
        yield "<p>Nobody was erased.</p>"
        return
    if report.erased_in_all > len(report.erased):
        yield f"<p>The newest {len(report.erased):,} of {report.erased_in_all:,} certificates.</p>"
    yield _table(("When", "User", "By", "Reason"), map(_erased, report.erased))


def _newest(
    heads: Iterable[str], rows: tuple[_Row, ...] | None, in_all: int, cells: Callable[[_Row], Iterator[str]], none: str
) -> Iterator[str]:
    if rows is None:
        yield "<p>Not read: it needs a login in thea_auditor.</p>"
    elif not rows:
        yield f"<p>{none}</p>"
    else:
        yield f"<p>The newest {len(rows):,}; there are {in_all:,} entries in all.</p>"
        yield _table(heads, map(cells, rows))


def _act(act: Act) -> Iterator[str]:
    yield _cell(_moment(act.at))
    yield _cell(_text(act.action))
    yield _cell(_who(act.login, act.actor))
    yield _cell(_text(json.dumps(act.details, ensure_ascii=False)))


def _read(read: Read) -> Iterator[str]:
    yield _cell(_who(read.login, read.actor))
    yield _cell(_text(read.query))
    yield f'<td class="number">{read.times:,}</td>'
    yield _cell(_moment(read.last))


def _who(login: str, actor: str | None) -> str:
    return _text(f"{actor}, by {login}" if actor else login)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{each}</th>" for each in heads)
    lines = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>"


def _stored(stored: Stored) -> Iterator[str]:
    about = f"<br><small>{_text(stored.about)}</small>" if stored.about else ""
    yield f"<td>{_text(stored.table)}{about}</td>"
    yield f'<td class="number">{stored.rows:,}</td>'
    yield _cell(_moment(stored.oldest))
    yield _cell(_moment(stored.newest))
    yield _cell(_kept(stored.kept))
    yield _cell(_text(", ".join(stored.columns)))


def _kept(policies: tuple[Kept, ...] | None, otherwise: str = "until somebody removes it") -> str:
    if policies is None:
        return "not read: it needs a login in thea_auditor, or DATABASE_MIGRATOR_URL"
    return "<br>".join(_policy(each) for each in policies) or otherwise


def _policy(kept: Kept) -> str:
    whose = " (this tenant's own)" if kept.of_tenant else ""
    if kept.keep is None:
        return f"for ever, by the rule {_text(kept.rule)}{whose}"
    return f"{_text(str(kept.keep))} {_text(_COUNTED_FROM.get(kept.rule, kept.rule))}{whose}"


def _reader(reader: Reader) -> Iterator[str]:
    yield _cell(_text(reader.role))
    yield _cell("yes" if reader.logs_in else "no")
    bound = "binds it, and it may lift it" if reader.owns else "binds it"
    yield _cell("does not bind it" if reader.unbound else bound)
    yield _cell(_text(", ".join(reader.reads)) or "nothing")
    yield _cell(_text(", ".join(reader.changes)) or "nothing")
    yield _cell("<br>".join(map(_by_function, reader.by_functions)) or "nothing more")


def _by_function(by: ByFunction) -> str:
    does = [f"{what} {', '.join(tables)}" for what, tables in (("reads", by.reads), ("changes", by.changes)) if tables]
    return _text(f"{by.function}, as {by.runs_as}, which {' and '.join(does)}")


def _erased(erased: Erased) -> Iterator[str]:
    yield _cell(_moment(erased.at))
    yield _cell(str(erased.user_id))
    yield _cell(_text(erased.actor or erased.login))
    yield _cell(_text(erased.reason))


def _cell(content: str) -> str:
    return f"<td>{content}</td>"


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M %Z}" if moment else "none"


def _text(text: str) -> str:
    return escape(text)
