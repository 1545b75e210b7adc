"""What a user types to search notes, taken apart: alternatives of terms, in the syntax of web searches.

`"several words"` must stand together, in this order, as written; `-word` and `-"several words"` must not be
there; `or` stands between alternatives; every other word must be there in any of its forms, which the server
knows together with `word_families`, and the last one may be the beginning of a word. What people see as one and is
several words, such as `AB-2031-7`, must be there with its words side by side, or in one as `ab20317`; a telephone
number that is typed with blanks may be there in one, too. What has no meaning by these rules is taken for words, so
every text is a query.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from typing_extensions import TypedDict

from thea_store.assistant.word_families import related

__all__ = ["Term", "parse"]

# So that the time of a search has a bound: what is beyond is not looked for.
_CHARACTERS, _TERMS, _RELATED = 256, 16, 200

_TOKEN = re.compile(r'(?P<minus>-?)"(?P<phrase>[^"]*)(?P<end>"?)|(?P<no>-(?=[^\s"-]))?(?P<words>[^\s"]+)')
# A part of a telephone number, and how many figures one has (ITU-T E.164).
_FIGURES, _NUMBER = re.compile(r"\+?[0-9()./-]+"), range(7, 16)
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
    groups = _alternatives(terms)
    return groups + list(_with_numbers_in_one(groups))


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


def _with_numbers_in_one(groups: Sequence[list[Term]]) -> Iterator[list[Term]]:
    """Each group that has a telephone number with blanks in it, with the number in one: `+34 600 123 456`."""
    left = _TERMS - sum(map(len, groups))
    for group in groups:
        found: list[Term] = []
        for is_group, terms in groupby(group, _is_figures):
            run = list(terms)
            figures = "".join(character for term in run for character in term["words"] if character.isdigit())
            if is_group and len(run) > 1 and len(figures) in _NUMBER:
                run = [Term(words=figures, phrase=False, prefix=run[-1]["prefix"], negated=False, related=[])]
            found += run
        if len(found) < len(group) and len(found) <= left:
            left -= len(found)
            yield found


def _is_figures(term: Term) -> bool:
    return not (term["phrase"] or term["negated"]) and _FIGURES.fullmatch(term["words"]) is not None


def _is_or(term: Term) -> bool:
    return term["words"].lower() == "or" and not (term["phrase"] or term["negated"])
