"""The table's owner over a firewall that records: what goes by itself, what waits, and who pays for it."""

from __future__ import annotations

import asyncio
import errno
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from l3net.agent.servicing import Servicing
from l3net.agent.table import FIRST, LONGEST, TRIES, Table
from l3net.errors import KernelError, RefusedError
from l3net.firewall.facts import FirewallPlan
from l3net.model import (
    Backend,
    BgpConfiguration,
    ClusterState,
    Endpoint,
    EndpointSlice,
    IpPool,
    Kind,
    Node,
    NodePortAddresses,
    ObjectName,
    Service,
    ServicePort,
    Stale,
    VirtualServer,
)

Refuses = Callable[[str], bool]


@dataclass
class Recording:
    """A ports.Firewall that keeps what it was told, and refuses what a test wants refused."""

    refuses: Refuses = lambda text: False
    code: int = errno.EINVAL
    outcome: type[KernelError] = RefusedError
    whole: list[str] = field(default_factory=list)
    amended: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    kept: bool = True

    def apply(self, ruleset: str) -> None:
        self._judge(ruleset)
        self.whole.append(ruleset)
        self.kept = True

    def amend(self, transaction: str) -> None:
        self._judge(transaction)
        self.amended.append(transaction)

    def _judge(self, text: str) -> None:
        if self.refuses(text):
            self.refused.append(text)
            raise self.outcome("nft cannot change table inet l3net (why)", self.code)

    def intact(self) -> bool:
        return self.kept

    def there(self) -> bool:
        return self.kept

    def touched(self, generation: int | None) -> None: ...

    def clients(self, names: Collection[str]) -> Mapping[str, Sequence[str]]:
        return {}


class Forgetting:
    """A ports.Connections."""

    def __init__(self) -> None:
        self.forgotten: list[Stale] = []

    def forget(self, stale: Collection[Stale]) -> None:
        self.forgotten += stale


async def in_thread(call: Callable[..., Any], *args: Any) -> Any:
    return call(*args)


def server(number: int, backends: int = 2, **changes: Any) -> VirtualServer:
    ends = tuple(Backend(ip_address("10.200.0.0") + number * 3 + each, 8080) for each in range(backends))
    made = VirtualServer(ip_address("10.96.0.0") + number, "udp", 53, ends, ends)
    return replace(made, **changes)


PLAN = FirewallPlan(
    blocks=frozenset({ip_network("10.244.1.0/24")}),
    nat_sources=frozenset({ip_network("10.244.0.0/16")}),
    inside=frozenset({ip_network("10.244.0.0/16"), ip_network("192.0.2.1/32")}),
    node_addresses=frozenset({ip_address("192.0.2.1")}),
)
PORT = replace(PLAN, bgp_ports=frozenset({179, 1179}))  # protection and services
INSIDE = replace(PLAN, inside=PLAN.inside | {ip_network("198.51.100.0/24")})  # masquerade alone


class Owner:
    """A table and its surroundings; time is what the test makes it."""

    def __init__(self, *servers: VirtualServer, refuses: Refuses = lambda text: False) -> None:
        self.firewall = Recording(refuses)
        self.problems: dict[str, str] = {}
        self.time = 0.0
        self.table = Table(self.firewall, self.problems, in_thread, lambda: self.time)
        self.servers = {each.key: each for each in servers}
        self.plan = PLAN
        self.follow()

    def follow(self, *changed: VirtualServer, plan: FirewallPlan | None = None, check: bool = False) -> bool:
        self.plan = plan or self.plan
        self.servers |= {each.key: each for each in changed}
        following = self.table.follow(
            self.plan, self.servers, {each.key: each for each in changed}, check=check
        )
        return asyncio.run(following)

    def taken(self) -> list[str]:
        """What went since the last time."""
        found, self.firewall.amended = self.firewall.amended, []
        return found


def about(*words: str) -> Refuses:
    return lambda text: any(word in text for word in words)


def test_what_has_changed_goes_as_one_transaction() -> None:
    owner = Owner(server(1), server(2))
    assert len(owner.firewall.whole) == 1
    both = replace(PORT, inside=INSIDE.inside)
    assert not owner.follow(server(1, 1), plan=both)
    (text,) = owner.taken()
    for part in ("input-protect", "outside4", "backends4"):
        assert part in text
    assert not owner.follow()
    assert not owner.follow(plan=replace(both))
    assert owner.taken() == []
    assert len(owner.firewall.whole) == 1


