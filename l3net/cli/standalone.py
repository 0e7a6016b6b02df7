"""The plugins without an agent: one process a call, where there is no helper that is warm.

Light imports only, for a container waits for them. What a DEL begins with is here, what a call is carried out
with in `onecall`, which is read while the kernel deletes the interface.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from l3net.cni import failure
from l3net.cni.failure import CniError, error_object
from l3net.cni.frame import IPAM_PLUGIN, PLUGIN_NAME
from l3net.cni.request import MAX_STDIN, parse_request

if TYPE_CHECKING:
    from l3net.attach.removal import Removal


def begun_removal(environment: dict[str, str], stdin: bytes) -> Removal | None:
    """The deletion of the interface that a valid DEL is about, begun."""
    try:
        key = parse_request(environment, stdin).key
    except CniError:
        return None  # which is the answer
    from l3net.attach.removal import Removal  # noqa: PLC0415 - of a DEL alone
    from l3net.cni.ifname import host_ifname  # noqa: PLC0415

    return Removal(host_ifname(key))


def run() -> int:
    """The program: environment and standard input in, the answer out."""
    wanted = ("CNI_", "TRACE")
    environment = {key: value for key, value in os.environ.items() if key.startswith(wanted)}
    environment[PLUGIN_NAME] = plugin = os.environ.get(PLUGIN_NAME, os.path.basename(sys.argv[0]))  # noqa: PTH119
    if not environment.get("CNI_COMMAND"):
        print(f"{plugin}: CNI plugin of l3net, CNI 0.1.0 to 1.1.0", file=sys.stderr)  # noqa: T201
        return 0
    stdin = sys.stdin.buffer.read(MAX_STDIN + 1)
    removal = None
    if environment["CNI_COMMAND"] == "DEL" and plugin != IPAM_PLUGIN:
        removal = begun_removal(environment, stdin)
    from l3net.cli.onecall import carry_out  # noqa: PLC0415 - as long as it takes the interface is deleted

    return carry_out(environment, stdin, removal)


def main() -> None:
    """As `run`; whatever happens, the runtime gets one JSON object and an exit code."""
    try:
        code = run()
    except BaseException as err:
        failed = CniError(failure.INTERNAL, f"unexpected failure: {err.__class__.__name__}")
        try:
            print(json.dumps(error_object(failed, "1.0.0")))  # noqa: T201
            sys.stdout.flush()
        except Exception:  # noqa: S110 - nobody listens
            pass
        code = 1
    os._exit(code)  # nothing to clean up that the kernel does not


if __name__ == "__main__":
    main()
