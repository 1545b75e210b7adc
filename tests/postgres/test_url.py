"""URLs, held against what libpq itself makes of them."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from thea_store.postgres.url import DatabaseUrl

URL = "postgresql://ana:s3cret%40word@db.example.org:6543/thea"


def of_libpq(url: str) -> dict[str, str]:
    """What libpq makes of a URL, without what is empty; `ValueError` where it takes none of it."""
    try:
        found = conninfo_to_dict(url)
    except (psycopg.Error, UnicodeDecodeError) as error:
        raise ValueError(url) from error
    return {name: str(value) for name, value in found.items() if str(value).strip(",")}


def of_ours(address: DatabaseUrl) -> dict[str, str]:
    """What we make of it, in libpq's words."""
    found = {
        "host": ",".join(host for host, _ in address.hosts),
        "port": ",".join(str(port or "") for _, port in address.hosts),
        "user": address.user or "",
        "password": address.password or "",
        "dbname": address.database or "",
        **address.options,
    }
    return {name: value for name, value in found.items() if value.strip(",")}


def spread(found: dict[str, str]) -> dict[str, str]:
    """The same, where one port for several hosts stands once for each."""
    ports, hosts = found.get("port", "").split(","), found.get("host", "").split(",")
    return {**found, "port": ",".join(ports * len(hosts))} if len(ports) == 1 and ports[0] else found


