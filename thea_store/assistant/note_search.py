"""What a user types to search notes, taken apart: alternatives of terms, in the syntax of web searches.

`"several words"` must stand together, in this order, as written; `-word` and `-"several words"` must not be
there; `or` stands between alternatives; every other word must be there in any of its forms, which the server
knows together with `word_families`, and the last one may be the beginning of a word. What people see as one and is
several words, such as `AB-2031-7`, must be there with its words side by side, or in one as `ab20317`. What has no
meaning by these rules is taken for words, so every text is a query.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from typing_extensions import TypedDict

from thea_store.assistant.word_families import related

__all__ = ["Term", "parse"]

# So that the time of a search has a bound: what is beyond is not looked for.
_CHARACTERS, _TERMS, _RELATED = 256, 16, 200

_TOKEN = re.compile(r'(?P<minus>-?)"(?P<phrase>[^"]*)(?P<end>"?)|(?P<no>-(?=[^\s"-]))?(?P<words>[^\s"]+)')
# What telephones and Spanish typists write.
_QUOTES = str.maketrans(dict.fromkeys("“”„«»", '"'))


class Term(TypedDict):
    """Words that must be there, or must not (`negated`)."""

    words: str
    phrase: bool
    """They stand together, in this order, as written."""
    prefix: bool
    """They may be the beginnings of words."""
    negated: bool
    related: list[str]
    """Other forms of the word, any of which will do as well; empty for phrases."""


def parse(query: str) -> list[list[Term]]:
    """The alternatives, each a list of terms that must all match; empty when there is no word."""
    terms = list(_terms(query[:_CHARACTERS].translate(_QUOTES)))
    if terms and not terms[-1]["phrase"] and not terms[-1]["negated"]:
        terms[-1]["prefix"] = True
    return _alternatives(terms)


def _terms(text: str) -> Iterator[Term]:
    forms_left = _RELATED
    for token in _TOKEN.finditer(text):
        words = token["words"] or token["phrase"] or ""
        if not any(character.isalnum() for character in words):
            continue  # marks and signs alone, which no note is found by
        is_phrase, is_negated = token["words"] is None, bool(token["minus"] or token["no"])
        is_open = is_phrase and not token["end"]  # still being typed
        forms = [] if is_phrase else related(words)[:forms_left]
        forms_left -= len(forms)
        yield Term(
            words=words,
            phrase=is_phrase,
            prefix=is_open and not is_negated,
            negated=is_negated,
            related=forms,
        )


def _alternatives(terms: Sequence[Term]) -> list[list[Term]]:
    groups: list[list[Term]] = [[]]
    count = 0
    for place, term in enumerate(terms):
        is_between = groups[-1] and place < len(terms) - 1
        if is_between and _is_or(term):
            groups.append([])
        elif count < _TERMS:
            groups[-1].append(term)
            count += 1
    return [group for group in groups if group]


def _is_or(term: Term) -> bool:
    return term["words"].lower() == "or" and not (term["phrase"] or term["negated"])
