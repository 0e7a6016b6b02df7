"""Wiring a pod: one netlink batch on the host, one in the pod's namespace; undone by the host end's name."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from l3net.cni import failure
from l3net.cni.check import SeenPod, SeenPort
from l3net.cni.failure import CniError
from l3net.cni.plan import SandboxPlan
from l3net.errors import KernelError
from l3net.model import Address
from l3net.shell.kernel import links, sysctl
from l3net.shell.kernel.namespaces import inside
from l3net.shell.kernel.netlink import Netlink, Request

LOOPBACK: Final = 1  # the loopback's index in every namespace (net/core/dev.c)


@dataclass(frozen=True, slots=True)
class Wired:
    """What came out: the kernel's MAC of each end."""

    host: links.Link
    pod: links.Link


@dataclass(slots=True)
class Sandboxes:
    """Wires and unwires attachments. `host` is a socket in the node's namespace, `home` its descriptor.

    For one thread at a time; each worker thread has its own.
    """

    host: Netlink
    home: int
    _bridges: dict[str, links.Link] = field(default_factory=dict)

    def wire(self, plan: SandboxPlan, netns: int) -> Wired:
        """Make the attachment. On an error nothing of it is left. Raises CniError."""
        self._create(plan, netns)
        try:
            with inside(netns, self.home):
                pod = Netlink()
            with pod:
                inner = self._configure(pod, plan, netns)
            # reading the host end also settles its carrier, so the bridge forwards when ADD answers
            outer = links.get_link(self.host, plan.host_ifname)
            if outer is None:
                raise KernelError(f"{plan.host_ifname} vanished", errno.ENODEV)
            if plan.port.pinned and plan.mac:
                self._pin(plan, outer.index)
            if plan.bandwidth.ingress_rate:
                limit = links.limit_rate(
                    outer.index, plan.bandwidth.ingress_rate, plan.bandwidth.ingress_burst
                )
                self.host.request(limit, f"limit the rate of {plan.host_ifname}")
            return Wired(outer, inner)
        except BaseException as err:
            self.unwire(plan.host_ifname)
            if isinstance(err, KernelError):
                raise CniError(failure.KERNEL_REFUSED, f"cannot set up {plan.key.ifname}", str(err)) from err
            raise

    def _pin(self, plan: SandboxPlan, port: int) -> None:
        """Which MAC an address has, and which port a MAC, the plan says, and no packet otherwise."""
        bridge = self.bridge_link(plan.port.bridge).index
        requests = [links.put_forwarding(port, plan.mac)]
        requests += [links.put_neighbour(bridge, address.ip, plan.mac) for address in plan.addresses]
        if code := next(filter(None, self.host.transact(requests)), 0):
            raise KernelError(f"pin {plan.mac} to {plan.host_ifname}", code)

    def unpin(self, bridge: str, addresses: Iterable[Address]) -> None:
        """The addresses are nobody's now: what is sent to them is refused, not lost."""
        try:
            index = self.bridge_link(bridge).index
        except CniError:  # no bridge, no entries
            return
        self.host.transact([links.delete_neighbour(index, address) for address in addresses])

    def unwire(self, host_ifname: str) -> bool:
        """Delete a veth pair now (24 ms or so: DEL leaves it to the reaper). False if there was none."""
        link = links.get_link(self.host, host_ifname)
        if link is None:
            return False
        code = self.host.transact([links.delete_link(link.index)])[0]
        if code not in (0, errno.ENODEV):
            raise KernelError(f"delete {host_ifname}", code)
        return True

    def look(self, netns: int, ifname: str) -> SeenPod | None:
        """The pod's interface as it is, None if it is gone."""
        with inside(netns, self.home):
            pod = Netlink()
        with pod:
            link = links.get_link(pod, ifname)
            if link is None:
                return None
            return SeenPod(
                link.up,
                frozenset(map(str, links.addresses_of(pod, link.index))),
                frozenset(links.routes_of(pod, link.index)),
            )

    def look_port(self, host_ifname: str) -> SeenPort | None:
        """The host end as it is, None if it is gone."""
        link = links.get_link(self.host, host_ifname)
        if link is None:
            return None
        master = links.get_link_by_index(self.host, link.master) if link.master else None
        return SeenPort(link.up, master.name if master else "", link.isolated, link.hairpin)

    def exists(self, netns: int, ifname: str) -> bool:
        with inside(netns, self.home):
            pod = Netlink()
        with pod:
            return links.get_link(pod, ifname) is not None

    def bridge_link(self, name: str) -> links.Link:
        """The bridge as last seen. Raises CniError 11 when it is not there (the agent will make it)."""
        known = self._bridges.get(name)
        if known is None:
            known = links.get_link(self.host, name)
            if known is None:
                raise CniError(
                    failure.TRY_AGAIN_LATER, f"bridge {name} does not exist yet", "the agent makes it"
                )
            self._bridges[name] = known
        return known

    # --- steps -------------------------------------------------------------------------------------------

    def _create(self, plan: SandboxPlan, netns: int) -> None:
        """Both batches of the host side: the pair, and its bridge port's settings."""
        for attempt in (0, 1):
            master = self.bridge_link(plan.port.bridge).index
            port = links.set_port(
                0,
                plan.host_ifname,
                isolated=plan.port.isolated,
                hairpin=plan.port.hairpin,
                learning=False if plan.port.pinned else None,
                alias=plan.alias,
                quiet=True,
            )
            pair = links.create_veth(
                plan.host_ifname,
                plan.key.ifname,
                netns,
                mtu=plan.mtu,
                mac=plan.mac,
                master=master,
            )
            codes = self.host.transact([pair, port])
            if codes[0] == 0 and codes[1] == 0:
                # the bridge takes what arrives, yet the port itself must believe no router (CVE-2020-10749)
                sysctl.write(f"net/ipv6/conf/{plan.host_ifname}/accept_ra", "0")
                return
            if codes[0] == errno.EEXIST:
                raise CniError(
                    failure.ALREADY_ATTACHED,
                    f"interface {plan.key.ifname} exists already",
                    "it was left as it is; DEL the attachment first",
                )
            # the pair may have been made before its master turned out to be gone (a bridge made anew)
            self.unwire(plan.host_ifname)
            self._bridges.pop(plan.port.bridge, None)
            if attempt:
                code = codes[0] or codes[1]
                raise CniError(
                    failure.KERNEL_REFUSED,
                    f"cannot create veth pair {plan.host_ifname}",
                    errno.errorcode.get(code, str(code)),
                )

    def _configure(self, pod: Netlink, plan: SandboxPlan, netns: int) -> links.Link:
        found = links.get_link(pod, plan.key.ifname)
        if found is None:
            raise KernelError(f"{plan.key.ifname} vanished", errno.ENODEV)
        batch: list[tuple[str, Request]] = [("set lo up", links.set_link(LOOPBACK, up=True))]
        if plan.enabled:
            batch.append((f"set {plan.key.ifname} up", links.set_link(found.index, up=True)))
        batch += [(f"add address {each}", links.put_address(found.index, each)) for each in plan.addresses]
        if plan.enabled:
            batch += [
                (f"add route {each.prefix}", links.put_route(found.index, each)) for each in plan.routes
            ]
        if plan.bandwidth.egress_rate:
            limit = links.limit_rate(found.index, plan.bandwidth.egress_rate, plan.bandwidth.egress_burst)
            batch.append((f"limit the rate of {plan.key.ifname}", limit))
        codes = pod.transact([request for _, request in batch])
        if any(codes) and any(address.version == 6 for address in plan.addresses):
            codes = self._with_ipv6(pod, plan, netns, batch, codes)
        for (what, _), code in zip(batch, codes, strict=True):
            if code:
                raise KernelError(what, code)
        return found

    def _with_ipv6(
        self,
        pod: Netlink,
        plan: SandboxPlan,
        netns: int,
        batch: Sequence[tuple[str, Request]],
        codes: list[int],
    ) -> list[int]:
        """A runtime may have turned IPv6 off in the namespace; our address turns it on for our link."""
        with inside(netns, self.home):
            sysctl.write(f"net/ipv6/conf/{plan.key.ifname}/disable_ipv6", "0")
        failed = [place for place, code in enumerate(codes) if code]
        for place, code in zip(failed, pod.transact([batch[place][1] for place in failed]), strict=True):
            codes[place] = 0 if code == errno.EEXIST else code
        return codes
