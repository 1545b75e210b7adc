"""The forms of verbs, and of other words, that no stemmer joins: each family of them as plain words.

Spanish verbs that change their stem do so in a few ways, so they stand here as lists of infinitives, one for each way.
What is irregular beyond that is spelled out. All is in lower case and without accents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

__all__ = ["family_of"]

_LONG_STEM = 4
"""A stem of so many letters is no word by itself, so it is looked for too: the stemmer leaves it of most forms."""

# --- Spanish verbs by the way in which their stem changes -------------------------------------------

# The last e becomes ie (in -ir, i as well); the last o becomes ue (in -ir, u as well); the last e of these becomes i.
_TO_IE = """
pensar cerrar empezar comenzar recomendar sentar despertar calentar atravesar confesar gobernar negar regar apretar
acertar alentar encerrar enterrar merendar nevar quebrar sembrar temblar tropezar manifestar fregar plegar desplegar
perder entender encender defender atender extender tender descender ascender verter querer
sentir consentir arrepentir preferir convertir divertir invertir advertir referir sugerir requerir mentir herir hervir
digerir transferir inferir
"""
_TO_UE = """
recordar contar encontrar mostrar demostrar probar comprobar aprobar costar acordar acostar almorzar colgar descolgar
volar sonar rogar soltar renovar rodar consolar apostar tronar forzar reforzar esforzar
volver devolver envolver revolver resolver disolver mover promover remover conmover doler soler llover morder torcer
dormir morir
"""
_TO_I = """
pedir medir impedir despedir repetir servir vestir seguir conseguir perseguir elegir corregir competir derretir rendir
"""
_WITH_Y = """
huir incluir concluir construir reconstruir destruir instruir distribuir contribuir disminuir sustituir atribuir
constituir excluir influir fluir diluir
"""
_WITH_DUJE = "conducir traducir producir reducir introducir deducir inducir seducir reproducir"
# Regular ones whose ending the stemmer leaves, because it begins too early in the word; and forms of theirs that
# stand in every text as another word.
_SHORT = "usar andar entrar echar amar armar alzar atar unir arder untar optar izar"
_LITTLE_WORDS = frozenset({"entre", "una", "uno", "unas"})

_PRESENT = {"ar": "o as a an", "er": "o es e en", "ir": "o es e en"}
_REGULAR = {
    "ar": "amos aba abas abamos aban ado ada ados adas ando e aste o aron are ara aria aran arian ase emos",
    "er": "emos ia ias iamos ian ido ida idos idas iendo i iste io imos ieron iera ieran ere era eria eran erian amos",
    "ir": "imos ia ias iamos ian ido ida idos idas iendo i iste io ieron iera ieran ire ira iria iran irian amos",
}
_SUBJUNCTIVE = {"ar": "e es en", "er": "a as an", "ir": "a as an"}
_WEAK = "io ieron iendo iera ieran iese amos"
_IMPERATIVE = "me te lo la"
# How a last consonant is written before other vowels, so that it sounds the same: `empiece`, `juegue`, `elijo`.
_BEFORE_E = {"c": "qu", "g": "gu", "z": "c"}
_BEFORE_A_O = {"g": "j", "c": "z"}


def _verbs() -> Iterator[list[str]]:
    for verb in _TO_IE.split():
        yield _changing(verb, "e", "ie", weak="i")
    for verb in _TO_UE.split():
        yield _changing(verb, "o", "ue", weak="u")
    for verb in _TO_I.split():
        yield _changing(verb, "e", "i", weak="i")
    for verb in _WITH_Y.split():
        stem = verb[:-2]
        endings = "o es e en a as amos an o eron endo era eran ese"
        yield [stem + "y" + ending for ending in endings.split()] + _regular(verb)
    for verb in _WITH_DUJE.split():
        stem = verb[:-2]
        strong = [f"{stem[:-1]}zc{ending}" for ending in ("o", "a", "as", "amos", "an")]
        past = [f"{stem[:-1]}j{ending}" for ending in _ENDINGS["j"].split()]
        yield strong + past + _regular(verb)
    yield ["juego", "juegas", "juega", "juegan", "juegue", "juegues", "jueguen", *_regular("jugar")]
    for verb in _SHORT.split():
        stem, kind = verb[:-2], verb[-2:]
        present = [_spelled(stem, ending, kind) for ending in f"{_PRESENT[kind]} {_SUBJUNCTIVE[kind]}".split()]
        behind = [f"{verb}{pronoun}" for pronoun in ("lo", "la", "se")]
        yield [form for form in [*present, *_regular(verb), *behind] if form not in _LITTLE_WORDS]


def _regular(verb: str) -> list[str]:
    """The infinitive, its stem where that is no word, and the forms in which the stem stays."""
    stem, kind = verb[:-2], verb[-2:]
    long = [stem] if len(stem) >= _LONG_STEM else []
    forms = [_spelled(stem, ending, kind) for ending in _REGULAR[kind].split()]
    return [verb, *long, *forms, *(f"{verb}{clitic}" for clitic in ("te", "melo", "telo"))]


def _changing(verb: str, old: str, new: str, *, weak: str) -> list[str]:
    stem, kind = verb[:-2], verb[-2:]
    before, _, behind = stem.rpartition(old)
    strong = f"{before}{new}{behind}"
    forms = [_spelled(strong, ending, kind) for ending in f"{_PRESENT[kind]} {_SUBJUNCTIVE[kind]}".split()]
    forms += [f"{strong}{_PRESENT[kind][5]}{clitic}" for clitic in _IMPERATIVE.split()]
    changed = [strong]
    if kind == "ir":
        softened = f"{before}{weak}{behind}"
        forms += [_spelled(softened, ending, kind) for ending in _WEAK.split()]
        changed.append(softened)
    return [*forms, *(each for each in changed if len(each) >= _LONG_STEM), *_regular(verb)]


def _spelled(stem: str, ending: str, kind: str) -> str:
    """The form, with the stem's last consonant as it is written before this ending."""
    last = stem[-1]
    if kind == "ar" and ending[0] == "e":
        stem = f"{stem[:-1]}{_BEFORE_E.get(last, last)}"
    elif kind != "ar" and ending[0] in "ao":
        if stem.endswith("gu"):
            stem = stem[:-1]
        elif last == "g" or stem.endswith(("nc", "rc")):
            stem = f"{stem[:-1]}{_BEFORE_A_O[last]}"
    return f"{stem}{ending}"