def test_a_section_that_is_refused_keeps_no_other_from_following() -> None:
    owner = Owner(server(1))
    owner.firewall.refuses = about("input-protect")
    both = replace(PORT, inside=INSIDE.inside)
    owner.follow(server(1, 1), plan=both)
    parts = ("node4-external", "outside4", "backends4")
    assert [[part for part in parts if part in text] for text in owner.taken()] == [[each] for each in parts]
    assert owner.problems == {"firewall": "protection: nft cannot change table inet l3net (why): EINVAL"}
    tried = len(owner.firewall.refused)
    for backends in (2, 3, 1):
        owner.follow(server(1, backends))
        (text,) = owner.taken()
        assert "backends4" in text
    assert len(owner.firewall.refused) == tried, "no transaction of the others had it in"
    assert len(owner.firewall.whole) == 1, "nor was the table replaced"
    owner.firewall.refuses = about()
    owner.time = FIRST
    owner.follow()
    (text,) = owner.taken()
    assert "1179" in text
    assert owner.problems == {}


def test_what_is_refused_is_tried_later_each_time() -> None:
    owner = Owner(server(1), refuses=about("1179"))
    owner.follow(plan=PORT)
    times = []
    before = len(owner.firewall.refused)
    for quarter in range(1, 1200):
        owner.time = quarter / 4
        owner.follow(check=True)
        if len(owner.firewall.refused) > before:
            before = len(owner.firewall.refused)
            times.append(owner.time)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[:4] == [1, 2, 4, 8]
    assert max(gaps) == LONGEST
    assert owner.taken() == []


def test_one_bad_server_waits_alone() -> None:
    """Of a thousand that changed at once; those that change later go by elements."""
    owner = Owner(*(server(number) for number in range(1000)))
    bad = server(777)
    owner.firewall.refuses = about(f"{bad.address} . ")
    owner.follow(*(server(number, 1) for number in range(1000)))
    assert len(owner.firewall.refused) + len(owner.firewall.amended) <= TRIES + 1
    done = "".join(owner.taken())
    assert all(f" {server(number).address} . " in done for number in range(1000) if number != 777)
    assert owner.problems["firewall"].startswith("services: nft cannot change")
    assert owner.table.waits(bad.key)
    owner.follow(server(5, 3))
    (text,) = owner.taken()
    assert str(bad.address) not in text
    owner.firewall.refuses = about()
    owner.follow(server(777, 3))  # as it is now, and at once
    (text,) = owner.taken()
    assert str(bad.address) in text
    assert owner.problems == {}
    assert not owner.table.waits(bad.key)
    assert len(owner.firewall.whole) == 1


def test_the_chains_of_services_that_are_refused_do_not_keep_servers() -> None:
    owner = Owner(server(1), refuses=about("forward-refuse"))
    owner.follow(server(1, 1), plan=replace(PLAN, service_cidrs=frozenset({ip_network("10.96.0.0/16")})))
    (text,) = owner.taken()
    assert "backends4" in text
    owner.follow(server(1, 3))
    (text,) = owner.taken()
    assert "backends4" in text
    assert owner.problems["firewall"].startswith("services: ")


@pytest.mark.parametrize("word", ["1179 } jump not-to-pods", "198.51.100.0/24", "10.96.0.1 . 17"])
def test_a_table_that_is_refused_is_made_without_the_section_that_is(word: str) -> None:
    owner = Owner(server(1), server(2), refuses=about(word))
    owner.table.doubt()
    assert owner.follow(plan=replace(PORT, inside=INSIDE.inside))
    known = "".join((owner.firewall.whole[-1], *owner.taken()))
    if "17" not in word.split():  # none was taken of the services at the start
        assert "tcp dport { 179" in known
        assert "ip daddr 10.244.0.0/16 return" in known, "as it was taken last"
    expected = {"1179 } jump not-to-pods", "198.51.100.0/24", "10.96.0.1 . 17"}
    assert {each for each in expected if each in known} == expected - {word}
    assert "10.96.0.2 . 17" in known, "a bad server keeps no other from following"
    assert owner.problems["firewall"].split(":")[0] in ("protection", "masquerade", "services")
    owner.firewall.refuses = about()
    owner.time = 10
    owner.follow()
    assert word in "".join(owner.taken())
    assert owner.problems == {}


def test_a_section_that_was_never_taken_is_bare_meanwhile() -> None:
    owner = Owner(server(1), refuses=about("nd-redirect"))
    (whole,) = owner.firewall.whole
    assert "chain prerouting-spoof {\ntype filter hook prerouting priority -300; policy accept;\n}" in whole
    assert "10.96.0.1 . 17" in whole
    assert owner.problems["firewall"].startswith("protection: ")
    owner.firewall.refuses = about()
    owner.time = FIRST
    owner.follow()
    (text,) = owner.taken()
    assert "nd-router-advert" in text
    assert owner.problems == {}


