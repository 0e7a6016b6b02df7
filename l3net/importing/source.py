"""An object of another system, read a field at a time, and what became of each field.

No field is passed over in silence: what nobody has told of when an object has been read is told as one that
cannot be said.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from l3net.community import AnyCommunity, Community
from l3net.errors import ManifestError
from l3net.kube.fields import Field
from l3net.kube.resources import community
from l3net.model import BgpConfiguration, BgpFilter, BgpPeer, IpPool, Kind, ObjectName, Policy, PoolUse

#: Of any pool of load balancers.
_CLASSES = (
    "l3net's controller gives addresses to Services of the class l3net.io/bgp, and to those without a "
    "class if it "
    "runs with `--load-balancers all`"
)


class Outcome(enum.Enum):
    """What became of a field."""

    CARRIED = "carriedOver"
    CHANGED = "changedInMeaning"
    UNSAID = "cannotBeSaid"


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a field of a source's object. `field` may be empty: the object as a whole. `detail` is
    what it is now, or what is different, or what to do. `where` is the file and line."""

    outcome: Outcome
    kind: str
    name: str
    field: str
    detail: str
    where: str = ""


@dataclass(slots=True)
class Imported:
    """The facts that were made, and the findings. `annotations` are to be put on objects that exist: Nodes
    and Services. `skipped` counts objects that are not configuration of the source's."""

    configuration: BgpConfiguration | None = None
    peers: dict[str, BgpPeer] = field(default_factory=dict)
    filters: dict[str, BgpFilter] = field(default_factory=dict)
    pools: dict[str, IpPool] = field(default_factory=dict)
    policies: dict[ObjectName, Policy] = field(default_factory=dict)
    annotations: dict[tuple[Kind, ObjectName], dict[str, str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    skipped: int = 0
    _told: set[Finding] = field(default_factory=set)

    def tell(self, finding: Finding) -> None:
        """Note it, once."""
        if finding not in self._told:
            self._told.add(finding)
            self.findings.append(finding)

    def annotate(self, kind: Kind, name: ObjectName, **annotations: str) -> None:
        """Keys have `/` and `-`: pass them by `**{...}`."""
        self.annotations.setdefault((kind, name), {}).update(annotations)

    def add_pool(self, pool: IpPool) -> None:
        """Raises ManifestError for a second one of that name."""
        if pool.name in self.pools:
            raise ManifestError("metadata.name", f"an IPPool {pool.name} is imported already")
        self.pools[pool.name] = pool
        if PoolUse.LOAD_BALANCER in pool.allowed_uses:
            self.tell(Finding(Outcome.CHANGED, "IPPool", "", "spec.allowedUses", _CLASSES))

    def add_peer(self, peer: BgpPeer) -> None:
        """Raises ManifestError for a second one of that name."""
        if peer.name in self.peers:
            raise ManifestError("metadata.name", f"a BGPPeer {peer.name} is imported already")
        self.peers[peer.name] = peer


class SourceObject:
    """One object. `content` is what was parsed; `where` it stands."""

    def __init__(self, content: Mapping[str, object], where: str, into: Imported) -> None:
        self.document = Field("", content)
        self.where = where
        self._into = into
        self._told: set[str] = set()
        self.kind = str(content.get("kind") or "")
        self.api_version = str(content.get("apiVersion") or "")
        metadata = content.get("metadata")
        named = metadata if isinstance(metadata, Mapping) else {}
        self.name = ObjectName(str(named.get("namespace") or ""), str(named.get("name") or ""))

    def __getitem__(self, key: str) -> Field:
        return self.document[key]

    @property
    def spec(self) -> Field:
        return self.document["spec"]

    def carried(self, what: str | Field, into: str = "") -> None:
        """It means the same in l3net. `into` is the field that has it now."""
        self._tell(Outcome.CARRIED, what, into)

    def changed(self, what: str | Field, how: str) -> None:
        """It is carried over, and means something else."""
        self._tell(Outcome.CHANGED, what, how)

    def unsaid(self, what: str | Field, why: str) -> None:
        """It cannot be said. `why`, and what to do."""
        self._tell(Outcome.UNSAID, what, why)

    def note(self, outcome: Outcome, what: str, detail: str) -> None:
        """About what stands nowhere, such as a default of the source's."""
        self._add(outcome, what, detail)

    def _tell(self, outcome: Outcome, what: str | Field, detail: str) -> None:
        """Nothing is told of a field that is not there."""
        found = self.at(what) if isinstance(what, str) else what
        if found.present or not found.path:
            self._told.add(found.path)
            self._add(outcome, found.path, detail)

    def _add(self, outcome: Outcome, path: str, detail: str) -> None:
        self._into.tell(Finding(outcome, self.kind, str(self.name), path, detail, self.where))

    def at(self, path: str) -> Field:
        """A field by its path, whose names have no dots."""
        found = self.document
        for key in filter(None, path.split(".")):
            found = found[key]
        return found

    def told_of(self, at: Field) -> bool:
        """Whether anything has been told of the field."""
        return at.path in self._told

    def passed_over(self, *names: str) -> None:
        """Tell of the fields below `names` that nobody has told of."""
        for name in names:
            self._pass(self.document[name])

    def _pass(self, at: Field) -> None:
        if at.value in (None, {}, [], "") or at.path in self._told:
            return
        inside = [told for told in self._told if told.startswith((f"{at.path}.", f"{at.path}["))]
        if isinstance(at.value, Mapping) and (inside or at.path in ("spec", "metadata.annotations")):
            for key in at.value:
                self._pass(at[str(key)])
        elif isinstance(at.value, list) and inside:
            for item in at.items():
                self._pass(item)
        else:
            self.unsaid(at, "l3net import does not know this field")


def read_each(objects: Iterable[SourceObject], read: Callable[[SourceObject], None], *parts: str) -> None:
    """Read objects one by one; one that is wrong is told of and takes no other with it. `parts` (spec, say)
    have to be told of whole."""
    for each in objects:
        try:
            if not each.name.name:
                raise ManifestError("metadata.name", "is required")
            read(each)
        except ManifestError as err:
            each.note(Outcome.UNSAID, err.field, f"{err.why}; the object is not imported")
            continue
        except (RecursionError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as err:
            each.note(Outcome.UNSAID, "", f"cannot be read ({type(err).__name__}); please report it")
            continue
        each.passed_over(*parts)


def only(at: Field, *known: str) -> None:
    """Raises ManifestError for a field that is not known, of an object that is told of as a whole."""
    if isinstance(at.value, Mapping):
        for key, value in at.value.items():
            if key not in known and value not in (None, "", [], {}):
                raise at[str(key)].wrong("l3net import does not know this field")


def object_name(*words: str) -> str:
    """A name that an object may have (RFC 1123), out of words that need not be."""
    text = re.sub(r"[^a-z0-9.-]+", "-", "-".join(words).lower()).strip("-.")
    return re.sub(r"-?\.-?", ".", text)[:253].strip("-.") or "imported"


#: Go's time.ParseDuration, in seconds.
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "ns": 1e-9}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?)(h|ms|m|s|us|ns)")


def seconds(at: Field) -> int:
    """A duration such as `2m0s` in whole seconds, rounded up."""
    text = at.text()
    parts = _PART.findall(text)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != text:
        raise at.wrong(f"{text[:40]!r} is not a duration (such as 90s)")
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return int(total) if total == int(total) else int(total) + 1


def as_number(at: Field) -> int:
    """An AS number: an integer, text of one, or two halves with a dot (RFC 5396 asdot)."""
    value = at.value
    if isinstance(value, str):
        high, dot, low = value.partition(".")
        if dot and high.isdecimal() and low.isdecimal() and int(high) < 2**16 and int(low) < 2**16:
            value = int(high) << 16 | int(low)
        elif value.isdecimal():
            value = int(value)
    elif isinstance(value, float) and not value.is_integer():
        # YAML reads 1.10 as a number, and its last digit is lost
        raise at.wrong("is a number with a fraction; quote an AS number with a dot")
    return Field(at.path, value).integer(1, 2**32 - 1)


def standard_community(at: Field) -> AnyCommunity:
    """Two halves with a colon, or one number (RFC 1997). Raises ManifestError."""
    text = at.text()
    if text.isdecimal() and int(text) < 2**32:
        return Community((int(text) >> 16, int(text) & 0xFFFF))
    return community(at)


def one_of(at: Field, *words: str) -> str:
    """Raises ManifestError for any other word."""
    if at.text() not in words:
        raise at.wrong(f"must be one of {', '.join(words)}")
    return at.text()