# --- Spanish words that are irregular beyond that ---------------------------------------------------

# Endings by their letter in the table below: a, e: the present of verbs in -ar and of others; s: their subjunctive;
# p, j, r: the preterite and what goes by it; f: the future and the conditional; n, N: what is regular of verbs in
# -er and -ir.
_ENDINGS = {
    "e": "o es e en",
    "s": "a as amos an",
    "p": "e iste o imos ieron iera ieran iese",
    "j": "e iste o imos eron era eran ese",
    "r": "io ieron iendo iera ieran iese",
    "f": "e as a emos an ia ias iamos ian",
    "n": "er emos ia ias iamos ian ido iendo i iste io imos ieron iera ieran",
    "N": "ir imos ia ias iamos ian ido i iste",
}
# A family of forms ends at a semicolon. `pued<e` is the stem `pued` with each of the endings `e`. What stands before a
# colon are prefixes with which the whole family exists as well.
_IRREGULAR = """
estar estoy estas esta estamos estan estuv<p estab<s estar<f este estes esten estando estado;
ser fui fuiste fue fuimos fueron ser<f seamos siendo sido; haber hubo hub<p habia habian habr<f habiendo habido;
dar doy das da damos dan di diste dio dimos dieron daba dabas dabamos daban dar<f des demos den diera dando dado dada
dame dale darte;
con de man ob sos re abs: ten<n tengo tienes tiene tienen tuv<p tendr<f teng<s;
com dis ex im o pro su pre trans: pon<n pongo pones pone ponen pus<p pondr<f pong<s puesto puesta puestos puestas;
con inter pre pro: ven<N vengo vienes viene vienen vin<p vendr<f veng<s viniendo venido;
des re: hac<n hago haces hace hacen hic<p hizo har<f hag<s hecho hecha hechos hechas hacerte hazme hazlo;
a con dis ex sus: tra<n traigo traes trae traen traj<j traig<s trayendo traido traida traia traeme;
pre: ver veo ves ve vemos ven vi viste vio vimos vieron veia veias veiamos veian ver<f vea veas veamos vean
viera viendo visto vista vistos vistas;
contra pre des: dec<N digo dices dice dicen dij<j dir<f dig<s diciendo dicho dicha dime dile decirte;
bendecir maldecir bendigo maldigo bendice maldice bendijo maldijo bendiga maldiga bendito maldito;
le<n leo lees lee leen lei leia leido leida leidos ley<j leyo leyendo lea leas leamos lean leer<f;
cre<n creo crees cree creen crei creido crey<j creyo creyendo crea crean;
pose<n poseo posee poseen posey<j poseyo poseyendo poseido;
re de: ca<n caig<s caigo caes cae caen cay<j cayo cayendo caido;
pod<n pued<e pued<s pud<p podr<f pudiendo; quer<n quier<e quier<s quis<p querr<f;
sab<n se sabes sabe saben sup<p sabr<f sep<s; cab<n quepo cabe caben cup<p cabr<f quep<s;
equi pre: val<n valgo vale valen valdr<f valg<s; sobre: sal<N sal<n salgo sales sale salen saldr<f salg<s;
son: re<n rei reir rio ries rie rien rieron riendo riera reimos reia reir<f riamos;
fre<n freir frio frie frien frieron friendo frito frita;
o<N oir oigo oyes oye oyen oy<j oyo oyendo oido oiga oigan oir<f oia oian;
huele huelo huelen huela oler olia olio oliendo;
ir voy vas va vamos van iba ibas ibamos iban ir<f vaya vayas vayamos vayan yendo ido fui fuiste fue fuimos fueron fuera
vete vayase;
adquir<N adquier<e adquier<s adquirio adquirieron adquiriendo; coc<n cuezo cueces cuece cuecen cueza cuezan;
abr<N abro abres abre abren abrio abrieron abriendo abr<s abriera abrir<f abierto abierta abiertos;
des: cubr<N cubro cubre cubren cubrio cubr<s cubierto cubierta;
e de in trans sub su: scrib<N scribo scribe scriben scribio scribiendo scrito scrita scritos scritas scribirte;
romp<n rompo rompe rompen rompa roto rota; imprim<N imprimo imprime impreso impresa; muerto muerta morir murio;
actor actriz actores actrices; gran grande grandes; jersey jerseis;
alto alta altos altas; feo fea feos feas; otro otra otros otras; poco poca pocos pocas; ancho ancha anchos anchas;
mucho mucha muchos muchas;
volver vuelto; devolver devuelto devuelta; envolver envuelto envuelta; revolver revuelto; resolver resuelto resuelta
"""

