"""The syntax of searches, without a server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thea_store.assistant.note_search import parse
from thea_store.assistant.word_families import related

MARKS = st.text(alphabet=' -"“”«»abcñ日or\t\n\u0301🦙', max_size=400)


def shown(query: str) -> str:
    """The alternatives as one line: `a* b | -"c d"`."""

    def term(parsed: Any) -> str:
        words = f'"{parsed["words"]}"' if parsed["phrase"] else parsed["words"]
        return f"{'-' if parsed['negated'] else ''}{words}{'*' if parsed['prefix'] else ''}"

    return " | ".join(" ".join(map(term, group)) for group in parse(query))


@pytest.mark.parametrize(
    ("query", "parsed"),
    [
        ("casa", "casa*"),
        ("  casa\t campo \n", "casa campo*"),
        ('"casa de campo" médico', '"casa de campo" médico*'),
        ('médico "casa de campo"', 'médico "casa de campo"'),
        ('médico "casa de ca', 'médico "casa de ca"*'),
        ("“casa de campo” «en venta» x", '"casa de campo" "en venta" x*'),
        ('sol"casa rural"mar', 'sol "casa rural" mar*'),
        ("casa -campo", "casa -campo"),
        ("-campo casa", "-campo casa*"),
        ('casa -"de campo"', 'casa -"de campo"'),
        ('casa -"de cam', 'casa -"de cam"'),
        ("casa - campo", "casa campo*"),
        ("fin-de-semana", "fin-de-semana*"),
        ("git --force", "git --force*"),
        ("casa or campo", "casa | campo*"),
        ("casa OR campo mar or -sol", "casa | campo mar | -sol"),
        ("or casa", "or casa*"),
        ("casa or", "casa or*"),
        ("or", "or*"),
        ("casa or or campo", "casa | or campo*"),
        ('casa "or" campo', 'casa "or" campo*'),
        ("casa -or campo", "casa -or campo*"),
        ("casa or ---", "casa or*"),
        ("¿casa? !!! 🦙", "¿casa?*"),
        ("a:* & !b | (c)", "a:* !b (c)*"),
        ("+34 600 123 456", "+34 600 123 456* | 34600123456*"),
        ("llama al 600-12 34 56 hoy", "llama al 600-12 34 56 hoy* | llama al 600123456 hoy*"),
        ("12 10", "12 10*"),
        ("600 -123 456", "600 -123 456*"),
        ("2026 2027 2028 2029", "2026 2027 2028 2029*"),
        ("", ""),
        ('- -- " "" -"" ¡! …', ""),
    ],
)
def test_a_query_is_taken_apart(query: str, parsed: str) -> None:
    assert shown(query) == parsed


def test_the_first_256_characters_count() -> None:
    assert shown("a" * 300) == "a" * 256 + "*"
    assert shown("-" * 20_000) == ""


def test_the_first_16_terms_count() -> None:
    assert shown(" ".join("abcdefghijklmnopqrst")) == " ".join("abcdefghijklmnop")
    assert shown(" or ".join("abcdefghijklmnopqrst")) == " | ".join("abcdefghijklmnop")


@given(query=MARKS | st.text())
def test_any_text_is_a_query_of_few_terms_each_with_a_letter_of_it(query: str) -> None:
    groups = parse(query)
    terms = [term for group in groups for term in group]

    assert all(groups)
    assert len(terms) <= 16
    for term in terms:
        assert any(character.isalnum() for character in term["words"])
        assert '"' not in term["words"]
        assert term["phrase"] or not any(character.isspace() for character in term["words"])
        assert not (term["prefix"] and term["negated"])
    assert all(not term["prefix"] for term in terms[:-1])


@pytest.mark.parametrize(
    ("word", "forms"),
    [
        ("raíces", {"raiz"}),
        ("RAÍZ", {"raices"}),
        ("buscar", {"busque", "busquemos"}),
        ("¿busqué?", {"buscar", "buscaba"}),
        ("empezó", {"empiece", "empezar", "empieza"}),
        ("dirijo", {"dirigir"}),
        ("puedo", {"poder", "pudo", "podria"}),
        ("comio", {"comer", "comiendo"}),
        ("comer", {"comio"}),
        ("casita", {"casa"}),
        ("amigo", {"amiguito"}),
        ("taza", {"tacita"}),
        ("lucecitas", {"luz"}),
        ("trencito", {"tren"}),
        ("corazón", {"corazoncito"}),
        ("puebla", {"pueblecita"}),
        ("panecillo", {"pan"}),
        ("rápidamente", {"rapido"}),
        ("went", {"go", "gone"}),
        ("children", {"child"}),
        ("obtuvo", {"obtener", "obtengo"}),
        ("convierte", {"convertir", "convirtio"}),
        ("¡Quédate!", {"quedar"}),
        ("llámalo", {"llamar"}),
        ("recordar", {"recuerdame"}),
        ("decírmelo", {"decir", "dijo"}),
        ("iniciar", {"inic"}),
        ("significa", {"signific"}),
        ("financiera", {"financiero"}),
        ("entrar", {"entro"}),
        ("older", {"old", "oldest"}),
    ],
)
def test_a_word_has_forms_that_no_stemmer_knows(word: str, forms: set[str]) -> None:
    assert forms <= set(related(word))


@pytest.mark.parametrize(
    ("word", "other"),
    [
        ("vino", "venir"), ("visita", "visa"), ("cita", "ca"), ("left", "leave"), ("tomate", "tomar"),
        ("regalo", "regar"), ("italianos", "italia"), ("María", "mario"), ("año", "ana"), ("entrar", "entre"),
        ("unir", "una"), ("acta", "acto"),
    ],
)  # fmt: skip
def test_what_is_another_word_is_not_taken_for_a_form(word: str, other: str) -> None:
    assert other not in related(word)


def test_a_query_asks_for_at_most_200_other_forms() -> None:
    [terms] = parse("puedo tengo hago pongo quiero traigo salgo pido sigo duermo vengo digo")

    assert len(terms) == 12
    assert sum(len(term["related"]) for term in terms) == 200


@given(word=st.text(max_size=40))
def test_any_word_has_few_forms_and_never_itself(word: str) -> None:
    forms = related(word)

    assert len(forms) == len(set(forms)) <= 64
    assert all(form.isascii() and form.isalpha() and form != word for form in forms)
