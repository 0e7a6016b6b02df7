"""What the real agent programs on a simulated node, walked: services, masquerade, policies and routes, after
every kind of change, and while it happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from scene import BLOCKS, Scene
from sim_node import document, endpoints, node, service
from sim_policies import attached, pod, policy
from simloop import simulate

from packets.outcomes import Delivered, Dropped, Forwarded, Lost, Outcome, Rejected
from packets.packet import packet
from packets.stack import SimStack

BOTH = (4, 6)
POD = {4: "10.244.1.9", 6: "fd00:244:1::9"}
REMOTE = {4: "10.244.2.3", 6: "fd00:244:2::3"}
VIP = {4: "10.96.0.10", 6: "fd00:96::a"}
OUTSIDE = {4: "192.0.2.77", 6: "2001:db8::77"}
NODE_IP = {4: "10.0.0.2", 6: "fd00::2"}
GATEWAY = {4: "10.244.1.1", 6: "fd00:244:1::1"}
TOR = {4: "10.0.0.1", 6: "fd00::1"}
GOOD = {4: "10.244.2.8", 6: "fd00:244:2::8"}
BAD = {4: "10.244.2.7", 6: "fd00:244:2::7"}
N2_BLOCKS = ("10.244.2.0/24", "fd00:244:2::/120")
N2 = node("n2", *N2_BLOCKS, addresses=("10.0.0.3", "fd00::3"))
PORTS = ({"port": 80, "nodePort": 30080},)
RANGES = document(
    "ServiceCIDR",
    "kubernetes",
    version="networking.k8s.io/v1",
    spec={"cidrs": ["10.96.0.0/16", "fd00:96::/112"]},
)
WEB = service("web", *VIP.values(), type="NodePort", ports=PORTS)


def slices(*, here: bool = True, there: bool = True) -> list[dict[str, Any]]:
    """The service's endpoints: the pod of this node, and one of another."""
    found = []
    for version in BOTH:
        made = endpoints("web", POD[version])
        other = endpoints("web", REMOTE[version], on="n2")
        made["endpoints"] = [*made["endpoints"] * here, *other["endpoints"] * there]
        found.append(made)
    return found


PODS = (
    pod("web", *POD.values(), on="n1", app="web"),
    pod("good", *GOOD.values(), on="n2", role="good"),
    pod("bad", *BAD.values(), on="n2", role="bad"),
)
ONLY_GOOD = policy("only-good", {"app": "web"}, {"role": "good"}, port=8080)


class Walked(Scene):
    """A node whose peers lead to the other node's pods, with one pod of its own."""

    async def up(self) -> None:
        await self.ready(N2, RANGES, WEB, *slices(), *PODS)
        for tor, prefix in zip(self.routers, N2_BLOCKS, strict=True):
            tor.route(prefix)
            self.speaker.say(tor, ip_network(prefix))
        assert await self.pods.add("web", attached("web", *POD.values())) == ""
        await asyncio.sleep(2)
        self.stack = SimStack.of(self)
        self.firewall.table.parse()

    def by_link(self, source: str, destination: str, port: int, **more: Any) -> set[str]:
        """What becomes of a packet that comes in by the link to the routers, in short."""
        return short(self.stack.receive(packet(source, destination, dport=port, **more), "up0"))

    def of_pod(self, destination: str, port: int, version: int, **more: Any) -> set[str]:
        return short(self.stack.from_pod(packet(POD[version], destination, dport=port, **more)))


def short(outcomes: Iterable[Outcome]) -> set[str]:
    found = set()
    for each in outcomes:
        ends = f"{each.packet.source} > {each.packet.destination} {each.packet.dport}"
        match each:
            case Delivered():
                found.add(f"{ends} at {each.to or 'host'}")
            case Forwarded():
                found.add(f"{ends} by {each.interface} {each.gateway}")
            case Dropped() | Rejected():
                found.add(type(each).__name__.lower())
            case Lost():
                found.add(f"lost: {each.why}")
    return found


