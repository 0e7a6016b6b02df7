"""Which paths of a RIB somebody asks for, as a value out of the words of the question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from l3net.addresses import contains, host_prefix, parse_address, parse_prefix
from l3net.bgp.as_path_pattern import AsPathPattern
from l3net.bgp.path import Attributes
from l3net.bgp.prefixes import parse_prefix as learned_prefix
from l3net.community import AnyCommunity, parse_community
from l3net.errors import ConfigError
from l3net.model import Address, Prefix

#: What may be asked; each a string, but for the flags.
WORDS: Final = frozenset(
    {"peer", "prefix", "longer", "rejected", "best", "community", "asPath", "advertised"}
)
_FLAGS: Final = frozenset({"longer", "rejected", "best", "advertised"})
_LONGEST_AS_NUMBER: Final = 10


@dataclass(frozen=True, slots=True)
class PathFilter:
    """`peer` is a name or an address. `prefix`: that prefix alone, with `longer` what lies inside it too;
    `address`: the longest prefix that holds it. `rejected`: what is refused; `best`: what is in use, of all
    paths to the prefix; `advertised`: what peers hear, instead of what they say."""

    peer: str = ""
    prefix: Prefix | None = None
    address: Address | None = None
    longer: bool = False
    rejected: bool = False
    best: bool = False
    advertised: bool = False
    communities: frozenset[AnyCommunity] = frozenset()
    as_number: int | None = None
    as_path: AsPathPattern | None = None

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> PathFilter:
        """Out of a question's object. Raises ConfigError."""
        for word, value in asked.items():
            if word not in WORDS:
                raise ConfigError(
                    f"{word!r} is nothing to ask routes for; there are {', '.join(sorted(WORDS))}"
                )
            if not isinstance(value, bool if word in _FLAGS else str):
                raise ConfigError(f"{word}: {value!r} is no {'truth value' if word in _FLAGS else 'text'}")
        text = asked.get("prefix", "")
        address = _address_of(text)
        prefix = None if address is not None or not text else _prefix_of(text)
        longer = asked.get("longer", False)
        if longer and address is not None:
            prefix, address = host_prefix(address), None
        if longer and prefix is None:
            raise ConfigError("longer: of what prefix?")
        wanted = asked.get("asPath", "")
        number = int(wanted) if _is_number(wanted) else None
        found = cls(
            peer=_peer(asked.get("peer", "")),
            prefix=prefix,
            address=address,
            longer=longer,
            rejected=asked.get("rejected", False),
            best=asked.get("best", False),
            advertised=asked.get("advertised", False),
            communities=_communities(asked.get("community", "")),
            as_number=number,
            as_path=AsPathPattern(wanted) if wanted and number is None else None,
        )
        if found.rejected and (found.best or found.advertised):
            raise ConfigError(f"a rejected path is never {'best' if found.best else 'advertised'}")
        if found.best and found.advertised:
            raise ConfigError("--best and --advertised cannot be combined: advertised paths are best paths")
        return found

    def wants_peer(self, address: Address, name: str) -> bool:
        return self.peer in ("", name, str(address))

    def wants_prefix(self, prefix: Prefix) -> bool:
        """Of a scan; an `address` is looked up and not scanned for."""
        if self.prefix is None:
            return True
        return contains(self.prefix, prefix) if self.longer else prefix == self.prefix

    def wants(self, attributes: Attributes) -> bool:
        if not self.communities <= attributes.communities:
            return False
        if self.as_number is not None and self.as_number not in attributes.as_path:
            return False
        return self.as_path is None or self.as_path.found_in(attributes)

    def looked_up(self) -> Iterator[Prefix]:
        """The prefixes to look for, the longest first; the first that is there is meant. None for a scan."""
        if self.address is not None:
            whole = int(self.address)
            bits = self.address.max_prefixlen
            for length in range(bits, -1, -1):
                number = whole >> (bits - length) << (bits - length)
                yield learned_prefix(f"{type(self.address)(number)}/{length}")
        elif self.prefix is not None and not self.longer:
            yield self.prefix


def _address_of(text: str) -> Address | None:
    try:
        return parse_address(text)
    except ValueError:
        return None


def _prefix_of(text: str) -> Prefix:
    try:
        return parse_prefix(text)
    except ValueError:
        raise ConfigError(
            f"{text[:60]!r} is neither a prefix (such as 10.244.1.0/24) nor an address"
        ) from None


def _peer(text: str) -> str:
    """Addresses as the agent spells them."""
    address = _address_of(text)
    return str(address) if address is not None else text


def _communities(text: str) -> frozenset[AnyCommunity]:
    """One, or several that a path has to have all of."""
    try:
        return frozenset(map(parse_community, text.replace(",", " ").split()))
    except ValueError as err:
        raise ConfigError(f"community: {err}") from None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _LONGEST_AS_NUMBER