# --- English ---------------------------------------------------------------------------------------

_ENGLISH = """
be am is are was were been being; have has had having; do does did done doing; go goes going went gone;
say says said; get gets getting got gotten; make makes making made; know knows knew known; think thinks thought;
take takes taking took taken; see sees seeing saw seen; come comes coming came; give gives giving gave given;
become becomes became; find finds found; tell tells told; feel feels felt; leave leaves leaving left;
bring brings brought; begin begins beginning began begun; keep keeps kept; hold holds held;
write writes writing wrote written; stand stands stood; hear hears heard; mean means meant; meet meets meeting met;
run runs running ran; pay pays paying paid; sit sits sitting sat; speak speaks spoke spoken; lose loses losing lost;
buy buys buying bought; send sends sending sent; build builds built; understand understands understood;
sell sells sold; fall falls fell fallen; drive drives driving drove driven; break breaks broke broken;
spend spends spent; grow grows grew grown; win wins winning won; teach teaches taught; eat eats ate eaten;
choose chooses choosing chose chosen; sleep sleeps slept; fly flies flying flew flown; catch catches caught;
draw draws drew drawn; wear wears wore worn; forget forgets forgot forgotten; rise rises rose risen;
arise arises arose arisen; ride rides rode ridden; sing sings sang sung; swim swims swam swum; drink drinks drank drunk;
ring rings rang rung; throw throws threw thrown; wake wakes woke woken; lend lends lent; steal steals stole stolen;
hide hides hid hidden; fight fights fought; seek seeks sought; strike strikes struck stricken; stick sticks stuck;
dig digs dug; hang hangs hung; deal deals dealt; lead leads led; feed feeds fed; lay lays laid; lie lies lay lain lying;
show shows showed shown; blow blows blew blown; freeze freezes froze frozen; bear bears bore borne;
tear tears tore torn;
swear swears swore sworn; shake shakes shook shaken; bite bites bit bitten; sink sinks sank sunk; spin spins spun;
shoot shoots shot; shine shines shone; bend bends bent; burn burns burnt burned; learn learns learnt learned;
dream dreams dreamt dreamed; light lights lit; sweep sweeps swept; withdraw withdraws withdrew withdrawn;
forbid forbids forbade forbidden; forgive forgives forgave forgiven; bind binds bound; breed breeds bred;
creep creeps crept; flee flees fled; weep weeps wept; overcome overcomes overcame; sting stings stung;
child children; man men; woman women; person persons people; foot feet; tooth teeth; mouse mice; goose geese;
knife knives; wife wives; life lives; leaf leaves; half halves; shelf shelves; wolf wolves; thief thieves; loaf loaves;
calf calves; scarf scarves; self selves; ox oxen; louse lice; cactus cacti; fungus fungi; thesis theses;
diagnosis diagnoses; index indices; matrix matrices; appendix appendices;
grandchild grandchildren; analysis analyses; crisis crises; criterion criteria; phenomenon phenomena; medium media;
good better best; bad worse worst; far farther further; big bigger biggest; hot hotter hottest; thin thinner thinnest;
happy happily happier happiest; easy easily easier easiest; early earlier earliest; heavy heavier heaviest;
busy busier busiest; dry drier driest; large larger largest; late later latest; nice nicer nicest; close closer closest;
safe safer safest; wide wider widest; fine finer finest; simple simpler simplest;
defence defense; neighbour neighbor; neighbourhood neighborhood; colour color; favourite favorite; centre center;
organise organize; organised organized; cancelled canceled; travelled traveled; grey gray
"""
_COMPARED = """
old new high low long short small great strong weak young fast slow cheap near hard soft deep rich poor warm cold cool
clean clear dark light quick quiet loud smart tall thick
"""


