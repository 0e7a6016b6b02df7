"""Calico's BGPFilter as l3net's: rules for each family apart become rules of one list."""

from __future__ import annotations

from ipaddress import ip_network

from l3net.community import AnyCommunity
from l3net.importing.source import Imported, SourceObject, as_number, one_of, only
from l3net.kube.fields import Field
from l3net.kube.resources import community
from l3net.model import Action, BgpFilter, FilterRule, Operations, Prefix, PrefixOperator

_WHOLE: dict[int, Prefix] = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
#: Of a rule.
_FIELDS = (
    "action", "cidr", "matchOperator", "prefixLength", "source", "interface", "peerType", "communities",
    "asPathPrefix", "priority", "operations",
)  # fmt: skip


def read(each: SourceObject, into: Imported) -> None:
    """Put it into `into`. Raises ManifestError."""
    found: dict[str, tuple[FilterRule, ...]] = {}
    for direction in ("import", "export"):
        rules: list[FilterRule] = []
        for version in (4, 6):
            field = each.spec[f"{direction}V{version}"]
            for item in field.items():
                rules += _rule(each, item, version, exporting=direction == "export")
        found[direction] = tuple(rules)
    into.filters[each.name.name] = BgpFilter(each.name.name, found["import"], found["export"])


def _rule(each: SourceObject, item: Field, version: int, *, exporting: bool) -> list[FilterRule]:
    """The rule; none where no route of l3net's could match it, or where it cannot be said."""
    if exporting and item["source"].text(default="") == "RemotePeers":
        each.carried(item, "not needed: nodes announce nothing that they have learned")
        return []
    for field, why in (
        ("interface", "a rule cannot look at the link of a route: it is left out"),
        ("priority", "routes have no priority that a rule could look at: it is left out"),
    ):
        if item[field].present and item[field].value != "":
            each.unsaid(item, why)
            return []
    only(item, *_FIELDS)
    action = Action(one_of(item["action"], "Accept", "Reject"))
    whole = not item["cidr"].text(default="")
    operations = _operations(each, item["operations"])
    where = "export" if exporting else "import"
    each.carried(item, f"BGPFilter {each.name.name} spec.{where}")
    return [
        FilterRule(
            action=action,
            # Without a prefix a rule of l3net's is for both families
            cidr=_WHOLE[version] if whole else item["cidr"].prefix(),
            operator=PrefixOperator.IN
            if whole
            else PrefixOperator(one_of(item["matchOperator"], "Equal", "NotEqual", "In", "NotIn")),
            min_length=item["prefixLength"]["min"].optional_integer(0, 128),
            max_length=item["prefixLength"]["max"].optional_integer(0, 128),
            external={"": None, "eBGP": True, "iBGP": False}.get(item["peerType"].text(default="")),
            communities=frozenset(map(community, item["communities"]["values"].items())),
            as_path_prefix=tuple(map(as_number, item["asPathPrefix"].items())),
            operations=operations,
        )
    ]


def _operations(each: SourceObject, field: Field) -> Operations:
    """In the order given, so that what is prepended last stands first."""
    added: set[AnyCommunity] = set()
    prepend: tuple[int, ...] = ()
    for item in field.items():
        if item["addCommunity"].present:
            added.add(community(item["addCommunity"]["value"]))
        elif item["prependASPath"].present:
            prepend = (*map(as_number, item["prependASPath"]["prefix"].items()), *prepend)
        else:
            each.unsaid(item, "routes have no priority; setLocalPreference and setMED are for other routers")
    return Operations(add_communities=frozenset(added), prepend=prepend)
