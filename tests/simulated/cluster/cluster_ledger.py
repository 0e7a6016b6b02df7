"""What must hold of each write of the controllers' ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cluster_views import GRACE, View, blocks_of, overlapping
from sim_api import Request
from sim_etcd import Change

from l3net.errors import L3netError
from l3net.ipam.ledger import Ledger, decode
from l3net.model import Kind, ObjectName, Prefix

if TYPE_CHECKING:
    from cluster_laws import Laws

#: Seconds that a decision takes, from the state it was made of to its write, while nothing is wrong.
DECIDES = 3.0


class LedgerLaws:
    """Of one run."""

    def __init__(self, laws: Laws) -> None:
        self._laws = laws
        self._asked: dict[tuple[str, str], float] = {}  # by client and target: when it read it last

    def asked(self, request: Request) -> None:
        """Somebody asks the API server."""
        if request.method == "GET":
            self._asked[request.client, request.target] = self._laws.now

    def wrote(self, change: Change) -> None:
        """A controller has written it."""
        laws = self._laws
        assert change.after is not None
        try:
            after = decode(change.after.document.get("data") or {})
        except L3netError as err:
            laws.broken("ledger", str(err))
            return
        self._nothing_twice(after)
        view = laws.views.get(laws.world.api.writing)
        if change.before is None or view is None:
            return
        try:
            before = decode(change.before.document.get("data") or {})
        except L3netError:
            return
        for name in before.blocks.keys() - after.blocks.keys():
            self._freed(view, Kind.NODE, ObjectName("", name), f"/api/v1/nodes/{name}")
            gone = laws.now - view.lacks_since((Kind.NODE, ObjectName("", name)), laws.now)
            if 0 < gone < GRACE - 1 and not self._of_others(before.blocks[name]):
                laws.broken("blocks of who is gone rest", f"{name} is gone for {gone:.1f} s")
        for service in before.addresses.keys() - after.addresses.keys():
            target = f"/api/v1/namespaces/{service.namespace}/services/{service.name}"
            self._freed(view, Kind.SERVICE, service, target)
        for name in after.blocks.keys() - before.blocks.keys():
            gone = laws.now - view.lacks_since((Kind.NODE, ObjectName("", name)), laws.now)
            if gone > DECIDES and laws.timely.calm:
                laws.broken("a write of the ledger goes on from what is there", f"{name}: not there, nor was")

    def _freed(self, view: View, kind: Kind, name: ObjectName, target: str) -> None:
        """Not on the word of a watch alone: the API server was asked, and had it not."""
        laws, key = self._laws, (kind, name)
        if key in view.facts or laws.world.etcd.get(kind.value, name.name, name.namespace) is None:
            return  # it has let go; or is gone
        asked = self._asked.get((view.client.name, target), -1.0)
        if laws.world.restored and laws.world.restored > asked:
            return
        if asked < view.lacks_since(key, laws.now) or asked >= laws.made.get((kind.value, name.name), 0.0):
            laws.broken("nothing is freed of who is there", f"{kind.value} {name}")

    def _of_others(self, blocks: Iterable[Prefix]) -> bool:
        """Whether each of these is carried by a node: that is the node's."""
        carried = [each for node in self._laws.objects("Node") for each in blocks_of(node)]
        return all(any(overlapping(str(block), each) for each in carried) for block in blocks)

    def _nothing_twice(self, ledger: Ledger) -> None:
        laws = self._laws
        held = [(str(block), name) for name, blocks in ledger.blocks.items() for block in blocks]
        for index, (block, name) in enumerate(held):
            for other, second in held[index + 1 :]:
                if overlapping(block, other):
                    laws.broken("no block has two nodes in the ledger", f"{block} of {name}, {second}")
            for each in laws.objects("Node"):
                if each["metadata"]["name"] != name:
                    for carried in blocks_of(each):
                        if overlapping(block, carried):
                            what = f"{block} of {each['metadata']['name']} is given to {name}"
                            laws.broken("no block is given that a node carries", what)
        addresses = Counter(address for found in ledger.addresses.values() for address in found)
        for address, count in addresses.items():
            if count > 1:
                laws.broken("no address has two services in the ledger", str(address))