# Forms that more often are another word, so that who searches them means that.
_OTHER_WORDS_TEXT = """
vino cuenta cuentas cuento cuentos cierre pienso recuerdo recuerdos traje trajes hecho hechos puesto puestos vista
vistas vistos viste estado sentido encuentro prueba pruebas muestra muestras acuerdo acuerdos juego juegos costa
dado dada sal sirve nueve este esta estas se de ve vas den des di calienta siento muerto muerta escrito escrita
escritos escritas roto rota sera cubierto cubierta vuelta propuesta son fuera como rio frio frita he has ha apuesta
suelo vuelo pedido medida rueda suelta entrada sueno media compuesto supuesto supuesta impuesto impuestos opuesto
dispuesta contenido detenido convenido contraria producto conduce hubo riega muestro cubro salida venida venido
partida debido vete bendito maldito armada armado amo ama atado atada ando anda andas andes ole cabe cabo leaves
lives left found saw rose fell felt thought people better best last meeting meetings building half lay lead led
light lit bear bore tear ring rang bound bent shot fine later latest dug fed hung center clear clean cool
"""
_OTHER_WORDS = frozenset(_OTHER_WORDS_TEXT.split())


def family_of(word: str) -> list[str]:
    """All forms of the word's family, and of each other one that it is a form of; empty for most words."""
    return [form for family in _families().get(word, ()) for form in family]


@cache
def _families() -> dict[str, list[Sequence[str]]]:
    forms: dict[str, list[Sequence[str]]] = {}
    compared = [[word, f"{word}er", f"{word}est"] for word in _COMPARED.split()]
    # English first, because a stem of a Spanish verb may be a word of it: `sent`.
    for family in [*_table(_ENGLISH), *compared, *_verbs(), *_table(_IRREGULAR)]:
        for form in {*family} - _OTHER_WORDS:
            forms.setdefault(form, []).append(family)
    return forms


def _table(text: str) -> Iterator[list[str]]:
    for line in text.split(";"):
        prefixes, colon, entries = line.rpartition(":")
        family = [form for entry in entries.split() for form in _expanded(entry)]
        yield family
        for prefix in prefixes.split() if colon else ():
            yield [f"{prefix}{form}" for form in family]


def _expanded(entry: str) -> list[str]:
    stem, _, kind = entry.partition("<")
    return [f"{stem}{ending}" for ending in _ENDINGS[kind].split()] if kind else [stem]
