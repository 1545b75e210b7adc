"""A database's URL, taken apart once and given to each driver in the form that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

__all__ = ["DatabaseUrl"]

_LAST_PORT = 65_535
_SCHEMES = {"postgresql", "postgres", "postgresql+asyncpg"}

# What both drivers understand in a URL's query.
_OPTIONS = {
    "application_name",
    "connect_timeout",
    "passfile",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
}


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """One database on one or several hosts; a host that starts with a slash is a socket directory."""

    hosts: tuple[tuple[str, int | None], ...]
    user: str | None
    password: str | None = field(repr=False)
    database: str | None
    options: Mapping[str, str]

    @classmethod
    def parse(cls, url: str) -> DatabaseUrl:
        """Take a URL apart; `ValueError` says what is wrong with it, without quoting it."""
        parts, options = _split(url)
        query = dict(options)
        if parts.scheme not in _SCHEMES:
            raise ValueError("must start with postgresql:// (or be embedded: or embedded:/path)")
        if parts.fragment or "#" in url:
            raise ValueError("has a # in it: write it as %23")
        if "@" in parts.path or "@" in parts.query:
            # A slash or question mark in a password ends the login early: the rest of it is no name to show.
            raise ValueError("has an @ behind its host: write /, ? and @ in a password as %2F, %3F and %40")
        login, _, places = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        # Behind a password of the query, an option's name may be the rest of it, past its &.
        shows = "password" not in query
        hosts = _hosts(query.pop("host", "") or places, query.pop("port", ""))
        user, password = query.pop("user", "") or unquote(user), query.pop("password", "") or unquote(password)
        database = query.pop("dbname", "") or unquote(parts.path.removeprefix("/"))
        unknown = sorted(query.keys() - _OPTIONS)
        if unknown:
            name = f" {unknown[0]!r}" if shows else ""
            raise ValueError(f"has the unknown option{name}; known are {', '.join(sorted(_OPTIONS))}")
        if not query.get("connect_timeout", "1").isdecimal():
            raise ValueError("has a connect_timeout that is no number of seconds")
        return cls(hosts, user or None, password or None, database or None, query)

    def each_host(self) -> list[DatabaseUrl]:
        """The same database, once for each host."""
        return [replace(self, hosts=(host,)) for host in self.hosts]

    def with_options(self, **defaults: str) -> DatabaseUrl:
        """The same database, with options that count where the URL does not say otherwise."""
        return replace(self, options={**defaults, **self.options})

    def without_option(self, name: str) -> tuple[str | None, DatabaseUrl]:
        """The option's value, and the same database without it."""
        rest = {key: value for key, value in self.options.items() if key != name}
        return self.options.get(name), replace(self, options=rest)

    def render(self) -> str:
        """The URL as asyncpg and libpq take it, password included."""
        login = quote(self.user or "", safe="")
        if self.password is not None:
            login += f":{quote(self.password, safe='')}"
        query = dict(self.options)
        sockets = [host for host, _ in self.hosts if host.startswith("/")]
        places = ""
        if sockets:  # a socket directory does not fit into the URL's authority
            query["host"] = ",".join(host for host, _ in self.hosts)
            ports = [str(port or 5432) for _, port in self.hosts]
            query["port"] = ",".join(ports)
        else:
            places = ",".join(_place(host, port) for host, port in self.hosts)
        path = f"/{quote(self.database, safe='')}" if self.database else ""
        tail = f"?{urlencode(query, quote_via=quote)}" if query else ""
        return f"postgresql://{login}{'@' if login else ''}{places}{path}{tail}"

    def __str__(self) -> str:
        """The hosts and the database, without the login: for messages."""
        places = ",".join(_place(host, port) for host, port in self.hosts) or "the local socket"
        return f"{places}/{self.database or ''}"


def _split(url: str) -> tuple[SplitResult, list[tuple[str, str]]]:
    with suppress(ValueError):
        url.encode()
        # With a NUL in it, libpq would quote the password.
        if "\0" not in unquote(url):
            parts = urlsplit(url)
            return parts, parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    raise ValueError("is not a URL")  # here, for the context would quote the login


def _place(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if port else shown


def _hosts(places: str, ports: str) -> tuple[tuple[str, int | None], ...]:
    if not places:
        return ()
    given = ports.split(",") if ports else []
    hosts = []
    for position, place in enumerate(places.split(",")):
        host, port = _split_port(place)
        if not port and given:
            port = given[min(position, len(given) - 1)]
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= _LAST_PORT):
            raise ValueError("has a port that is no number from 1 to 65535")
        hosts.append((unquote(host), int(port) if port else None))
    return tuple(hosts)


def _split_port(place: str) -> tuple[str, str]:
    if place.startswith("/"):
        return place, ""
    if place.startswith("["):
        host, closed, rest = place[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError("has an IPv6 address without its closing bracket")
        return host, rest[1:]
    host, colon, port = place.partition(":")
    if colon and not port:
        raise ValueError("has a colon after a host, but no port")
    return host, port
