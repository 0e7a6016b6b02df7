"""FloatingIPs: addresses given, and the status that says who has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from apiserver import FakeApiServer
from controller_rig import NAMESPACE, Running, node, pool, until

from l3net.controller.decide import Settings

CIDR = "203.0.113.0/30"


def floating(name: str, app: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "FloatingIP",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": app}}, **spec},
    }


def pod(name: str, on: str, *, ready: bool = True, since: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": since}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"nodeName": on},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.244.1.9"}], "conditions": [condition]},
    }


def status(api: FakeApiServer, name: str) -> dict[str, Any]:
    found: dict[str, Any] = (api.get("FloatingIP", name) or {}).get("status", {})
    return found


def given(api: FakeApiServer) -> str:
    """The ledger's lines of FloatingIPs."""
    return str(api.get("ConfigMap", "l3net-ledger", NAMESPACE)["data"]["floating"])


def told(api: FakeApiServer, name: str, **wanted: Any) -> Callable[[], bool]:
    return lambda: {key: status(api, name).get(key) for key in wanted} == wanted


def test_addresses_are_given_and_who_has_them_is_told(api: FakeApiServer, tmp_path: Path) -> None:
    api.put(node("n1"), node("n2"), pool("public", CIDR, allowedUses=["Floating"]))
    api.put(floating("web"), floating("second", app="db"), pod("web-1", "n1"))
    running = Running(api, tmp_path, "one", settings=Settings())
    try:
        until(told(api, "web", pod="web-1", node="n1", state="Held"), "web-1 has it")
        (address,) = status(api, "web")["addresses"]
        since = status(api, "web")["since"]
        until(told(api, "second", state="Waiting", reason="NoPod", pod=None), "nobody has the other")
        assert status(api, "second")["addresses"] != [address]
        assert f"default/web {address}" in given(api)
        # A standby takes over, and who had it does not get it back.
        api.put(pod("web-2", "n2", since="2026-01-02T00:00:00Z"), pod("web-1", "n1", ready=False))
        until(told(api, "web", pod="web-2", node="n2"), "web-2 has it")
        assert status(api, "web")["since"] >= since
        api.put(pod("web-1", "n1", since="2026-01-03T00:00:00Z"))
        # Somebody writes over the status: it is said again.
        found = api.get("FloatingIP", "web")
        found["status"] = {**found["status"], "pod": "nobody"}
        api.put(found)
        until(told(api, "web", pod="web-2", addresses=[address]), "said again")
        # One that names the address of another is refused, and told so in an Event.
        api.put(floating("zz-thief", addresses=[address]))
        until(told(api, "zz-thief", state="Refused", reason="Conflict"), "refused")
        until(lambda: any("FloatingIPRefused" in str(each) for each in api.objects("Event")), "an Event")
        # A deleted one frees its address; the ledger follows.
        second = status(api, "second")["addresses"][0]
        api.remove("FloatingIP", "second", "default")
        until(
            lambda: second not in given(api),
            "freed",
        )
        until(lambda: api.get("IPPool", "public")["status"]["used"] == 1, "the pool counts")
    finally:
        running.stop()