def served(scene: Walked, *, here: bool = True, there: bool = True, policed: bool = False) -> None:
    """Whoever calls the service reaches an endpoint, by the way that leads to it."""
    for version in BOTH:
        vip, outside, own, tor = VIP[version], OUTSIDE[version], POD[version], TOR[version]
        remote = f"{REMOTE[version]} 8080 by up0 {tor}"
        for to, port in ((vip, 80), (NODE_IP[version], 30080)):
            arrives = {"dropped"} if policed else {f"{outside} > {own} 8080 at web"}
            masqueraded = {f"{NODE_IP[version]} > {remote}"}
            wanted = (arrives if here else set()) | (masqueraded if there else set())
            assert scene.by_link(outside, to, port) == wanted
        hairpin = {f"{GATEWAY[version]} > {own} 8080 at web"} if here else set()
        assert scene.of_pod(vip, 80, version) == hairpin | ({f"{own} > {remote}"} if there else set())
        assert scene.by_link(outside, vip, 81) == {"rejected"}
        assert scene.of_pod(vip, 81, version) == {"rejected"}


def answered(scene: Walked) -> None:
    """One connection from outside, there and back, and an error about it."""
    for version in BOTH:
        first = packet(OUTSIDE[version], VIP[version], dport=80, sport=41000)
        for outcome in scene.stack.receive(first, "up0"):
            scene.stack.take(outcome)
            if isinstance(outcome, Dropped):  # by a policy
                continue
            back, stack = outcome.packet.answer(), scene.stack
            here = isinstance(outcome, Delivered)
            reply = stack.from_pod(back) if here else stack.receive(back, "up0")
            (only,) = reply
            assert isinstance(only, Forwarded) and only.gateway == ip_address(TOR[version])
            assert str(only.packet.source) == VIP[version] and only.packet.sport == 80
            assert only.packet.destination == first.source and only.packet.dport == 41000
            scene.stack.tracking.clear()


def test_services_lead_to_their_endpoints() -> None:
    async def scenario() -> None:
        scene = Walked()
        await scene.up()
        served(scene)
        answered(scene)
        for version in BOTH:
            # A pod of ours to what is outside, to a router, and with somebody else's address.
            assert scene.of_pod(OUTSIDE[version], 80, version) == {
                f"{POD[version]} > {OUTSIDE[version]} 80 by up0 {TOR[version]}"
            }
            assert scene.of_pod(TOR[version], 179, version) == {
                f"{POD[version]} > {TOR[version]} 179 by up0 None"
            }
            spoofed = packet(GOOD[version], OUTSIDE[version], dport=80)
            assert short(scene.stack.from_pod(spoofed)) == {"dropped"}
            assert scene.of_pod(NODE_IP[version], 179, version) == {"dropped"}
            nowhere = packet(OUTSIDE[version], {4: "10.244.1.99", 6: "fd00:244:1::99"}[version])
            assert short(scene.stack.receive(nowhere, "up0")) == {"lost: no pod has this address"}
            # A process of the host, which has the route choose its address.
            unspecified = "::" if version == 6 else "0.0.0.0"
            own, gateway = NODE_IP[version], GATEWAY[version]
            assert short(scene.stack.send(packet(unspecified, VIP[version], dport=80))) <= {
                *(f"{source} > {POD[version]} 8080 at web" for source in (own, gateway)),
                *(f"{source} > {REMOTE[version]} 8080 by up0 {TOR[version]}" for source in (own,)),
            }

    simulate(scenario())


def nat_pools(**more: Any) -> list[dict[str, Any]]:
    """Those of the pods, which leave the cluster with an address of their node."""
    return [
        document("IPPool", f"pods{version}", spec={"cidr": cidr, "natOutgoing": True, **more})
        for version, cidr in ((4, "10.244.0.0/16"), (6, "fd00:244::/32"))
    ]


