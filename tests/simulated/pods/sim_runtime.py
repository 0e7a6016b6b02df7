"""A runtime as kubelet and containerd are: it makes sandboxes again until one can be attached, tears down
what it could not, asks again and again, and is sometimes interrupted, mistaken or forgetful.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sim_calls import ANSWER_SECONDS
from sim_links import Space
from sim_machine import Machine
from threads import SimEvent, SimThreads, sleep

from l3net.cni.frame import Answer, Call
from l3net.ipam.lease import LeaseKey

NETWORK = "l3net"
#: Seconds between two attempts.
AGAIN = (1.0, 10.0)
#: Seconds after which a sandbox that cannot be detached is tried again.
DETACH = 5.0


@dataclass
class Box:
    """A sandbox. `state`: adding, live, going, gone; `began` and `answered` are of its ADD."""

    pod: str
    container: str
    space: Space
    boot: int
    began: float
    state: str = "adding"
    answered: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)
    labels: bool = False
    namespace: str = "default"
    told: str = ""  # labels, as the runtime tells them
    known: bool = True  # the runtime knows of it, and lists it as valid

    @property
    def key(self) -> LeaseKey:
        return LeaseKey(NETWORK, self.container, "eth0")

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(each["address"].partition("/")[0] for each in self.result.get("ips", ()))


class Hears:
    """Who is told of what became of calls."""

    def added(self, box: Box) -> None:
        """It was answered with success."""

    def leaves(self, box: Box) -> None:
        """It is no pod's from now on."""

    def left(self, box: Box, when: str) -> None:
        """Its DEL was answered with success, or it went otherwise."""

    def answered(self, command: str, box: Box | None, began: float, answer: Answer) -> None:
        """Any call."""


