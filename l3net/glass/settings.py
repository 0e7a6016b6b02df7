"""What a looking glass is told at its start, checked once."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from l3net.addresses import parse_address
from l3net.errors import ConfigError
from l3net.model import Address

PORT: Final = 9179
#: Listened on unless addresses are given.
LOOPBACK: Final = (f"127.0.0.1:{PORT}", f"[::1]:{PORT}")
#: Beside `Authorization: Bearer`, which the API server's proxy takes for its own.
TOKEN_HEADER: Final = "X-L3net-Token"  # noqa: S105 - its name
#: The least that a token may have: 128 bits in hexadecimal digits.
SHORTEST_TOKEN: Final = 32


@dataclass(frozen=True, slots=True)
class Listen:
    """An address and TCP port."""

    address: Address
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """`token` empty: none is asked for. `hosts` are names by which browsers may call the page, beside
    `localhost` and addresses. `repr` never shows the token."""

    listen: tuple[Listen, ...]
    token: str = field(default="", repr=False)
    hosts: frozenset[str] = frozenset()


def listen_on(text: str) -> Listen:
    """`127.0.0.1:9179` or `[::1]:9179`. Raises ConfigError."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = parse_address(bare)
        if not port.isdecimal() or not 1 <= int(port) <= 65535 or (address.version == 6) is (bare == host):
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"--listen {text}: write ADDRESS:PORT, such as 127.0.0.1:{PORT} or [::1]:{PORT}"
        ) from None
    return Listen(address, int(port))


def settings(
    listen: Iterable[str], token: str, hosts: Iterable[str], *, behind_proxy: bool = False
) -> Settings:
    """Raises ConfigError: also where all the world could read, and nobody said that it may."""
    where = tuple(dict.fromkeys(map(listen_on, listen)))
    open_to = [str(each) for each in where if not each.address.is_loopback]
    if open_to and not token and not behind_proxy:
        raise ConfigError(
            f"--listen {open_to[0]}: anyone who reaches that address could read everything: give "
            "--token-file "
            "FILE, or --behind-proxy if a proxy in front of it authenticates"
        )
    return Settings(where, token, frozenset(map(_host, hosts)))


def _host(text: str) -> str:
    name = text.strip().lower().rstrip(".")
    if not name or any(not (each.isalnum() or each in "-._") for each in name):
        raise ConfigError(f"--allow-host {text}: write a host name, without scheme and port")
    return name


def token_of(text: str, where: str) -> str:
    """The token that a file holds. Raises ConfigError, which does not tell it."""
    token = text.strip()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or any(each.isspace() for each in token):
        raise ConfigError(
            f"{where}: a token is one word of at least {SHORTEST_TOKEN} ASCII characters; "
            "make one with `openssl rand -hex 32`"
        )
    return token


def node_urls(texts: Iterable[str]) -> Mapping[str, str]:
    """`NAME=URL` each: where each node's looking glass is. Raises ConfigError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, url = text.partition("=")
        split = urlsplit(url)
        good = equals and split.scheme in ("http", "https") and split.hostname
        if not good or not is_name(name) or split.query or split.fragment or split.username:
            raise ConfigError(f"--node-url {text}: write NAME=URL, such as n1=http://192.0.2.1:{PORT}")
        if name in found:
            raise ConfigError(f"--node-url {text}: {name} is named twice")
        found[name] = url.rstrip("/")
    return found


def is_name(text: str) -> bool:
    """Whether it may be a node's: what RFC 1123 allows, and the underscore of lab hosts."""
    return 0 < len(text) <= 253 and all(each.isascii() and (each.isalnum() or each in "-._") for each in text)


def allowed_host(header: str, hosts: frozenset[str]) -> bool:
    """Whether a Host header is one of ours. An address cannot be rebound: only a name may lead elsewhere."""
    host = header.strip().lower()
    if host.startswith("["):
        bare, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    else:
        bare, _, port = host.partition(":")
    if port and not port.isdecimal():
        return False
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return bare.rstrip(".") in hosts or bare == "localhost"
    return True
