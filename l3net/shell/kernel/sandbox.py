"""Wiring a pod: one netlink batch on the host, one in the pod's namespace; undone by the host end's name."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from l3net.cni import failure
from l3net.cni.failure import CniError
from l3net.cni.parts import Pins, Sandbox
from l3net.errors import KernelError, StillWiredError
from l3net.model import Address
from l3net.shell.kernel import links, sysctl
from l3net.shell.kernel.linkaddresses import addresses_of, put_address
from l3net.shell.kernel.localroutes import settled
from l3net.shell.kernel.namespaces import check_sandbox, inside
from l3net.shell.kernel.neighbours import delete_neighbour, put_forwarding, put_neighbour
from l3net.shell.kernel.netlink import Netlink, Request
from l3net.shell.kernel.podroutes import put_route, routes_of
from l3net.shell.kernel.ratelimit import limit_rate

if TYPE_CHECKING:  # the plugin begins with this
    from l3net.cni.check import SeenPod, SeenPort

LOOPBACK: Final = 1  # the loopback's index in every namespace (net/core/dev.c)


@dataclass(frozen=True, slots=True)
class Wired:
    """What came out: the kernel's MAC of each end."""

    host: links.KernelLink
    pod: links.KernelLink


@dataclass(slots=True)
class Sandboxes:
    """Wires and unwires attachments. `host` is a socket in the node's namespace, `home` its descriptor.

    For one thread at a time; each worker thread has its own.
    """

    host: Netlink
    home: int
    _bridges: dict[str, links.KernelLink] = field(default_factory=dict)

    def wire(self, part: Sandbox, netns: int) -> Wired:
        """Make the attachment. On an error nothing of it is left. Raises CniError, StillWiredError."""
        try:
            self._create(part, netns)
        except StillWiredError:
            raise
        except KernelError as err:  # it may have been made, and the answer lost
            self._take_back(part)
            raise CniError(failure.KERNEL_REFUSED, f"cannot set up {part.key.ifname}", str(err)) from err
        try:
            with self.opened(netns) as pod:
                inner = self._configure(pod, part, netns)
                # reading the host end also settles its carrier, so the bridge forwards when ADD answers
                outer = links.get_link(self.host, part.host_ifname)
                if outer is None:
                    raise KernelError(f"{part.host_ifname} vanished", errno.ENODEV)
                if part.bandwidth.ingress_rate:
                    limit = limit_rate(outer.index, part.bandwidth.ingress_rate, part.bandwidth.ingress_burst)
                    self.host.request(limit, f"limit the rate of {part.host_ifname}")
                if part.enabled:
                    settled(pod, part.addresses)
            return Wired(outer, inner)
        except BaseException as err:
            self.unwire(part.host_ifname)
            if isinstance(err, KernelError):
                raise CniError(failure.KERNEL_REFUSED, f"cannot set up {part.key.ifname}", str(err)) from err
            raise

    def pin(self, pins: Pins, port: links.KernelLink) -> None:
        """Put a wired pod's entries. Raises KernelError."""
        bridge = self.bridge_link(pins.bridge).index
        requests = [put_forwarding(port.index, pins.mac)]
        requests += [put_neighbour(bridge, address, pins.mac) for address in pins.addresses]
        if code := next(filter(None, self.host.transact(requests)), 0):
            raise KernelError(f"pin {pins.mac} to {port.name}", code)

    def unpin(self, bridge: str, addresses: Iterable[Address]) -> None:
        """The addresses are nobody's now: what is sent to them is refused, not lost."""
        try:
            index = self.bridge_link(bridge).index
        except CniError:  # no bridge, no entries
            return
        self.host.transact([delete_neighbour(index, address) for address in addresses])

    def unwire(self, host_ifname: str) -> bool:
        """Delete a veth pair now (24 ms or so: DEL leaves it to the reaper). False if there was none.

        Raises StillWiredError.
        """
        try:
            link = links.get_link(self.host, host_ifname)
            if link is None:
                return False
            code = self.host.transact([links.delete_link(link.index)])[0]
        except KernelError as err:
            raise StillWiredError(f"delete {host_ifname}", err.code) from err
        if code not in (0, errno.ENODEV):
            raise StillWiredError(f"delete {host_ifname}", code)
        return True

    def _take_back(self, part: Sandbox) -> None:
        """Delete what was made of an attachment, and no other's link of that name. Raises StillWiredError."""
        try:
            link = links.get_link(self.host, part.host_ifname)
        except KernelError as err:
            raise StillWiredError(f"delete {part.host_ifname}", err.code) from err
        if link is not None and link.alias in ("", part.alias):
            self.unwire(part.host_ifname)

    def look(self, netns: int, ifname: str) -> SeenPod | None:
        """The pod's interface as it is, None if it is gone."""
        from l3net.cni.check import SeenPod  # noqa: PLC0415

        with self.opened(netns) as pod:
            link = links.get_link(pod, ifname)
            if link is None:
                return None
            return SeenPod(
                link.up,
                frozenset(map(str, addresses_of(pod, link.index))),
                frozenset(routes_of(pod, link.index)),
            )

    def look_port(self, host_ifname: str) -> SeenPort | None:
        """The host end as it is, None if it is gone."""
        from l3net.cni.check import SeenPort  # noqa: PLC0415

        link = links.get_link(self.host, host_ifname)
        if link is None:
            return None
        master = links.get_link_by_index(self.host, link.master) if link.master else None
        return SeenPort(link.up, master.name if master else "", link.isolated, link.hairpin)

    def bridge_link(self, name: str) -> links.KernelLink:
        """The bridge as last seen. Raises CniError 11 when it is not there (the agent will make it)."""
        known = self._bridges.get(name)
        if known is None:
            known = links.get_link(self.host, name)
            if known is None:
                raise CniError(
                    failure.TRY_AGAIN_LATER, f"bridge {name} does not exist yet", "the agent creates it"
                )
            self._bridges[name] = known
        return known

    def check(self, netns: int, path: str, *, own_allowed: bool) -> None:
        """Refuse what is no network namespace, and the node's own. Raises CniError 8."""
        check_sandbox(netns, path, self.home, own_allowed=own_allowed)

    # --- where it is done --------------------------------------------------------------------------------

    def opened(self, netns: int) -> Netlink:
        """A socket in a pod's namespace. Raises KernelError."""
        with inside(netns, self.home):
            return Netlink()

    def set_here(self, path: str, value: str) -> None:
        """Write a setting of the node's namespace. Raises KernelError."""
        sysctl.write(path, value)

    def set_inside(self, netns: int, path: str, value: str) -> None:
        """Write a setting of a pod's namespace. Raises KernelError."""
        with inside(netns, self.home):
            sysctl.write(path, value)

    # --- steps -------------------------------------------------------------------------------------------

    def _create(self, part: Sandbox, netns: int) -> None:
        """Both batches of the host side: the pair, and its bridge port's settings."""
        for attempt in (0, 1):
            master = self.bridge_link(part.port.bridge).index
            port = links.set_port(
                0,
                part.host_ifname,
                isolated=part.port.isolated,
                hairpin=part.port.hairpin,
                learning=False if part.port.pinned else None,
                alias=part.alias,
                quiet=True,
            )
            pair = links.create_veth(
                part.host_ifname,
                part.key.ifname,
                netns,
                mtu=part.mtu,
                mac=part.mac,
                master=master,
            )
            codes = self.host.transact([pair, port])
            if codes[0] == 0 and codes[1] == 0:
                # the bridge takes what arrives, yet the port itself must believe no router (CVE-2020-10749)
                self.set_here(f"net/ipv6/conf/{part.host_ifname}/accept_ra", "0")
                return
            if codes[0] == errno.EEXIST:
                raise CniError(
                    failure.ALREADY_ATTACHED,
                    f"interface {part.key.ifname} exists already",
                    "it was left as it is; DEL the attachment first",
                )
            # the pair may have been made before its master turned out to be gone (a bridge made anew)
            self.unwire(part.host_ifname)
            self._bridges.pop(part.port.bridge, None)
            if attempt:
                code = codes[0] or codes[1]
                raise CniError(
                    failure.KERNEL_REFUSED,
                    f"cannot create veth pair {part.host_ifname}",
                    errno.errorcode.get(code, str(code)),
                )

    def _configure(self, pod: Netlink, part: Sandbox, netns: int) -> links.KernelLink:
        found = links.get_link(pod, part.key.ifname)
        if found is None:
            raise KernelError(f"{part.key.ifname} vanished", errno.ENODEV)
        batch: list[tuple[str, Request]] = [("set lo up", links.set_link(LOOPBACK, up=True))]
        if part.enabled:
            batch.append((f"set {part.key.ifname} up", links.set_up(found.index)))
        batch += [(f"add address {each}", put_address(found.index, each)) for each in part.addresses]
        if part.enabled:
            batch += [(f"add route {each.prefix}", put_route(found.index, each)) for each in part.routes]
        if part.bandwidth.egress_rate:
            limit = limit_rate(found.index, part.bandwidth.egress_rate, part.bandwidth.egress_burst)
            batch.append((f"limit the rate of {part.key.ifname}", limit))
        codes = pod.transact([request for _, request in batch])
        if any(codes) and any(address.version == 6 for address in part.addresses):
            codes = self._with_ipv6(pod, part, netns, batch, codes)
        for (what, _), code in zip(batch, codes, strict=True):
            if code:
                raise KernelError(what, code)
        return found

    def _with_ipv6(
        self,
        pod: Netlink,
        part: Sandbox,
        netns: int,
        batch: Sequence[tuple[str, Request]],
        codes: list[int],
    ) -> list[int]:
        """A runtime may have turned IPv6 off in the namespace; our address turns it on for our link."""
        self.set_inside(netns, f"net/ipv6/conf/{part.key.ifname}/disable_ipv6", "0")
        failed = [place for place, code in enumerate(codes) if code]
        for place, code in zip(failed, pod.transact([batch[place][1] for place in failed]), strict=True):
            codes[place] = 0 if code == errno.EEXIST else code
        return codes