def test_source_ports_are_drawn_where_the_node_stands_for_a_pod_or_a_client() -> None:
    async def scenario() -> None:
        scene = Walked()
        await scene.up()
        scene.datastore.apply(*nat_pools(), *slices(here=False))
        await asyncio.sleep(1)
        scene.stack.drawn = 50123
        for version in BOTH:
            for protocol, sport in (("tcp", 50123), ("udp", 50123), ("sctp", 40000)):
                sent = packet(POD[version], OUTSIDE[version], protocol, 80, sport=40000)
                (only,) = scene.stack.from_pod(sent)
                assert (str(only.packet.source), only.packet.sport) == (NODE_IP[version], sport)
            called = packet(OUTSIDE[version], VIP[version], dport=80, sport=40000)
            (only,) = scene.stack.receive(called, "up0")
            assert (str(only.packet.source), only.packet.sport) == (NODE_IP[version], 50123)
            kept = packet(POD[version], REMOTE[version], dport=80, sport=40000)
            (only,) = scene.stack.from_pod(kept)
            assert (str(only.packet.source), only.packet.sport) == (POD[version], 40000)

    simulate(scenario())


SNAT = {4: ("10.0.0.21", "10.0.0.22"), 6: ("fd00::21", "fd00::22")}


def test_pods_leave_with_the_addresses_that_are_chosen_for_their_node() -> None:
    """Those that stand on its links; the node's own choice where none does. A pod keeps one."""

    def sources(scene: Walked, version: int, *, exact: bool = False) -> set[str]:
        scene.stack.exact = exact
        sent = (packet(POD[version], OUTSIDE[version], dport=80, sport=each) for each in (40000, 40001))
        return {str(each.packet.source) for one in sent for each in scene.stack.from_pod(one)}

    async def chosen(scene: Walked, *addresses: str) -> None:
        text = ",".join(addresses)
        made = node("n1", *BLOCKS)
        made["metadata"]["annotations"] = {"l3net.io/snat-addresses": text}
        scene.datastore.apply(made)
        await asyncio.sleep(1)

    async def scenario() -> None:
        scene = Walked()
        await scene.up()
        scene.datastore.apply(*nat_pools())
        both = [each for version in BOTH for each in SNAT[version]]
        await chosen(scene, *both)
        for version in BOTH:
            assert sources(scene, version) == {NODE_IP[version]}
        assert len(said := [each for each in scene.problems() if "l3net.io/snat-addresses" in each]) == 4
        assert "10.0.0.21 is on no link of this node" in said[0] and "the kernel chooses" in said[0]
        scene.kernel.add_link("up1", "10.0.0.21/32", "fd00::21/128")
        await asyncio.sleep(1)
        for version in BOTH:
            assert sources(scene, version) == {SNAT[version][0]}
        assert len([each for each in scene.problems() if "pods leave with" in each]) == 2
        scene.kernel.add_link("up2", "10.0.0.22/32", "fd00::22/128")
        await asyncio.sleep(1)
        for version in BOTH:
            assert sources(scene, version) == set(SNAT[version])
            assert len(sources(scene, version, exact=True)) == 1
            kept = scene.of_pod(REMOTE[version], 80, version)
            assert kept == {f"{POD[version]} > {REMOTE[version]} 80 by up0 {TOR[version]}"}
        assert not scene.problems()
        # One that goes takes its connections along, and nobody else's.
        for version in BOTH:
            for at, address in enumerate(SNAT[version]):
                scene.stack.exact = False
                sent = packet(POD[version], OUTSIDE[version], dport=80, sport=41000 + at)
                outcomes = {str(each.packet.source): each for each in scene.stack.from_pod(sent)}
                scene.stack.take(outcomes[address])
        assert len(scene.stack.tracking) == 4
        scene.kernel.addresses = [each for each in scene.kernel.addresses if each.interface != "up2"]
        scene.kernel.set_link("up2", mtu=1400)
        await asyncio.sleep(1)
        for version in BOTH:
            assert sources(scene, version) == {SNAT[version][0]}
        left = {each.reply.destination for each in scene.stack.tracking.flows.values()}
        assert left == {int(ip_address(SNAT[version][0])) for version in BOTH}
        await chosen(scene)
        for version in BOTH:
            scene.stack.tracking.clear()
            assert sources(scene, version) == {NODE_IP[version]}
        assert not scene.problems()

    simulate(scenario())


