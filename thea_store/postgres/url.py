"""A database's URL, taken apart as libpq does it, and written anew so that libpq reads the same.

The syntax is that of the PostgreSQL manual, "Connection URIs". Where libpq would accept what is surely a
mistake (a `/` in a password that makes its rest the database's name), a `ValueError` says what to write.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote_to_bytes

from thea_store.postgres.url_options import checked

__all__ = ["DatabaseUrl", "Host"]

_LAST_PORT = 65_535
_SCHEMES = {"postgresql", "postgres", "postgresql+asyncpg"}
_OLD_SCHEME = "postgresql+asyncpg"
_UNFIT = re.compile(r"[\x00-\x20\x7f]")
_BROKEN = re.compile(r"%(?![0-9A-Fa-f]{2})")

Host = tuple[str, int | None]
"""A name, an address or a socket directory, and the port where one is given; an empty name is the local server."""


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """One database on one or several hosts; a host that starts with a slash is a socket directory."""

    hosts: tuple[Host, ...]
    user: str | None
    password: str | None = field(repr=False)
    database: str | None
    options: Mapping[str, str] = field(repr=False)
    """libpq's other keys, as the URL gives them; one may be a key's pass phrase, so no `repr` shows them."""

    @classmethod
    def parse(cls, url: str) -> DatabaseUrl:
        """Take a URL apart; `ValueError` says what is wrong with it, without quoting it."""
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in _SCHEMES:
            raise ValueError("must start with postgresql:// (or be embedded: or embedded:/path)")
        authority, path, query = _parts(rest)
        login, at, places = authority.rpartition("@")
        if "@" in login:
            raise ValueError("has two @ before its host: write @ in a user or password as %40")
        user, colon, password = login.partition(":")
        given = _names_and_ports(places)
        given |= _present(user=at and user, password=colon and password, dbname=path)
        values = {name: _decoded(value) for name, value in given.items()}
        options = _query(query, is_old=scheme == _OLD_SCHEME)
        values |= options
        hosts = _hosts(values.pop("host", ""), values.pop("port", ""))
        user, password, database = (values.pop(name, "") for name in ("user", "password", "dbname"))
        # Behind a password in the query, an option's name may be the rest of it, past its &.
        checked_options = checked(values, may_show_names="password" not in options)
        return cls(hosts, user or None, password or None, database or None, checked_options)

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
        """The URL as libpq takes it, password included."""
        login = quote(self.user or "", safe="")
        if self.password is not None:
            login += f":{quote(self.password, safe='')}"
        query = dict(self.options)
        places = ""
        if any(host.startswith("/") for host, _ in self.hosts):  # a socket directory does not fit before the path
            query["host"] = ",".join(host for host, _ in self.hosts)
            if any(port for _, port in self.hosts):
                query["port"] = ",".join(str(port or "") for _, port in self.hosts)
        else:
            places = ",".join(_place(quote(host, safe=":"), port) for host, port in self.hosts)
        path = f"/{quote(self.database, safe='')}" if self.database else ""
        tail = "&".join(f"{name}={quote(value, safe='/,')}" for name, value in query.items())
        return f"postgresql://{login}{'@' if login else ''}{places}{path}{'?' if tail else ''}{tail}"

    def __str__(self) -> str:
        """The hosts and the database, without the login: for messages."""
        places = ",".join(_place(host, port) for host, port in self.hosts) or "the local socket"
        return f"{places}/{self.database or ''}"


def _parts(rest: str) -> tuple[str, str, str]:
    """What stands before the path, the path, and the query."""
    if _UNFIT.search(rest):
        raise ValueError("has a blank or a control character in it, perhaps at its end: write a blank as %20")
    if "#" in rest:
        raise ValueError("has a # in it: write it as %23")
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    if "@" in path or "@" in query:
        # A slash or question mark in a password ends the login early: the rest of it is no name to show.
        raise ValueError("has an @ behind its host: write /, ? and @ in a password as %2F, %3F and %40")
    return authority, path, query


def _names_and_ports(places: str) -> dict[str, str]:
    """The hosts before the path as libpq has them: their names, and their ports, joined by commas."""
    pairs = [_name_and_port(place) for place in places.split(",")]
    return _present(host=",".join(name for name, _ in pairs), port=",".join(port for _, port in pairs))


def _name_and_port(place: str) -> tuple[str, str]:
    if not place.startswith("["):
        name, _, port = place.partition(":")
        return name, port
    name, closed, port = place[1:].partition("]")
    if not closed or (port and not port.startswith(":")):
        raise ValueError("has an IPv6 address without its closing bracket")
    if not name:
        raise ValueError("has brackets without an IPv6 address in them")
    return name, port[1:]


def _present(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _query(query: str, *, is_old: bool) -> dict[str, str]:
    """The keys and values behind the question mark; of several equal keys the last counts."""
    values = {}
    for part in query.removesuffix("&").split("&") if query else []:
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise ValueError("has a part behind its ? that is not name=value: write & in a value as %26")
        if "=" in value:
            raise ValueError("has a second = in an option's value: write it as %3D")
        name, value = _decoded(name), _decoded(value)
        # libpq takes these two of other drivers; SQLAlchemy's URLs for asyncpg have the mode as `ssl`.
        if name == "ssl" and (is_old or value == "true"):
            name, value = "sslmode", "require" if value == "true" else value
        elif name == "requiressl":
            name, value = "sslmode", "require" if value.startswith("1") else "prefer"
        values[name] = value
    return values


def _decoded(text: str) -> str:
    if _BROKEN.search(text):
        raise ValueError("has a % that no two hexadecimal digits follow: write % itself as %25")
    decoded = ""
    try:
        decoded = unquote_to_bytes(text).decode()
    except ValueError:
        decoded = "\0"
    if "\0" in decoded:  # raised here, because the decoder's own error would quote the text
        raise ValueError("is not UTF-8 in its percent form, or has a %00 in it")
    return decoded


def _hosts(names: str, ports: str) -> tuple[Host, ...]:
    if not names and not ports.strip(","):
        return ()
    hosts, given = names.split(","), ports.split(",")
    if len(given) == 1:
        given *= len(hosts)
    if len(given) != len(hosts):
        raise ValueError(f"has {len(given)} ports for {len(hosts)} hosts: give one port, or one for each host")
    if len(hosts) > 1 and "" in hosts:
        raise ValueError("has an empty host in its list of hosts")
    return tuple((_host(host), _port(port)) for host, port in zip(hosts, given, strict=True))


def _host(host: str) -> str:
    if host.startswith("@"):
        raise ValueError("names an abstract socket (@…), which asyncpg does not know: give a socket directory")
    if "[" in host or "]" in host:
        raise ValueError("has brackets in a host: behind the ?, an IPv6 address stands without them")
    if ":" in host and not host.startswith("/") and not _is_ipv6(host):
        raise ValueError("has a host with a colon that is no IPv6 address: give its port as port=")
    return host


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _port(port: str) -> int | None:
    if not port:
        return None
    if not (port.isascii() and port.isdigit() and len(port) <= len(str(_LAST_PORT)) and 0 < int(port) <= _LAST_PORT):
        raise ValueError("has a port that is no number from 1 to 65535")
    return int(port)


def _place(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if port else shown
