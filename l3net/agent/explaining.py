"""Answers why: of a service, a pod, an address, or a packet from one end to another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from l3net.addresses import host_prefix
from l3net.agent.loop import Agent
from l3net.agent.seeing import Seeing
from l3net.agent.tally import standing
from l3net.egress.holding import EgressHolding
from l3net.errors import ConfigError, L3netError
from l3net.explain.address import AddressFacts, Heard, explain_address, nobody
from l3net.explain.announced import peer_steps, unannounced
from l3net.explain.egress import egress_steps
from l3net.explain.facts import UNKNOWN, End
from l3net.explain.floating import floating_steps
from l3net.explain.path import PathFacts, Served, explain_path
from l3net.explain.service import MOST_ENDS, explain_service
from l3net.explain.shortage import full, full_step
from l3net.explain.steps import Explanation, any_bad, bad, note
from l3net.floating.holding import Holding
from l3net.model import NODE_PORTS, Address, ObjectName, ServerKey, VirtualServer
from l3net.policy.places import Place, Port, at, named, places, port_of
from l3net.policy.view import Whereabouts
from l3net.ports import Sight
from l3net.services.verdicts import addresses as service_addresses


async def explain_answer(
    agent: Agent, sight: Sight, last: Callable[[str], dict[str, Any] | None], question: str
) -> dict[str, Any]:
    """`question`: a JSON object with a `subject`: `service NS/NAME`, `pod NS/NAME`, `address A`, or
    `SRC DST[:PORT[/PROTOCOL]]`, each end an address, or NS/NAME of a pod or service.

    `last` tells the last decision about an address or service, as the history has it.
    """
    try:
        words = str(json.loads(question)["subject"]).split()
    except (ValueError, TypeError, KeyError, RecursionError):
        return {"error": 'the question is not a JSON object with a "subject"'}
    try:
        if not agent.in_sync:
            raise ConfigError("the agent does not know the declared state yet; ask again when it is ready")
        found = await _explain(Seeing(agent, sight), words)
    except ConfigError as err:
        return {"error": str(err)}
    about = _about(found)
    return {"node": agent.node_name, **found.answer(), "changed": last(about) if about else None}


def _about(found: Explanation) -> str:
    """The address or service whose last change matters; empty where there is none."""
    if found.ends is not None:
        return found.ends[1]
    kind, name, *_ = found.subject.split()
    return name if kind in ("service", "address") else ""


async def _explain(seeing: Seeing, words: list[str]) -> Explanation:
    match words:
        case ["service" | "svc", name]:
            return explain_service(await seeing.service(named(name, "service")))
        case ["pod", name]:
            return await _pod(seeing, named(name, "pod"))
        case ["address", text]:
            return await _address(seeing, _ip(text))
        case [text]:
            return await _one(seeing, text)
        case [source, destination]:
            return await _path(seeing, source, destination)
    raise ConfigError("say what: service NS/NAME, pod NS/NAME, address A, or SOURCE DESTINATION[:PORT]")


async def _one(seeing: Seeing, text: str) -> Explanation:
    """A word alone: an address, a service or a pod."""
    if "/" not in text:
        return await _address(seeing, _ip(text))
    name = named(text, "pod or service")
    if name in seeing.agent.state.services:
        return explain_service(await seeing.service(name))
    return await _pod(seeing, name)


def _ip(text: str) -> Address:
    try:
        found = ip_address(text.strip("[]"))
    except ValueError:
        raise ConfigError(f"{text[:80]} is neither an address nor NAMESPACE/NAME") from None
    if found.is_multicast or found.is_unspecified:
        raise ConfigError(f"{found} is not an address in use: give one of a pod, service, node or host")
    return found


# --- one address -----------------------------------------------------------------------------------------


async def _pod(seeing: Seeing, name: ObjectName) -> Explanation:
    """The first of its addresses about which there is something to say; well is said of all."""
    subject = f"pod {name}"
    own = list(seeing.attached_named(name))
    pod = seeing.view.pod(name)
    addresses = own or (list(seeing.view.addresses(pod)) if pod is not None else [])
    waits = name in seeing.agent.policing.awaited
    if not addresses:
        spent = await asyncio.to_thread(_spent, seeing)
        if spent:
            step = full_step(str(name), seeing.me, spent)
        elif pod is None and not waits:
            seen = f"no pod {name} is known" + (
                f": {seeing.view.partial}" if seeing.view.partial else " on this node"
            )
            step = bad("pod", "", seen, "name its address, or ask on its node: --node", "noPod")
        else:
            seen = "its ADD waits until the API server reports it" if waits else "it has no address yet"
            step = bad("pod", str(name), seen, "`kubectl describe pod` has the runtime's error", "noAddress")
        return Explanation(subject, (step,), "", inside=False)
    found = [await _address(seeing, address, subject) for address in addresses]
    for each in found:
        if each.bad is not None:
            return each
    steps = tuple(step for each in found for step in each.steps)
    return replace(found[0], steps=steps)


def _spent(seeing: Seeing) -> Sequence[str]:
    """Families of which this node has no address for another pod; a store that cannot be read tells none."""
    try:
        return full(seeing.agent.podnet.room())
    except L3netError:
        return ()


async def _address(seeing: Seeing, address: Address, subject: str = "") -> Explanation:
    name = seeing.service_at(address, None)
    if name is not None:
        found = explain_service(await seeing.service(name, only=address))
        return replace(found, subject=subject or f"address {address} ({found.subject})")
    if claims := list(seeing.agent.floating.at(address)):
        return await _floating(seeing, address, claims, subject)
    if holdings := list(seeing.agent.egress.at(address)):
        return await _egress(seeing, address, holdings, subject)
    return await _plain(seeing, address, subject)


async def _plain(seeing: Seeing, address: Address, subject: str = "") -> Explanation:
    """An address as such, whatever is translated to another."""
    agent = seeing.agent
    end = await seeing.looked(seeing.end(address))
    block = seeing.block_of(address)
    told, untold = await seeing.announced(address)
    heard = _heard(seeing, address) if not end.here else []
    facts = AddressFacts(
        end,
        seeing.me,
        block,
        told,
        heard,
        await seeing.looks.host(),
        agent.podnet.underlay_mtu,
        policies=seeing.policies_for(end),
        unjudged=(await seeing.looks.others())[1],
    )
    explained = explain_address(facts, subject)
    extra = []
    if untold is not None:
        extra.append(unannounced(untold, seeing.me))
    if not end.pod and not end.node and ((not end.way.leads and not heard) or seeing.of_cluster(address)):
        extra.append(nobody(str(address), end.way))
    steps = (*explained.steps, *extra)
    outside = explained.outside and not extra if explained.outside is not None else (False if extra else None)
    return replace(explained, steps=steps, outside=outside)


async def _floating(seeing: Seeing, address: Address, claims: list[Holding], subject: str) -> Explanation:
    """An address that somebody claims for a pod: who has it, who is told, and the pod itself."""
    steps = list(floating_steps(claims, seeing.me))
    subject = subject or f"address {address}"
    held = next((each for each in claims if each.held), None)
    if held is None or held.target is None:
        return Explanation(subject, tuple(steps), "", inside=False, outside=False)
    if held.node != seeing.me:
        well = f"{address} is pod {held.pod}'s, on node {held.node}"
        return Explanation(subject, tuple(steps), well)
    told = await seeing.told(host_prefix(address))
    announced = peer_steps(*told) if told is not None else []
    inner = await _plain(seeing, held.target)  # translated once: a pod may say that it has a floating address
    well = f"{address} is pod {held.pod}'s on {seeing.me}, and routers have a route to it"
    steps += [*announced, *inner.steps]
    outside = bool(inner.inside) and told is not None and not any_bad(announced)
    return Explanation(subject, tuple(steps), well, inside=inner.inside, outside=outside)


async def _egress(
    seeing: Seeing, address: Address, holdings: list[EgressHolding], subject: str
) -> Explanation:
    """An address that pods leave the cluster with: who holds it, and who is told."""
    steps = list(egress_steps(holdings, seeing.me))
    subject = subject or f"address {address}"
    held = next((each for each in holdings if each.held), None)
    if held is None:
        return Explanation(subject, tuple(steps), "", outside=False)
    if held.node != seeing.me:
        return Explanation(subject, tuple(steps), f"pods leave with {address} by node {held.node}")
    told = await seeing.told(host_prefix(address))
    announced = peer_steps(*told) if told is not None else []
    await seeing.agent.egress.leaving.count()
    count = seeing.agent.egress.leaving.counts.get(str(address), 0)
    steps += [*announced, note("connections", seeing.me, f"{count} leave with {address}")]
    well = f"pods leave with {address} by {seeing.me}, and routers have a route to it"
    return Explanation(subject, tuple(steps), well, outside=told is not None and not any_bad(announced))


def _heard(seeing: Seeing, address: Address) -> list[Heard]:
    """What peers have announced of the longest prefixes that hold an address."""
    agent = seeing.agent
    found: list[Heard] = []
    own = host_prefix(address)
    for length in range(own.prefixlen, -1, -1):
        prefix = own.supernet(new_prefix=length)
        best = {(each.session.peer_address, each.path) for each in agent.routing.best(prefix)}
        found += [
            Heard(
                prefix,
                f"{peer.session.name} ({peer_address})",
                str(entry.path.next_hop),
                str(standing(agent, peer.session, entry)),
                best=(peer_address, entry.path) in best,
            )
            for peer_address, peer in agent.speaking.peers.items()
            for entry in agent.rib.at(peer_address, prefix)
        ]
        if any(each.best for each in found):
            break
    return found


# --- from one end to another -----------------------------------------------------------------------------


async def _path(seeing: Seeing, source_text: str, destination_text: str) -> Explanation:
    text, port = _split(destination_text)
    source = _place(seeing.view, source_text, port)
    name = _service(seeing, text)
    if name is not None:
        candidates: Iterable[Address] = (
            each for _, each in service_addresses(seeing.agent.state.services[name])
        )
    else:
        candidates = _place(seeing.view, text, port).addresses
    pairs = ((one, other) for other in candidates for one in source.addresses if one.version == other.version)
    address, destination = next(pairs, (None, None))
    if address is None or destination is None:
        raise ConfigError(f"{source_text} and {destination_text} have no address of one family")
    if address.is_loopback or address.is_link_local:
        raise ConfigError(f"{address} never leaves its host or link: name an address that packets come from")
    begin = await seeing.looked(seeing.end(address))
    if claims := list(seeing.agent.floating.at(destination)):
        return await _to_floating(seeing, source, begin, destination, claims, port)
    target = seeing.end(destination, _number(port))
    if source.pod is not None and not begin.pod:
        begin = replace(begin, pod=str(source.pod.name))
    return await _from_to(seeing, source, begin, target, port)


async def _to_floating(
    seeing: Seeing, source: Place, begin: End, address: Address, claims: list[Holding], port: Port | None
) -> Explanation:
    """To an address that somebody claims for a pod: here to that pod, and else to the node that has it."""
    steps = tuple(floating_steps(claims, seeing.me))
    held = next((each for each in claims if each.held), None)
    if held is None or held.target is None:
        asked = f":{port}" if port is not None else ""
        subject = f"{begin.pod or begin.address} -> {address}{asked}"
        return Explanation(subject, steps, "", ends=(str(begin.address), str(address), str(port or "")))
    if held.node != seeing.me:
        found = await _from_to(seeing, source, begin, seeing.end(address, _number(port)), port, known=True)
        return replace(found, steps=(*steps, *found.steps))
    found = await _from_to(seeing, source, begin, seeing.end(held.target, _number(port)), port)
    told = await seeing.told(host_prefix(address))
    announced = peer_steps(*told) if told is not None and not (begin.pod or begin.node) else []
    return replace(found, steps=(*steps, *announced, *found.steps))


def _number(port: Port | None) -> str:
    return str(port.number) if port is not None and port.number else ""


def _service(seeing: Seeing, text: str) -> ObjectName | None:
    """The service that a destination names; None: it names none. Raises ConfigError."""
    if "/" not in text:
        return None
    name = named(text.removeprefix("service/").removeprefix("svc/"), "destination")
    return name if name in seeing.agent.state.services else None


async def _from_to(
    seeing: Seeing, source: Place, begin: End, target: End, port: Port | None, *, known: bool = False
) -> Explanation:
    """`known`: the destination is a floating address of a pod elsewhere."""
    agent = seeing.agent
    served, server = await _served(seeing, begin, target, port)
    asked = port or port_of("80/tcp")
    before = target.address, port.number if port is not None else None
    if served is not None and server is not None:
        backends = _backends(begin, server)
        ends = [seeing.end(each.address, str(each.port)) for each in backends]
        ends = [
            *[await seeing.looked(end, begin.address, asked.protocol, before) for end in ends[:MOST_ENDS]],
            *ends[MOST_ENDS:],
        ]
        ends = [seeing.judged(source, end, Port(int(end.port), asked.protocol)) for end in ends]
        if not (begin.pod or begin.node) and server.spread is None:
            ends = [seeing.masqueraded(end) for end in ends]
    elif served is not None:
        ends = []
    else:
        ends = [seeing.judged(source, await seeing.looked(target, begin.address, asked.protocol), asked)]
    begin, *tried = await asyncio.gather(*map(seeing.tried, (begin, *ends[:MOST_ENDS])))
    ends = [*tried, *ends[MOST_ENDS:]]
    told, untold = await seeing.announced(target.address)
    source_told, source_untold = await seeing.announced(begin.address) if begin.here else (None, None)
    beyond = served is None and not known and not target.pod and not target.node
    outside = beyond and not seeing.of_cluster(target.address) and seeing.block_of(target.address) is None
    leaves = dict(agent.floating.sources).get(begin.address) if outside else None
    egress = agent.egress.rule_for(begin.address, target.address) if outside and leaves is None else None
    if egress is not None and egress.address in agent.egress.paths.held:
        leaves = egress.address
    if leaves is not None:
        source_told = await seeing.told(host_prefix(leaves))
    facts = PathFacts(
        begin,
        target,
        seeing.me,
        port=str(port) if port is not None else "",
        served=served,
        ends=ends,
        told=told,
        source_told=source_told,
        unannounced=untold or source_untold,
        to_service=await seeing.looks.way(target.address) if served is not None else UNKNOWN,
        back=await seeing.looks.way(begin.address),
        masquerades=_masquerades(agent, begin.address, target.address),
        snat=agent.moving.snat.used,
        unjudged=(await seeing.looks.others())[1],
        leaves=leaves,
        egress=egress,
        unheld=agent.egress.unheld(egress.by, begin.address.version) if egress is not None else "",
        nobody=beyond and seeing.of_cluster(target.address),
        host=await seeing.looks.host(),
        pod_mtu=agent.podnet.underlay_mtu,
    )
    return explain_path(facts)


async def _served(
    seeing: Seeing, begin: End, target: End, port: Port | None
) -> tuple[Served | None, VirtualServer | None]:
    """The service that a destination is of, and the virtual server that takes the packet."""
    agent = seeing.agent
    servers = agent.services.book.servers
    name, key = seeing.service_at(target.address, port), _key(target.address, port)
    if name is None:
        node = seeing.view.node_at(target.address)
        wildcard = NODE_PORTS[target.address.version]
        key = _key(wildcard, port)
        if node is None or key is None or key not in servers:
            return None, None
        name = next(
            (
                each.name
                for each in agent.state.services.values()
                if any(p.node_port == key[2] and p.protocol.lower() == key[1] for p in each.ports)
            ),
            None,
        )
        if name is None:
            return None, None
    facts = await seeing.service(name)
    if key is None:  # no port was asked for: the first that it has
        own = [each for each in facts.servers if each[0] == target.address]
        key = min(own, default=None)
    server = servers.get(key) if key is not None else None
    answers = server is not None or (key is not None and _has_port(facts.service, key))
    sources = server.sources if server is not None else None
    closed = sources is not None and not any(begin.address in each for each in sources)
    return Served(facts, key, answers=answers, closed=closed), server


def _has_port(service: Any, key: ServerKey) -> bool:
    return any(each.port == key[2] and each.protocol.lower() == key[1] for each in service.ports)


def _key(address: Address, port: Port | None) -> ServerKey | None:
    return (address, port.protocol, port.number) if port is not None and port.number else None


def _backends(begin: End, server: VirtualServer) -> list[Any]:
    """Those that a connection may be given to: what begins on this node's side meets `internal`."""
    if begin.pod or begin.node:
        return list(server.internal)
    if server.spread is not None:
        return [placed.backend for placed in server.spread.ready]
    return list(server.external)


def _masquerades(agent: Agent, address: Address, destination: Address) -> bool:
    return any(
        pool.nat_outgoing
        and address in pool.cidr
        and not any(destination in each for each in pool.nat_excepts)
        for pool in agent.state.pools.values()
    )


def _split(text: str) -> tuple[str, Port | None]:
    """`A:PORT/PROTO`, `[A]:PORT`, `NS/NAME:PORT/PROTO`, or without a port. Raises ConfigError."""
    if text.startswith("["):
        inner, _, rest = text[1:].partition("]")
        return inner, port_of(rest[1:]) if rest.startswith(":") else None
    head, colon, tail = text.rpartition(":")
    if not colon:
        return text, None
    try:
        ip_address(text)
    except ValueError:
        return head, port_of(tail)
    return text, None  # an IPv6 address


def _place(view: Whereabouts, text: str, port: Port | None) -> Place:
    """One end. Of a service given as a source there is no sense."""
    if "/" in text:
        return places(view, text if text.count("/") > 1 else f"pod/{text}", port)[0]
    return at(view, _ip(text))