def test_what_a_policy_forbids_is_dropped() -> None:
    async def scenario() -> None:
        scene = Walked()
        await scene.up()
        for version in BOTH:
            own = POD[version]
            assert scene.by_link(BAD[version], own, 8080) == {f"{BAD[version]} > {own} 8080 at web"}
        scene.datastore.apply(ONLY_GOOD)
        await asyncio.sleep(1)
        forbidden(scene)
        served(scene, policed=True)
        scene.datastore.delete(ONLY_GOOD)
        await asyncio.sleep(1)
        served(scene)

    simulate(scenario())


def forbidden(scene: Walked) -> None:
    """By the policy `only-good`."""
    for version in BOTH:
        own, good = POD[version], GOOD[version]
        assert scene.by_link(good, own, 8080) == {f"{good} > {own} 8080 at web"}
        assert scene.by_link(BAD[version], own, 8080) == {"dropped"}
        assert scene.by_link(OUTSIDE[version], own, 8080) == {"dropped"}
        assert scene.by_link(good, own, 443) == {"dropped"}
        assert scene.by_link(BAD[version], VIP[version], 80) <= {
            "dropped",
            f"{NODE_IP[version]} > {REMOTE[version]} 8080 by up0 {TOR[version]}",
        }


def test_a_connection_that_a_policy_forbids_ends() -> None:
    async def scenario() -> None:
        scene = Walked()
        await scene.up()
        first = packet(BAD[4], POD[4], dport=8080)
        (began,) = scene.stack.receive(first, "up0")
        scene.stack.take(began)
        (reply,) = scene.stack.from_pod(began.packet.answer())
        scene.stack.take(reply)
        assert short(scene.stack.receive(first.following(), "up0")) == {f"{BAD[4]} > {POD[4]} 8080 at web"}
        scene.datastore.apply(ONLY_GOOD)
        await asyncio.sleep(1)
        assert not len(scene.stack.tracking), "its entry is deleted"
        (told,) = scene.stack.receive(first.following(), "up0")
        assert isinstance(told, Rejected) and told.how == "tcp reset", "both ends are told"
        (other,) = scene.stack.receive(packet(OUTSIDE[4], POD[4], dport=8080), "up0")
        assert isinstance(other, Dropped)

    simulate(scenario())


@pytest.mark.parametrize("chain", ["postrouting-nat", "prerouting-nat", "policy-ingress"])
def test_what_a_chain_does_not_do_is_noticed(chain: str) -> None:
    """The control: a chain that somebody has emptied, with that which stands by for it."""

    async def scenario() -> None:
        scene = Walked()
        await scene.up()
        scene.datastore.apply(ONLY_GOOD)
        await asyncio.sleep(1)
        names = {chain, chain.replace("-nat", "-again")}
        text = "".join(f"flush chain inet l3net {name}\n" for name in sorted(names))
        scene.firewall.table = scene.firewall.table.amended(text)
        with pytest.raises(AssertionError):
            served(scene, policed=True)

    simulate(scenario())


async def _restart(scene: Walked) -> None:
    await scene.kill()
    await asyncio.sleep(1)
    scene.start()


async def _flushed(scene: Walked) -> None:
    scene.firewall.flush()


async def _endpoints_turn(scene: Walked) -> None:
    scene.datastore.apply(*slices(here=False))
    await asyncio.sleep(1)
    served(scene, here=False)
    scene.datastore.apply(*slices(there=False))
    await asyncio.sleep(1)
    served(scene, there=False, policed=True)
    scene.datastore.apply(*slices())


async def _service_goes(scene: Walked) -> None:
    scene.datastore.delete(WEB)
    await asyncio.sleep(1)
    for version in BOTH:
        assert not any("8080" in each for each in scene.by_link(OUTSIDE[version], VIP[version], 80))
    scene.datastore.apply(WEB)


async def _policy_turns(scene: Walked) -> None:
    scene.datastore.apply(policy("only-good", {"app": "web"}, {"role": "bad"}, port=8080))
    await asyncio.sleep(1)
    assert scene.by_link(GOOD[4], POD[4], 8080) == {"dropped"}
    scene.datastore.apply(ONLY_GOOD)