class Runtime:
    """Of one machine. It outlives agents, and not the machine."""

    def __init__(self, threads: SimThreads, machine: Machine, seed: int, hears: Hears) -> None:
        self.threads, self.machine, self.hears = threads, machine, hears
        self.random = Random(f"{seed} runtime")
        self.wanted: dict[str, int] = {}  # pods, and how often they were asked for
        self.boxes: list[Box] = []
        self._made = 0
        self._begin()

    def _begin(self) -> None:
        self.process = self.threads.process("runtime")
        self.client = self.machine.client(self.process)
        self.adding = 0
        self.collecting = False
        self.moved = SimEvent(self.threads)

    def reboot(self) -> None:
        """The machine has begun anew: every pod is made again."""
        self._begin()
        for box in self.boxes:
            if box.state != "gone":
                box.state = "gone"
        for pod in list(self.wanted):
            self.run(pod)

    @property
    def now(self) -> float:
        return self.threads.loop.time()

    def live(self, pod: str) -> Box | None:
        return next((box for box in self.boxes if box.pod == pod and box.state == "live"), None)

    @property
    def all_live(self) -> list[Box]:
        return [box for box in self.boxes if box.state == "live"]

    # --- pods --------------------------------------------------------------------------------------------

    def run(self, pod: str) -> None:
        """A pod is wanted, and has a sandbox sooner or later."""
        turn = self.wanted[pod] = self.wanted.get(pod, 0) + 1
        self.process.start(lambda: self._run(pod, turn), f"runs {pod}")

    def _run(self, pod: str, turn: int) -> None:
        tries = 0
        while self.wanted.get(pod) == turn:
            tries += 1
            box = self.box(pod)
            if self._attach(box):
                if self.wanted.get(pod) != turn:
                    self.detach(box)
                return
            self.detach(box)
            sleep(self.process, self.random.uniform(*AGAIN) * min(4, tries))

    def box(self, pod: str) -> Box:
        self._made += 1
        container = f"{self._made:04d}{pod}"
        space = self.machine.kernel.space(container)
        space.without_ipv6 = self.random.random() < 0.1
        box = Box(pod, container, space, self.machine.boots, self.now, labels=self.random.random() < 0.3)
        self.boxes.append(box)
        return box

    def _attach(self, box: Box, patience: float = ANSWER_SECONDS) -> bool:
        while self.collecting:
            self.moved.clear()
            self.moved.wait()
        self.adding += 1
        try:
            box.began = self.now
            answer = self.call("ADD", box, patience)
        finally:
            self.adding -= 1
            self.moved.set()
        if answer is None or answer.exit_code:
            return False
        box.result = json.loads(answer.stdout)
        if box.state != "adding":  # its sandbox died meanwhile
            return False
        box.state, box.answered = "live", self.now
        self.hears.added(box)
        return True

    def stop(self, pod: str) -> None:
        """A pod is not wanted any more."""
        if self.wanted.pop(pod, None) is not None:
            box = self.live(pod)
            if box is not None:
                self.leave(box)
                self.process.start(lambda: self.detach(box), f"stops {pod}")

    def leave(self, box: Box) -> None:
        box.state = "going"
        self.hears.leaves(box)

    def detach(self, box: Box) -> None:
        """DEL until it succeeds; then the namespace goes."""
        if box.state == "gone":
            return
        if box.state == "live":
            self.hears.leaves(box)
        box.state = "going"
        while True:
            answer = self.call("DEL", box, with_space=self.random.random() < 0.8)
            if answer is not None and answer.exit_code == 0:
                break
            sleep(self.process, DETACH)
        if box.state != "gone":
            box.state = "gone"
            self.hears.left(box, "DEL")
        self._remove(box)
        if self.random.random() < 0.2:
            self.call("DEL", box, with_space=False)

    def _remove(self, box: Box) -> None:
        if box.boot == self.machine.boots and not box.space.removed:
            self.machine.kernel.remove(box.space)

    # --- what goes wrong ---------------------------------------------------------------------------------

    def dies(self, pod: str) -> None:
        """A sandbox dies with its namespace, and kubelet makes the pod anew; the old one is detached late."""
        box = self.live(pod)
        if box is not None:
            self.leave(box)
            self._remove(box)
            self.process.start(lambda: (sleep(self.process, 1.0), self.detach(box)), "late")
            self.run(pod)

    def again(self, pod: str) -> None:
        """Kubelet makes a pod's next sandbox while the last is still being detached."""
        box = self.live(pod)
        if box is not None:
            self.leave(box)
            self.process.start(lambda: self.detach(box), "stops")
            self.run(pod)

    def forget(self, pod: str) -> None:
        """A sandbox goes, and nobody calls DEL: GC and the audit are to find out."""
        box = self.live(pod)
        if box is not None:
            self.wanted.pop(pod, None)
            self.leave(box)
            box.state, box.known = "gone", False
            self.hears.left(box, "forgotten")
            self._remove(box)

    def impatient(self, pod: str, seconds: float) -> None:
        """A client that is killed amid its ADD; the runtime tears down what it knows of."""

        def work() -> None:
            box = self.box(pod)
            if not self._attach(box, seconds):
                self.detach(box)
            else:
                self.detach(box)

        self.process.start(work, "impatient")

    def twice(self, pod: str) -> None:
        """ADD of what is attached already: refused, and nothing changes."""
        box = self.live(pod)
        if box is not None:
            self.process.start(lambda: self.call("ADD", box, of="twice"), "twice")

    def unknown(self, number: int) -> None:
        """DEL of what never was."""
        space = self.machine.kernel.host
        box = Box("", f"never{number}", space, 0, self.now, "gone")
        self.process.start(lambda: self.call("DEL", box, with_space=False), "unknown")

    def check(self, pod: str) -> None:
        box = self.live(pod)
        if box is not None:
            self.process.start(lambda: self.call("CHECK", box), "checks")

    def status(self) -> None:
        self.process.start(lambda: self.call("STATUS", None), "asks")

    def collect(self, how: str) -> None:
        """GC with the attachments that are valid; with some of them, or none, the others are given up."""
        self.process.start(lambda: self._collect(how), "collects")

    def _collect(self, how: str) -> None:
        if self.collecting:
            return
        self.collecting = True
        try:
            while self.adding:
                self.moved.clear()
                self.moved.wait()
            if how != "full":
                for box in self.all_live:
                    if how == "empty" or self.random.random() < 0.5:
                        self.wanted.pop(box.pod, None)
                        self.leave(box)
                        box.state, box.known = "gone", False
                        self.hears.left(box, "GC")
                        self._remove(box)
            valid = [box for box in self.boxes if box.known and box.state in ("live", "going", "adding")]
            answer = self.call("GC", None, valid=valid)
            if answer is not None and answer.exit_code:
                sleep(self.process, 20)
                self.call("GC", None, valid=[box for box in valid if box.state == "live"])
        finally:
            self.collecting = False
            self.moved.set()

    # --- calls -------------------------------------------------------------------------------------------

    def call(
        self,
        command: str,
        box: Box | None,
        patience: float = ANSWER_SECONDS,
        *,
        with_space: bool = True,
        valid: list[Box] | None = None,
        of: str = "",
    ) -> Answer | None:
        conf: dict[str, Any] = {"cniVersion": "1.1.0", "name": NETWORK, "type": "l3net"}
        environment = {"CNI_COMMAND": command, "CNI_PATH": "/opt/cni/bin"}
        if box is not None:
            environment |= {"CNI_CONTAINERID": box.container, "CNI_IFNAME": "eth0"}
            args = f"K8S_POD_NAMESPACE={box.namespace};K8S_POD_NAME={box.pod};K8S_POD_UID=u-{box.container}"
            labels = box.told or ("app=web" if box.labels else "")
            environment["CNI_ARGS"] = args + (f";L3NET_LABELS={labels}" if labels else "")
            if with_space:
                environment["CNI_NETNS"] = f"/run/netns/{box.container}"
            if command == "CHECK":
                conf["prevResult"] = box.result
        if valid is not None:
            conf["cni.dev/valid-attachments"] = [
                {"containerID": each.container, "ifname": "eth0"} for each in valid
            ]
        began = self.now
        space = box.space if box is not None and with_space and not box.space.gone else None
        call = Call(environment, json.dumps(conf).encode())
        answer = self.client.call(call, space, patience)
        if answer is not None:
            self.hears.answered(of or command, box, began, answer)
        return answer
