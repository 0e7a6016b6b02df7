"""Makes pods and takes them away again by the CNI plugin, as a runtime does. By itself, standard library
alone.

    churn.py PLUGIN NETWORK COUNT SECONDS

COUNT pods are made and deleted within SECONDS, a few at a time, each in a network namespace of its own. Says
`{"added", "deleted", "failed": [...]}` at the end; SIGTERM ends it sooner, with everything deleted.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

_AT_ONCE = 4


def execute(plugin: str, network: str, verb: str, identity: str, namespace: str) -> str:
    """What the plugin complains of; empty if nothing."""
    pod = f"K8S_POD_NAMESPACE=chaos;K8S_POD_NAME={namespace};K8S_POD_UID={identity}"
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": identity,
        "CNI_NETNS": f"/run/netns/{namespace}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": os.path.dirname(plugin),  # noqa: PTH120
        "CNI_ARGS": f"IgnoreUnknown=1;{pod}",
    }
    configuration = {"cniVersion": "1.0.0", "name": network, "type": os.path.basename(plugin)}  # noqa: PTH119
    done = subprocess.run(
        [plugin],
        input=json.dumps(configuration),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    return "" if done.returncode == 0 else f"{verb}: {(done.stdout or done.stderr)[:300]}"


def pod(plugin: str, network: str, number: int, stop: list[int]) -> tuple[int, int, list[str]]:
    """One pod comes and goes: how many ADDs, how many DELs were fine, and complaints."""
    if stop:
        return 0, 0, []
    identity, namespace = uuid.uuid4().hex, f"churn-{number}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    said = execute(plugin, network, "ADD", identity, namespace)
    complaints = [said] if said else []
    for attempt in range(20):  # a runtime tries again until it is done
        gone = execute(plugin, network, "DEL", identity, namespace)
        if not gone:
            break
        complaints += [gone] if not attempt else []
        time.sleep(0.5)
    subprocess.run(["ip", "netns", "del", namespace], check=False)
    return int(not said), int(not gone), complaints


def main(plugin: str, network: str, count: int, seconds: float) -> None:
    stop: list[int] = []

    def end(sign: int, _frame: FrameType | None) -> None:
        stop.append(sign)

    signal.signal(signal.SIGTERM, end)
    began = time.monotonic()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        done = []
        for number in range(count):
            while not stop and time.monotonic() < began + number * seconds / count:
                time.sleep(0.005)
            done.append(pool.submit(pod, plugin, network, number, stop))
        results = [each.result() for each in done]
    told = {
        "added": sum(each[0] for each in results),
        "deleted": sum(each[1] for each in results),
        "failed": [complaint for each in results for complaint in each[2]],
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
