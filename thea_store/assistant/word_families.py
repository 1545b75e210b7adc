"""Other forms of a word, which no stemmer finds: what a search looks for besides the word that was typed.

The stems in the index join most forms: `casas` and `casa`, `comió` and `comer`. Here is what they miss, all of it as
words that are looked for exactly as they are: irregular verbs, the spelling of regular ones (`busqué`, `empecé`),
plurals in -ces, diminutives, adverbs in -mente, and verbs of which the accent was not typed. Words that do not exist
among them do no harm, because no note has them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

__all__ = ["related"]

_AT_MOST = 64
"""The database looks for no more of them."""


# Punctuation that stands before or after a word.
_EDGES = re.compile(r"^\W+|\W+$")


def related(word: str) -> list[str]:
    """Other forms of the word, in lower case and without accents; empty for most words."""
    plain = _EDGES.sub("", _plain(word))
    forms = dict.fromkeys([*_families().get(plain, ()), *_spelled(plain)])
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
    return [*_plural(word), *_verb(word), *_diminutives(word), *_adverb(word)]


def _plural(word: str) -> list[str]:
    if word.endswith("ces"):
        return [f"{word[:-3]}z"]
    if word.endswith("us"):  # `menus`, whose accent the stemmer needs
        return [word[:-1]]
    return [f"{word[:-1]}ces"] if word.endswith("z") else [f"{word}s"] if word.endswith("u") else []


def _verb(word: str) -> list[str]:
    """`buscar` and `busque`, `empezar` and `empece`, `coger` and `cojo`, `conocer` and `conozco`."""
    found: list[str] = []
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


_DIMINUTIVE = re.compile(r"(?P<stem>[a-z]{2,}?)(?P<c>c?)it(?P<ending>[oa]s?)$")
_NOUN = re.compile(r"(?P<stem>[a-z]{2,})(?P<ending>[oa]s?)$")


def _diminutives(word: str) -> list[str]:
    """`casita` and `casa`, `amiguito` and `amigo`, `hotelito` and `hotel`, `cafecito` and `cafe`."""
    if word in _NO_DIMINUTIVES:
        return []
    if small := _DIMINUTIVE.match(word):
        stem = small["stem"]
        whole = re.sub(r"qu$", "c", re.sub(r"gu$", "g", stem))
        gender = small["ending"][0]
        return [f"{whole}{gender}", f"{whole}{gender}s", stem, f"{stem}s", f"{stem}e", f"{stem}es"]
    if word.endswith("mente"):
        return []
    if noun := _NOUN.match(word):
        stem = re.sub(r"c$", "qu", re.sub(r"g$", "gu", noun["stem"]))
        made = [f"{stem}it{ending}" for ending in ("o", "os", "a", "as")]
    elif word.endswith("e"):
        made = [f"{word}cito", f"{word}cita"]
    elif word.endswith(("l", "s", "z")):
        made = [f"{word}ito", f"{word}ita"]
    else:
        return []
    return [one for one in made if one not in _NO_DIMINUTIVES]


def _adverb(word: str) -> list[str]:
    if word.endswith("mente"):
        stem = word.removesuffix("mente")
        return [stem, f"{stem[:-1]}o"] if stem.endswith("a") else [stem]
    return [f"{word[:-1]}amente"] if word.endswith(("o", "a")) else [f"{word}mente"]


# --- irregular words ------------------------------------------------------------------------------

# Endings by their letter in the tables below: a, e: the present of verbs in -ar and of others; d, s: their subjunctive;
# p, j, r: the preterite and what goes by it; f: the future and the conditional; A, n, N: what is regular of verbs in
# -ar, -er and -ir.
_ENDINGS = {
    "a": "o as a an",
    "e": "o es e en",
    "d": "e es en",
    "s": "a as amos an",
    "p": "e iste o imos ieron iera ieran iese",
    "j": "e iste o imos eron era eran ese",
    "r": "io ieron iendo iera ieran iese",
    "f": "e as a emos an ia ias iamos ian",
    "n": "er emos ia ias iamos ian ido iendo i iste io imos ieron iera ieran",
    "N": "ir imos ia ias iamos ian ido i iste",
    "A": "ar amos aba abas abamos aban ado ando e aste o aron are ara aria emos",
}
# A family of forms ends at a semicolon. `pued<e` is the stem `pued` with each of the endings `e`.
_SPANISH = """
pens<A piens<a piens<d; cerr<A cierr<a cierr<d; empez<A empiez<a empiec<d empec<d; comenz<A comienz<a comienc<d;
recomend<A recomiend<a recomiend<d; sent<A sient<a sient<d; despert<A despiert<a despiert<d; calent<A calient<a;
record<A recuerd<a recuerd<d; cont<A cuent<a cuent<d; encontr<A encuentr<a encuentr<d; mostr<A muestr<a muestr<d;
prob<A prueb<a prueb<d; cost<A cuest<a cuest<d; acord<A acuerd<a acuerd<d; acost<A acuest<a acuest<d;
almorz<A almuerz<a almuerc<d; jug<A jueg<a juegu<d jugu<d; neg<A nieg<a niegu<d negu<d; colg<A cuelg<a cuelgu<d;
estar estoy estas esta estamos estan estuv<p estab<s estar<f este estes esten estando estado;
dar doy das da damos dan di diste dio dimos dieron daba dabas dabamos daban dar<f des demos den diera dando dado;
volv<n vuelv<e vuelv<s vuelto volver<f; devolv<n devuelv<e devuelv<s devuelto;
resolv<n resuelv<e resuelv<s resuelto; mov<n muev<e muev<s; dol<n duel<e duel<s; perd<n pierd<e pierd<s;
entend<n entiend<e entiend<s; encend<n enciend<e enciend<s;
le<n leo lees lee leen lei leia leido ley<j leyo leyendo lea leas leamos lean leer<f;
cre<n creo crees cree creen crei creido crey<j creyo creyendo crea crean;
ca<n caig<s caigo caes cae caen cay<j cayo cayendo caido; pod<n pued<e pued<s pud<p podr<f pudiendo;
ten<n tengo tienes tiene tienen tuv<p tendr<f teng<s;
manten<n mantengo mantiene mantienen mantuv<p mantendr<f manteng<s;
hac<n hago haces hace hacen hic<p hizo har<f hag<s hecho; pon<n pongo pones pone ponen pus<p pondr<f pong<s puesto;
propon<n propongo propone proponen propus<p propondr<f propong<s propuesto; quer<n quier<e quier<s quis<p querr<f;
sab<n se sabes sabe saben sup<p sabr<f sep<s;
ver veo ves ve vemos ven vi viste vio vimos vieron veia veias veiamos veian ver<f vea veas veamos vean
viera viendo visto;
tra<n traigo traes trae traen traj<j traig<s trayendo traido traia; val<n valgo vale valen valdr<f valg<s;
sal<N sal<n salgo sales sale salen saldr<f salg<s; ped<N pid<e pid<s pid<r; repet<N repit<e repit<s repit<r;
segu<N sig<s sigo sigues sigue siguen sigu<r; consegu<N consig<s consigo consigue consiguen consigu<r;
serv<N sirv<e sirv<s sirv<r; vest<N vist<e vist<s vist<r; eleg<N elij<s elijo eliges elige eligen elig<r;
correg<N corrij<s corrijo corrige corrigen corrig<r; dorm<N duerm<e duerm<s durm<r;
mor<N muer<e muer<s mur<r muerto; sent<N sient<e sient<s sint<r; prefer<N prefier<e prefier<s prefir<r;
ment<N mient<e mient<s mint<r; sugier<e sugier<s sugir<r suger<N;
divert<N diviert<e diviert<s divirt<r; ven<N vengo vienes viene vienen vin<p vendr<f veng<s viniendo;
conven<N convengo conviene convienen convin<p convendr<f conveng<s;
dec<N digo dices dice dicen dij<j dir<f dig<s diciendo dicho;
o<N oir oigo oyes oye oyen oy<j oyo oyendo oido oiga oigan oir<f oia oian;
ir voy vas va vamos van iba ibas ibamos iban ir<f vaya vayas vayamos vayan yendo ido fui fuiste fue fuimos fueron fuera;
conduc<N conduzc<s conduzco conduj<j conduciendo; traduc<N traduzc<s traduzco traduj<j traduciendo;
produc<N produzc<s produzco produj<j; reduc<N reduzc<s reduzco reduj<j;
introduc<N introduzc<s introduzco introduj<j; constru<N construy<e construy<s construy<j construyo construyendo;
abr<N abro abres abre abren abrio abrieron abriendo abr<s abriera abrir<f abierto;
cubr<N cubro cubre cubren cubrio cubr<s cubierto; escrib<N escribo escribe escriben escribio escribiendo escrito;
romp<n rompo rompe rompen rompa roto; imprim<N imprimo imprime impreso
"""
_ENGLISH = """
be am is are was were been being; have has had having; do does did done doing; go goes going went gone;
say says said; get gets getting got gotten; make makes making made; know knows knew known; think thinks thought;
take takes taking took taken; see sees seeing saw seen; come comes coming came; give gives giving gave given;
find finds found; tell tells told; feel feels felt; leave leaves leaving left; bring brings brought;
begin begins beginning began begun; keep keeps kept; hold holds held; write writes writing wrote written;
stand stands stood; hear hears heard; mean means meant; meet meets meeting met; run runs running ran;
pay pays paying paid; sit sits sitting sat; speak speaks spoke spoken; lose loses losing lost;
buy buys buying bought; send sends sending sent; build builds built; understand understands understood;
sell sells sold; fall falls fell fallen; drive drives driving drove driven; break breaks broke broken;
spend spends spent; grow grows grew grown; win wins winning won; teach teaches taught; eat eats ate eaten;
choose chooses choosing chose chosen; sleep sleeps slept; fly flies flying flew flown; catch catches caught;
draw draws drew drawn; wear wears wore worn; forget forgets forgot forgotten; rise rises rose risen;
ride rides rode ridden; sing sings sang sung; swim swims swam swum; drink drinks drank drunk;
throw throws threw thrown; wake wakes woke woken; lend lends lent; steal steals stole stolen; hide hides hid hidden;
child children; man men; woman women; person persons people; foot feet; tooth teeth; mouse mice; goose geese;
knife knives; wife wives; life lives; leaf leaves; half halves; shelf shelves; wolf wolves; thief thieves;
loaf loaves; good better best; bad worse worst; big bigger biggest; hot hotter hottest;
happy happily happier happiest
"""
# Forms that more often are another word, so that who searches them means that.
_OTHER_WORDS_TEXT = """
vino cuenta cuentas cuento cuentos cierre pienso recuerdo recuerdos traje trajes hecho hechos puesto puestos vista
estado sentido encuentro prueba pruebas muestra muestras acuerdo acuerdos juego juegos costa dado sal viste sirve
nueve este esta estas se de ve vas den des di calienta siento muerto escrito roto sera cubierto vuelta propuesta
leaves lives left found saw rose fell felt thought people better best last meeting meetings building half
"""
_OTHER_WORDS = frozenset(_OTHER_WORDS_TEXT.split())


@cache
def _families() -> dict[str, list[str]]:
    """For each form that is one of an irregular word's and of no other word: all forms of it."""
    forms: dict[str, dict[str, None]] = {}
    for line in [*_SPANISH.split(";"), *_ENGLISH.split(";")]:
        family = [form for entry in line.split() for form in _expanded(entry)]
        for form in family:
            if form not in _OTHER_WORDS:
                forms.setdefault(form, {}).update(dict.fromkeys(family))
    return {form: list(family) for form, family in forms.items()}


def _expanded(entry: str) -> list[str]:
    stem, _, kind = entry.partition("<")
    return [f"{stem}{ending}" for ending in _ENDINGS[kind].split()] if kind else [stem]