def test_nothing_is_taken_is_a_problem_and_is_tried_later() -> None:
    owner = Owner(server(1), refuses=lambda text: True)
    assert not owner.table.known
    assert owner.problems == {"firewall": "nft cannot change table inet l3net (why): EINVAL"}
    before = len(owner.firewall.refused)
    owner.follow(server(1, 1))
    assert len(owner.firewall.refused) == before
    owner.firewall.refuses = about()
    owner.time = FIRST
    assert owner.follow()
    assert owner.problems == {}
    assert "10.200.0.4" not in owner.firewall.whole[-1], "as it is wanted by now"


@pytest.mark.parametrize("kind", ["outcome unknown", "not as it was left", "an element is not there"])
def test_the_table_is_replaced_where_it_is_not_known_what_is_in_force(kind: str) -> None:
    owner = Owner(server(1))
    match kind:
        case "outcome unknown":
            owner.firewall.refuses, owner.firewall.outcome = about("delete element"), KernelError
            owner.follow(server(1, 1))
            assert not owner.table.known
            owner.time = FIRST
            assert owner.follow()
        case "not as it was left":
            owner.firewall.kept = False
            assert owner.follow(server(1, 1), check=True)
        case _:
            owner.firewall.refuses, owner.firewall.code = about("delete element"), errno.ENOENT
            owner.time = LONGEST
            assert owner.follow(server(1, 1))
            # Not for each that changes, if that is what does not help.
            assert not owner.follow(server(1, 2), server(1, 1))
    assert len(owner.firewall.whole) == 2
    assert owner.table.known


# --- the agent's services --------------------------------------------------------------------------------

MANY = 10_000


def service(number: int) -> Service:
    name = ObjectName("default", f"s{number}")
    return Service(
        name, cluster_ips=(ip_address("10.96.0.1") + number,), ports=(ServicePort("web", "UDP", 80),)
    )


def on_nodes(number: int) -> Service:
    """The same with a NodePort, of SCTP for a change."""
    port = ServicePort("web", "SCTP", 80, 20000 + number)
    return replace(service(number), type="NodePort", ports=(port,))


def ends(number: int, ready: int = 2, protocol: str = "UDP") -> EndpointSlice:
    name = ObjectName("default", f"s{number}")
    endpoints = tuple(
        Endpoint(ip_address("10.200.0.0") + number * 2 + each, node=f"n{each}") for each in range(ready)
    )
    ports = {"web": (protocol, 8080)}
    return EndpointSlice(ObjectName("default", f"s{number}-x"), name, endpoints, ports)


class Agent:
    """The services' part of an agent, on a state with some thousand services."""

    def __init__(self, services: int, made: Callable[[int], Service] = service) -> None:
        self.firewall, self.connections = Recording(), Forgetting()
        self.problems: dict[str, str] = {}
        self.services = asyncio.run(self._made())
        self.state = ClusterState(
            nodes={
                f"n{number}": Node(
                    f"n{number}",
                    (ip_address("192.0.2.0") + number,),
                    (ip_network(f"10.244.{number}.0/24"),),
                )
                for number in range(1, 4)
            },
            pools={"pods": IpPool("pods", ip_network("10.244.0.0/16"), 24, nat_outgoing=True)},
        )
        for number in range(services):
            self.services.note(Kind.SERVICE, service(number).name, made(number))
            protocol = made(number).ports[0].protocol
            self.services.note(Kind.ENDPOINT_SLICE, ends(number).name, ends(number, protocol=protocol))
        self.go()

    async def _made(self) -> Servicing:
        """Its clock is that of the loop it is made in."""
        return Servicing("n1", self.firewall, self.connections, self.problems)

    def go(self, *, rest: bool = True) -> list[str]:
        """What was amended in a pass."""
        before = len(self.firewall.amended)
        settled = self.services.settle(self.state)
        asyncio.run(self.services.apply(self.state, settled, rest=rest, check=False))
        return self.firewall.amended[before:]


@pytest.fixture(scope="module")
def small_and_large() -> tuple[Agent, Agent]:
    return Agent(10), Agent(MANY)


def node_comes(agent: Agent) -> None:
    agent.state.nodes["n9"] = Node("n9", (ip_address("192.0.2.9"),), (ip_network("10.244.9.0/24"),))


def node_goes(agent: Agent) -> None:
    del agent.state.nodes["n3"]  # there from the beginning, whatever the order of the cases