@pytest.mark.parametrize(
    ("url", "hosts", "rest"),
    [
        (URL, (("db.example.org", 6543),), ("ana", "s3cret@word", "thea")),
        ("postgres://h", (("h", None),), (None, None, None)),
        ("postgresql+asyncpg://a@h1:1,h2,h3:3/d", (("h1", 1), ("h2", None), ("h3", 3)), ("a", None, "d")),
        ("postgresql://a@/d?host=/run/pg&port=5433", (("/run/pg", 5433),), ("a", None, "d")),
        ("postgresql://a@%2Frun%2Fpg/d", (("/run/pg", None),), ("a", None, "d")),
        ("postgresql://:5555/d?host=/s", (("/s", 5555),), (None, None, "d")),
        ("postgresql://:5555/d", (("", 5555),), (None, None, "d")),
        ("postgresql://h:/d", (("h", None),), (None, None, "d")),
        ("postgresql://a@[::1]:5/d", (("::1", 5),), ("a", None, "d")),
        ("postgresql://[fe80::1%25eth0],h2:5/d", (("fe80::1%eth0", None), ("h2", 5)), (None, None, "d")),
        ("postgresql://h1,h2,h3:5/d?port=1,2,3", (("h1", 1), ("h2", 2), ("h3", 3)), (None, None, "d")),
        ("postgresql://h1,h2/d?port=7", (("h1", 7), ("h2", 7)), (None, None, "d")),
        ("postgresql:///d?user=u&password=p&host=h1,h2&port=1,2", (("h1", 1), ("h2", 2)), ("u", "p", "d")),
        ("postgresql://h/d?password=a+b", (("h", None),), (None, "a+b", "d")),
        ("postgresql://u:p@h/d?password=", (("h", None),), ("u", None, "d")),
        ("postgresql:///", (), (None, None, None)),
        ("postgresql://", (), (None, None, None)),
    ],
)
def test_a_url_is_taken_apart(url: str, hosts: Any, rest: Any) -> None:
    address = DatabaseUrl.parse(url)

    assert address.hosts == hosts
    assert (address.user, address.password, address.database) == rest
    assert DatabaseUrl.parse(address.render()) == address
    assert spread(of_libpq(url.replace("+asyncpg", ""))) == of_ours(address)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://%zz/d", "has a % that no two hexadecimal digits follow"),
        ("postgresql://[fe80::1%eth0]/d", "has a % that no two"),
        ("postgresql://h/d?password=%", "has a % that no two"),
        ("postgresql://h%00/d", "has a %00 in it"),
        ("postgresql://%E9/d", "is not UTF-8 in its percent form"),
        ("postgresql://h1,h2/d?port=1,2,3", "has 3 ports for 2 hosts"),
        ("postgresql://h1,,h2/d", "has an empty host in its list"),
        ("postgresql://h:port/d", "has a port that is no number"),
        ("postgresql://h:+5/d", "has a port that is no number"),
        ("postgresql://h:\u0665/d", "has a port that is no number"),
        ("postgresql://::1/d", "has a port that is no number"),
        ("postgresql://h/d?host=h1:5432", "give its port as port="),
        ("postgresql://h/d?host=[::1]", "behind the \\?, an IPv6 address stands without them"),
        ("postgresql://[::1/d", "without its closing bracket"),
        ("postgresql://[::1]5/d", "without its closing bracket"),
        ("postgresql://[]/d", "has brackets without an IPv6 address"),
        ("postgresql://%40abstract/d", "names an abstract socket"),
        ("postgresql://h/d?user", "is not name=value"),
        ("postgresql://h/d?user=a&&dbname=b", "is not name=value"),
        ("postgresql://h/d?options=-c a=b", "write a blank as %20"),
        ("postgresql://h/d?options=-c%20a=b", "write it as %3D"),
        ("postgresql://ana:p@ss@h/d", "has two @ before its host"),
        ("postgresql://ana:p/ss@h/d", "has an @ behind its host"),
        ("postgresql://ana:p#ss@h/d", "write it as %23"),
        ("postgresql:/h/d", "must start with postgresql://"),
        ("Postgresql://h/d", "must start with postgresql://"),
        ("h/d", "must start with postgresql://"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        DatabaseUrl.parse(url)


# --- libpq is the judge -------------------------------------------------------------------------

# fmt: off
_PIECES = st.sampled_from([
    "a", "h1", "ñ", "%C3%B1", "%20", "%2F", "%2f", "%40", "%3A", "%2C", "%25", "%zz", "%", "%00", "%E9", "+", "'", "\\",
    "/", ":", "@", "?", "#", "[", "]", ",", "&", "=", " ", "::1", "fe80::1%25eth0", "5432", "0", "70000", ".", "-",
])
_NAMES = st.sampled_from([
    "user", "password", "host", "port", "dbname", "sslmode", "options", "application_name", "ssl", "requiressl",
    "us%65r", "connect_timeout", "target_session_attrs", "service", "bogus", "",
])
_PLACES = st.sampled_from(["h", "h:5", ":5", "[::1]", "[::1]:5", "[fe80::1%25e0]:7", "%2Fs", "", "h:"])
_VALUES = st.sampled_from(["require", "true", "1", "1,2", "/s", "h1,h2", "read-write", "a+b", ""])
# fmt: on
_words = st.lists(_PIECES, max_size=3).map("".join)
_places = st.one_of(_words, _PLACES)
_values = st.one_of(_words, _VALUES)


@st.composite
def urls(draw: st.DrawFn) -> str:
    login = draw(st.one_of(st.just(""), _words.map(lambda word: f"{word}@"), _words.map(lambda word: f"u:{word}@")))
    places = ",".join(draw(st.lists(_places, max_size=3)))
    path = draw(st.one_of(st.just(""), _words.map(lambda word: f"/{word}")))
    query = "&".join(f"{name}={value}" for name, value in draw(st.lists(st.tuples(_NAMES, _values), max_size=3)))
    return f"postgresql://{login}{places}{path}{'?' if query else ''}{query}"


@given(urls())
@example("postgresql://:5555/db?host=/s")
@example("postgresql://h/db?password=a+b")
@example("postgresql://[fe80::1%25eth0]/db")
@example("postgresql://h1,h2,h3:5/db?port=1,2,3")
@example("postgresql://h%2Cx/db")
@example("postgresql://u:p@h/db?user=&password=&host=&port=&dbname=")
def test_what_is_taken_means_what_libpq_takes_it_for_and_so_does_what_is_written(url: str) -> None:
    try:
        address = DatabaseUrl.parse(url)
    except ValueError:
        return

    assert of_ours(address) == spread(of_libpq(url))
    assert of_libpq(address.render()) == of_ours(address)


_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
_hosts = st.sampled_from(["h", "/run/my pg", "::1", "fe80::1%eth0", "10.0.0.1", "ñ.example.org"])
_ports = st.one_of(st.none(), st.integers(1, 65_535))


@given(
    user=_texts,
    password=_texts,
    database=_texts,
    hosts=st.lists(st.tuples(_hosts, _ports), min_size=1, max_size=3).map(tuple),
    options=st.dictionaries(st.sampled_from(["options", "application_name", "sslcert", "sslpassword"]), _texts),
)
def test_any_address_survives_the_url(user: str, password: str, database: str, hosts: Any, options: Any) -> None:
    address = DatabaseUrl(hosts, user, password, database, options)

    assert DatabaseUrl.parse(address.render()) == address
    assert of_libpq(address.render()) == of_ours(address)
