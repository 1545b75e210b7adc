"""Other forms of a word, which no stemmer finds: what a search looks for besides the word that was typed.

The stems in the index join most forms: `casas` and `casa`, `comió` and `comer`. Here is what they miss, all of it as
words or stems that are looked for exactly as they are: irregular verbs (`verb_families`), the spelling of regular ones
(`busqué`, `empecé`), pronouns behind a verb (`quédate`), endings that the stemmer cuts in two places (`inició`,
`significa`, `hermosas`), plurals in -ces, diminutives, adverbs in -mente, and verbs of which the accent was not typed.
Words that do not exist among them do no harm, because no note has them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from thea_store.assistant.verb_families import family_of

__all__ = ["related"]

_AT_MOST = 64
"""The database looks for no more of them."""


# Punctuation that stands before or after a word.
_EDGES = re.compile(r"^\W+|\W+$")


def related(word: str) -> list[str]:
    """Other forms of the word, in lower case and without accents; empty for most words."""
    plain = _EDGES.sub("", _plain(word))
    forms = dict.fromkeys([*family_of(plain), *_spelled(plain)])
    for verb in _without_pronouns(plain, is_stressed=plain != _EDGES.sub("", word.lower())):
        forms |= dict.fromkeys([verb, *family_of(verb)])
    forms.pop(plain, None)
    return list(forms)[:_AT_MOST]


def _plain(word: str) -> str:
    decomposed = unicodedata.normalize("NFKD", word.lower())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


# --- Spanish spelling -----------------------------------------------------------------------------

# Endings of regular verbs before which their last consonant is written in one way, and in the other.
_A_O = ("ar", "o", "as", "a", "amos", "an", "aste", "aron", "aba", "aban", "are", "ara", "aria", "ando", "ado", "ada")
_FUTURE = "(e|as|a|emos|an|ia|ias|iamos|ian)"
_BEFORE_A_O = re.compile(f"(ar|o|as|a|amos|ais|an|aste|aron|aba(s|mos|n)?|ar{_FUTURE}|ando|ad[oa]s?)$")
_E = ("e", "es", "emos", "en")
_ER_IR = ("er", "ir", "e", "es", "emos", "imos", "en", "i", "io", "ieron", "ia", "ian", "iendo", "ido")
_BEFORE_E_I = re.compile(f"(er|ir|e|es|emos|imos|en|i|iste|io|ieron|ia(s|mos|n)?|iendo|id[oa]s?|[ei]r{_FUTURE})$")
_O_A = ("o", "a", "as", "amos", "an")

# What ends like a diminutive, and is none.
_NO_DIMINUTIVES_TEXT = """
visita visitas cita citas escrito escrita escritos escritas favorito favorita favoritos favoritas delito delitos
exito exitos grito gritos requisito requisitos deposito depositos credito creditos debito merito meritos habito
habitos ambito ambitos apetito circuito circuitos distrito distritos infinito manuscrito transito proposito
propositos gratuito gratuita gratuitos gratuitas fortuito ermita ermitas orbita orbitas margarita margaritas bonito
bonita bonitos bonitas mosquito mosquitos exquisito exquisita inedito inscrito inscrita descrito descrita bendito
bendita maldito maldita necesita necesitas solicita solicitas permita permitas evita evitas invita invitas edita
editas limita limitas grita gritas quita quitas habita agita irrita imita recita finito granito granitos contrito
politica critica mito mitos rito ritos pita pitas rita pepita pepitas cabrito meteorito satelite
"""
_NO_DIMINUTIVES = frozenset(_NO_DIMINUTIVES_TEXT.split())


def _spelled(word: str) -> list[str]:
    if len(word) < 3 or not word.isascii() or not word.isalpha():  # noqa: PLR2004 - shorter words have no endings
        return []
    return [*_plural(word), *_verb(word), *_stems(word), *_gender(word), *_diminutives(word), *_adverb(word)]


def _plural(word: str) -> list[str]:
    if word.endswith("ces"):
        return [f"{word[:-3]}z"]
    if word.endswith("us"):  # `menus`, whose accent the stemmer needs
        return [word[:-1]]
    return [f"{word[:-1]}ces"] if word.endswith("z") else [f"{word}s"] if word.endswith("u") else []


def _verb(word: str) -> list[str]:
    """`buscar` and `busque`, `empezar` and `empece`, `coger` and `cojo`, `conocer` and `conozco`."""
    found: list[str] = []
    if word.endswith(("ar", "er", "ir")):
        found += [f"{word}te", f"{word}melo", f"{word}telo"]
        found += (
            [f"{word[:-1]}{pronoun}" for pronoun in ("me", "te", "nos", "lo", "la", "le")] if word[-2] != "i" else []
        )
    if before := _BEFORE_A_O.search(word):
        stem = word[: before.start()]
        found += _with(stem, "c", "qu", _E) + _with(stem, "z", "c", _E) + _with(stem, "g", "gu", _E)
        found += _with(stem, "zc", "c", _ER_IR) + _with(stem, "j", "g", _ER_IR)
    if before := _BEFORE_E_I.search(word):
        stem = word[: before.start()]
        found += _with(stem, "qu", "c", _A_O) + _with(stem, "gu", "g", _A_O)
        if before.group() in _E:
            found += _with(stem, "c", "z", _A_O)
        found += _with(stem, "c", "zc", _O_A) + _with(stem, "g", "j", _O_A)
    if word.endswith(("er", "ir")):
        found += [f"{word[:-2]}{ending}" for ending in ("i", "io", "ia", "ias", "iamos", "ian")]
    if word.endswith("io"):
        found += [f"{word[:-2]}{ending}" for ending in ("er", "ir", "e", "en", "ia", "ian", "ido", "iendo", "ieron")]
    return found


def _with(stem: str, old: str, new: str, endings: Sequence[str]) -> list[str]:
    """The stem with another last consonant, where it has this one after a letter, with each ending."""
    if not stem.endswith(old) or len(stem) == len(old):
        return []
    return [f"{stem[: -len(old)]}{new}{ending}" for ending in endings]


_DIMINUTIVE = re.compile(r"(?P<stem>[a-z]{2,}?)(?P<between>e?c|)it(?P<ending>[oa]s?)$|(?P<small>[a-z]{2,})ecill[oa]s?$")
_NOUN = re.compile(r"(?P<stem>[a-z]{2,})(?P<ending>[oa]s?)$")
_ONE_SYLLABLE = re.compile(r"[^aeiou]*[aeiou]{1,2}[lnrsz]$")


def _diminutives(word: str) -> list[str]:
    """`casita` and `casa`, `amiguito` and `amigo`, `cafecito` and `cafe`, `lucecita` and `luz`."""
    if word in _NO_DIMINUTIVES:
        return []
    if small := _DIMINUTIVE.match(word):
        return _of_diminutive(small)
    if word.endswith("mente"):
        return []
    made: list[str] = []
    if noun := _NOUN.match(word):
        stem = re.sub("z$", "c", re.sub("c$", "qu", re.sub("g$", "gu", noun["stem"])))
        made = [f"{stem}it{ending}" for ending in ("o", "os", "a", "as")]
        if "ie" in stem or "ue" in stem:
            made += [f"{stem}ecit{ending}" for ending in ("o", "os", "a", "as")]
    elif word.endswith("e"):
        made = [f"{word}cito", f"{word}cita"]
    elif _ONE_SYLLABLE.match(word):
        stem = re.sub("z$", "c", word)
        made = [f"{stem}{ending}" for ending in ("ecito", "ecita", "ecitos", "ecitas", "ecillo", "cito", "cita")]
    elif word.endswith(("l", "s", "z")):
        made = [f"{word}ito", f"{word}ita"]
    elif word.endswith(("n", "r")):
        made = [f"{word}cito", f"{word}cita", f"{word}citos", f"{word}citas"]
    return [one for one in made if one not in _NO_DIMINUTIVES]


def _of_diminutive(small: re.Match[str]) -> list[str]:
    """The words that it may be made of."""
    if small["small"]:
        stem = re.sub("c$", "z", small["small"])
        return [stem, f"{stem}es", f"{stem}o", f"{stem}a"]
    stem, between, gender = small["stem"], small["between"], small["ending"][0]
    whole = re.sub("qu$", "c", re.sub("gu$", "g", stem))
    forms = [f"{whole}{gender}", f"{whole}{gender}s", stem, f"{stem}s", f"{stem}e", f"{stem}es"]
    if between == "c":
        forms += [f"{stem}z{gender}", f"{stem}z{gender}s"]
    elif between:
        forms += [f"{stem}e", re.sub("c$", "z", stem)]
    return forms


def _adverb(word: str) -> list[str]:
    if word.endswith("mente"):
        stem = word.removesuffix("mente")
        return [stem, f"{stem[:-1]}o"] if stem.endswith("a") else [stem]
    return [f"{word[:-1]}amente"] if word.endswith(("o", "a")) else [f"{word}mente"]


# --- what the stemmer cuts in two places ----------------------------------------------------------

_LONG_STEM = 4
"""A stem of fewer letters may be a word of its own."""

_VERB = re.compile(
    r"(?P<stem>[a-z]{3,}?)"
    r"(?P<ending>ar|o|as?|amos|an|aste|aron|aba(s|mos|n)?|ar(e|as?|an|emos|ia[sn]?|iamos)|ando|ad[oa]s?|es?|en|emos)$"
)
# `prepara` and `significa`, which the stemmer takes for `prep` and `signif`.
_PRESENT = re.compile(r"(?P<stem>[a-z]{2,}(ar|ic))(as?|an)$")
_GENDER = re.compile(r"(?P<stem>[a-z]{2,}(er|os|e|iv|ic))(o|a|os|as)$")


def _stems(word: str) -> list[str]:
    """The other stem of verbs in -iar, -icar, -arar and -ear, of which the stemmer cuts the forms differently."""
    if word.endswith("io"):  # it is `inició` without its accent, or a noun
        return [word[:-1], f"{word[:-1]}ar"] if len(word) > _LONG_STEM else []
    if not (verb := _VERB.match(word)):
        return []
    stem = verb["stem"]
    found: list[str] = []
    for whole, ends in (("i", "i"), ("ic", "ic"), ("ar", "ar"), ("e", "e")):
        if stem.endswith(ends) and len(stem) - len(ends) >= _LONG_STEM - 1:
            found += _both(stem.removesuffix(ends), whole, verb["ending"])
    if present := _PRESENT.match(word):
        found += [f"{present['stem']}{ending}" for ending in ("", "ar", "o", "ado", "ando")]
    return found


def _both(short: str, whole: str, ending: str) -> list[str]:
    if whole == "i" and ending in {"o", "a", "as"}:  # more often a noun, or a name: `María` is no form of `Mario`
        return [f"{short}i{form}" for form in ("ar", "ado", "ando")]
    forms = [f"{short}{whole}{form}" for form in ("", "ar", "o", "a", "an", "as", "en")]
    if whole == "i":
        forms += [f"{short}io", f"{short}ie"]
    return [*forms, short] if len(short) >= _LONG_STEM else forms


def _gender(word: str) -> list[str]:
    """`financiero` and `financieras`, `hermosas` and `hermoso`: of these the stemmer takes some for verbs."""
    if not (match := _GENDER.match(word)):
        return []
    return [f"{match['stem']}{ending}" for ending in ("o", "a", "os", "as")]


# --- pronouns behind a verb ------------------------------------------------------------------------

_PRONOUNS = "(me|te|se|nos|os|lo|la|los|las|le|les)"
_BEHIND_INFINITIVE = re.compile(rf"(?P<verb>[a-z]{{2,}}(ar|er|ir|ando|iendo|yendo)){_PRONOUNS}{{1,2}}$")
# Without an accent, few are sure to be no part of the word.
_BEHIND_IMPERATIVE = re.compile(rf"(?P<verb>[a-z]{{3,}}[ae]){_PRONOUNS}{{1,2}}$")
_SURE = re.compile(r"(?P<verb>[a-z]{3,}[ae])(me|te|(me|te|se|nos)(lo|la|los|las))$")
_NO_IMPERATIVES = frozenset({"tomate", "remate", "debate", "empate", "combate"})


def _without_pronouns(word: str, *, is_stressed: bool) -> list[str]:
    """The verb that the pronouns stand behind, and its infinitive: `quedar` of `quédate`; empty for most words."""
    if match := _BEHIND_INFINITIVE.match(word):
        verb = match["verb"]
        stem = re.sub("(ar|er|ir|ando|[iy]endo)$", "", verb)
        imperative = [f"{verb[:-1]}te"] if verb.endswith(("ar", "er")) else []
        return [verb, *imperative, *([stem] if len(stem) >= _LONG_STEM else [])]
    match = (_BEHIND_IMPERATIVE if is_stressed else _SURE).match(word)
    if not match or word in _NO_IMPERATIVES:
        return []
    verb = match["verb"]
    stems = [verb[:-1]] if len(verb) > _LONG_STEM else []
    return [verb, f"{verb}r", *stems, *([f"{verb[:-1]}ir"] if verb.endswith("e") else [])]