def address(agent: Agent) -> None:
    agent.state.nodes["n2"] = replace(agent.state.nodes["n2"], addresses=(ip_address("198.51.100.2"),))


def others_block(agent: Agent) -> None:
    agent.state.nodes["n2"] = replace(agent.state.nodes["n2"], blocks=(ip_network("10.250.2.0/24"),))


def own_block(agent: Agent) -> None:
    agent.state.nodes["n1"] = replace(agent.state.nodes["n1"], blocks=(ip_network("10.244.8.0/24"),))


def pool(agent: Agent) -> None:
    agent.state.pools["more"] = IpPool("more", ip_network("10.251.0.0/16"), 24, nat_outgoing=True)


def ranges(agent: Agent) -> None:
    agent.state.configuration = BgpConfiguration(service_cidrs=(ip_network("10.96.0.0/12"),))


def port(agent: Agent) -> None:
    agent.state.configuration = replace(agent.state.configuration, listen_port=1179)


def error_port(agent: Agent) -> None:
    agent.services.error_port = 6108


def pod(agent: Agent) -> None:
    agent.services.note(Kind.ENDPOINT_SLICE, ends(5).name, ends(5, 1))


@pytest.mark.parametrize(
    "change",
    [node_comes, address, others_block, own_block, pool, ranges, port, error_port, pod, node_goes],
)
def test_what_a_change_costs_does_not_depend_on_the_number_of_services(
    small_and_large: tuple[Agent, Agent], change: Callable[[Agent], None]
) -> None:
    amended = []
    for agent in small_and_large:
        change(agent)
        amended.append(agent.go(rest=change is not pod))
        assert agent.go() == [], "the second pass is quiet"
        assert len(agent.firewall.whole) == 1
        assert agent.problems == {}
    assert amended[0] == amended[1]
    assert len(amended[0]) == 1
    assert 0 < len(amended[0][0]) < 4000


def test_flows_are_forgotten_once_their_server_is_in_force() -> None:
    """Those of one that is refused wait with it; the others do not."""
    agent = Agent(3)
    assert {next(iter(stale.destinations)) for stale in agent.connections.forgotten} == {
        server(number).address for number in (1, 2, 3)
    }
    agent.connections.forgotten.clear()
    agent.firewall.refuses = about("10.96.0.2 . 17")
    for number in range(3):
        agent.services.note(Kind.ENDPOINT_SLICE, ends(number).name, ends(number, 1))
    agent.go(rest=False)
    found = {str(next(iter(stale.destinations))) for stale in agent.connections.forgotten}
    assert found == {"10.96.0.1", "10.96.0.3"}
    agent.firewall.refuses = about()
    agent.services.note(Kind.ENDPOINT_SLICE, ends(1).name, ends(1, 0))
    agent.go(rest=False)
    assert str(next(iter(agent.connections.forgotten[-1].destinations))) == "10.96.0.2"


def test_what_a_node_port_costs_does_not_depend_on_their_number() -> None:
    amended = []
    for agent in (Agent(10, on_nodes), Agent(MANY, on_nodes)):
        agent.services.note(Kind.ENDPOINT_SLICE, ends(5).name, ends(5, 1, "SCTP"))
        changed = agent.go(rest=False)
        agent.services.note(Kind.SERVICE, service(3).name, None)
        amended.append([*changed, *agent.go(rest=False)])
        assert len(agent.firewall.whole) == 1
    assert amended[0] == amended[1]
    assert len(amended[0]) == 2
    assert sum(map(len, amended[0])) < 2000


def test_associations_to_a_node_port_are_forgotten_where_node_ports_are() -> None:
    """SCTP's, and those to other ports of other addresses are nobody's concern."""
    agent = Agent(3, on_nodes)
    agent.connections.forgotten.clear()
    agent.services.note(Kind.ENDPOINT_SLICE, ends(1).name, ends(1, 1, "SCTP"))
    agent.go(rest=False)
    assert all(stale.protocol == 132 for stale in agent.connections.forgotten)
    (found,) = [stale for stale in agent.connections.forgotten if stale.own_in is not None]
    assert (found.port, found.destinations) == (20001, frozenset())
    assert found.own_in == {ip_network("192.0.2.1")}
    agent.connections.forgotten.clear()
    agent.state.configuration = BgpConfiguration(
        node_ports=NodePortAddresses(cidrs=(ip_network("198.51.100.0/24"),))
    )
    agent.go()
    assert {(stale.port, stale.own_in) for stale in agent.connections.forgotten} == {
        (20000 + number, frozenset({ip_network("198.51.100.0/24")})) for number in range(3)
    }