async def _peer_is_away(scene: Walked) -> None:
    scene.speaker.drop(scene.tor4, back=False)
    await asyncio.sleep(400)
    assert not any(REMOTE[4] in each for each in scene.by_link(OUTSIDE[4], VIP[4], 80))
    scene.tor4.there = True
    scene.speaker.dial(scene.tor4.address)


async def _link_flaps(scene: Walked) -> None:
    scene.kernel.set_link("up0", up=False)
    await asyncio.sleep(1)
    scene.kernel.set_link("up0", up=True)


async def _routes_are_deleted(scene: Walked) -> None:
    scene.kernel.delete_ours(*[key for key in scene.kernel.ours if str(key[0]) in N2_BLOCKS])


async def _node_gets_a_block(scene: Walked) -> None:
    scene.datastore.apply(node("n1", *BLOCKS, "10.244.9.0/24"))


async def _pod_comes_again(scene: Walked) -> None:
    scene.pods.delete("web")
    await asyncio.sleep(1)
    assert await scene.pods.add("web", attached("web", *POD.values())) == ""


CHANGES = (
    _restart, _flushed, _endpoints_turn, _service_goes, _policy_turns, _peer_is_away, _link_flaps,
    _routes_are_deleted, _node_gets_a_block, _pod_comes_again,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda each: each.__name__)
def test_after_any_change_packets_go_as_before(change: Callable[[Walked], Any]) -> None:
    async def scenario() -> None:
        scene = Walked()
        await scene.up()
        scene.datastore.apply(ONLY_GOOD)
        await asyncio.sleep(1)
        await change(scene)
        await asyncio.sleep(200)
        scene.firewall.table.parse()
        assert not scene.problems()
        forbidden(scene)
        served(scene, policed=True)
        answered(scene)
        assert len(scene.stack.tracking) == 0

    simulate(scenario())


def test_while_an_agent_starts_nothing_passes_that_is_forbidden() -> None:
    async def scenario() -> None:
        scene = Walked()
        await scene.up()
        scene.datastore.apply(ONLY_GOOD)
        await asyncio.sleep(1)
        looks = 0

        def look(do: Callable[[str], None]) -> Callable[[str], None]:
            def done(text: str) -> None:
                nonlocal looks
                do(text)
                forbidden(scene)
                served(scene, policed=True)
                looks += 1

            return done

        scene.firewall.apply = look(scene.firewall.apply)  # type: ignore[method-assign]
        scene.firewall.amend = look(scene.firewall.amend)  # type: ignore[method-assign]
        await scene.kill()
        scene.start()
        await asyncio.sleep(5)
        assert looks

    simulate(scenario())


def test_clients_come_back_to_their_endpoint() -> None:
    """Also after a restart, and with other endpoints beside theirs."""

    async def scenario() -> None:
        scene = Walked()
        await scene.up()
        more = [endpoints("web", POD[4], "10.244.1.20", "10.244.1.21", "10.244.1.22")]
        scene.datastore.apply(service("web", VIP[4], sessionAffinity="ClientIP"), *more)
        await asyncio.sleep(1)
        scene.stack.exact = True
        met = {}
        for number in range(1, 9):
            (outcome,) = scene.stack.receive(packet(f"192.0.2.{number}", VIP[4], dport=80), "up0")
            met[number] = scene.stack.take(outcome).packet.destination
        assert len(set(met.values())) > 1
        scene.stack.tracking.clear()
        for change in (endpoints("web", *map(str, sorted(set(met.values()))), "10.244.1.30"), None):
            if change is None:
                await _restart(scene)
            else:
                scene.datastore.apply(change)
            await asyncio.sleep(3)
            scene.stack.exact = False
            for number, destination in met.items():
                outcomes = scene.stack.receive(packet(f"192.0.2.{number}", VIP[4], dport=80), "up0")
                assert [each.packet.destination for each in outcomes] == [destination]
        others = scene.stack.receive(packet("192.0.2.99", VIP[4], dport=80), "up0")
        assert {each.packet.destination for each in others} > set(met.values())

    simulate(scenario())
