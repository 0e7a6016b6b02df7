"""What a call's configuration comes to on this node: by its own ranges, or by the node's blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from l3net.cni import failure
from l3net.cni.bridgeconf import has_ranges, ipam_setup, own_setup
from l3net.cni.failure import CniError
from l3net.cni.request import Request
from l3net.cni.setup import NodeNetwork, Setup, node_ipam_setup, node_setup
from l3net.ipam.reserved import PoolMissingError
from l3net.shell.threads import Threads

#: In the run directory: since this boot the peers have heard of the node's blocks.
HEARD: Final = "heard"


class Setups:
    """Of one node, of which nothing is known before `know`. Thread-safe.

    `unsafe` says why no address may be handed out now, empty if one may; `on_missing` is called with the name
    of a pool that a pod needs and the node has no block of. No reboot leaves what is in `run_dir`.
    """

    def __init__(
        self,
        first_pass_wait: float,
        unsafe: Callable[[], str],
        on_missing: Callable[[str], None],
        threads: Threads,
        run_dir: Path,
    ) -> None:
        self._first_pass_wait = first_pass_wait
        self._unsafe = unsafe
        self._on_missing = on_missing
        self._known = threads.event()
        self._mark = run_dir / HEARD
        self._heard = threads.event()  # of the node's blocks, by its peers
        self._heard.set()
        self.network: NodeNetwork | None = None

    def know(self, network: NodeNetwork) -> None:
        """Exchange what is known of the node, as a whole."""
        self.network = network
        self._known.set()

    def hold(self) -> None:
        """Have ADD wait for `release`, unless that came since the node has started: nobody could reach the
        pods of a node whose peers have not heard of its blocks."""
        if not self._mark.exists():
            self._heard.clear()

    def release(self) -> None:
        """Let ADD go on, also under the next agent. From any thread."""
        self._heard.set()
        with contextlib.suppress(OSError):  # the next agent has it wait once more, for no long
            self._mark.touch(mode=0o600)

    def of_call(self, request: Request) -> Setup:
        """For an attachment. Raises CniError."""
        self._safe_to_add(request)
        if request.brings_addresses:
            return own_setup(request)
        return self._for_namespace(request, node_setup)

    def of_ipam_call(self, request: Request) -> Setup:
        """For another plugin's interface. Raises CniError."""
        self._safe_to_add(request)
        if has_ranges(request.conf):
            return ipam_setup(request)
        return self._for_namespace(request, node_ipam_setup)

    def _safe_to_add(self, request: Request) -> None:
        """No address is handed out that a running pod may have. Raises CniError 11."""
        if request.command == "ADD" and (problem := self._unsafe()):
            raise CniError(failure.TRY_AGAIN_LATER, problem, "see `l3net status`")

    def _for_namespace(self, request: Request, setup: Callable[[Request, NodeNetwork], Setup]) -> Setup:
        """Raises CniError 11 while the node has no block of the pool for the pod's namespace, and asks."""
        try:
            return setup(request, self._node(request))
        except PoolMissingError as err:
            self._on_missing(err.pool)
            raise CniError(
                failure.TRY_AGAIN_LATER,
                f"node has no block of IPPool {err.pool} yet, which is for the pod's namespace",
                "in a cluster the agent has asked for one; otherwise add one to the Node",
            ) from None

    def _node(self, request: Request) -> NodeNetwork:
        """What is known of the node. Raises CniError 11.

        ADD and STATUS wait a little for the agent's first pass: kubelet calls a node not ready, and its pods
        with it, when the one STATUS it happens to ask fails.
        """
        wait = self._first_pass_wait if request.command in ("ADD", "STATUS") else 0.0
        if not self._known.wait(wait) or self.network is None:
            raise CniError(
                failure.TRY_AGAIN_LATER, "the agent has not finished its first pass", "see `l3net status`"
            )
        if request.command == "ADD" and not self._heard.wait(wait):
            raise CniError(
                failure.TRY_AGAIN_LATER,
                "no peer has heard of this node's blocks since the node has started",
                "the agent waits for its peers for 30 s; see `l3net bgp summary`",
            )
        return self.network
