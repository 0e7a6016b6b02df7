"""EgressIPs: addresses given, and the status that says who holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from apiserver import FakeApiServer
from controller_rig import NAMESPACE, Running, balancer, node, pool, until

from l3net.controller.decide import Settings
from l3net.naming import ANNOTATION_TAKES_PART


def egress(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "EgressIP",
        "metadata": {"name": name},
        "spec": {"namespaceSelector": {}, **spec},
    }


def gateway(name: str, *, ready: bool = True, takes: bool = True) -> dict[str, Any]:
    """A node, and whether its agent says that it takes what others hand on."""
    found: dict[str, Any] = node(name)
    found["status"]["conditions"] = [{"type": "Ready", "status": str(ready)}]
    if takes:
        found["metadata"]["annotations"] = {ANNOTATION_TAKES_PART: "true"}
    return found


def status(api: FakeApiServer, name: str) -> dict[str, Any]:
    found: dict[str, Any] = (api.get("EgressIP", name) or {}).get("status", {})
    return found


def told(api: FakeApiServer, name: str, **wanted: Any) -> Callable[[], bool]:
    return lambda: {key: status(api, name).get(key) for key in wanted} == wanted


def ledger(api: FakeApiServer, key: str = "egress") -> str:
    return str(api.get("ConfigMap", "l3net-ledger", NAMESPACE)["data"][key])


def by_node(api: FakeApiServer, name: str) -> dict[str, str]:
    return {each["node"]: each["address"] for each in status(api, name).get("holders", [])}


def test_addresses_are_given_and_who_holds_them_is_told(api: FakeApiServer, tmp_path: Path) -> None:
    api.put(gateway("n1"), gateway("n2"), gateway("old", takes=False))
    api.put(pool("four", "203.0.113.0/30", allowedUses=["Egress"]))
    api.put(pool("six", "2001:db8:e::/64", allowedUses=["Egress"]))
    api.put(egress("shop", replicas=2, ipFamilies=["IPv4", "IPv6"]))
    api.put(egress("named", addresses=["203.0.113.1"]))
    running = Running(api, tmp_path, "one", settings=Settings())
    try:
        until(told(api, "shop", state="Held", reason=None), "they are held")
        given = status(api, "shop")["addresses"]
        assert given == ["203.0.113.2", "203.0.113.3", "2001:db8:e::", "2001:db8:e::1"]
        assert f"shop {','.join(given)}\n" == ledger(api)
        assert set(by_node(api, "shop")) == {"n1", "n2"}, "the node that takes nothing holds nothing"
        assert set(status(api, "shop")["nodes"].split(", ")) == {"n1", "n2"}
        (condition,) = status(api, "shop")["conditions"]
        assert (condition["type"], condition["status"]) == ("Held", "True")
        since = status(api, "shop")["since"]
        # A node fails: the other holds all of it; no Pod was heard of, nor has to be.
        api.put(gateway("n1", ready=False))
        until(told(api, "shop", nodes="n2"), "n2 holds all")
        assert len(status(api, "shop")["holders"]) == 4 and status(api, "shop")["addresses"] == given
        assert status(api, "shop")["since"] >= since
        # Somebody writes over the status: it is said again.
        found = api.get("EgressIP", "shop")
        found["status"] = {**found["status"], "nodes": "nobody"}
        api.put(found)
        until(told(api, "shop", nodes="n2", addresses=given), "said again")
        # Nobody is there.
        api.put(gateway("n2", ready=False))
        until(told(api, "shop", state="Waiting", reason="NoNodeReady", nodes=None, since=None), "none")
        # Fewer are wanted: those that it had first stay.
        api.put(egress("shop", replicas=1), gateway("n2"))
        until(told(api, "shop", addresses=given[:1], nodes="n2"), "one is left")
        until(lambda: ledger(api) == f"shop {given[0]}\n", "the others are free")
        until(lambda: api.get("IPPool", "four")["status"]["used"] == 2, "the pool counts")
        api.remove("EgressIP", "shop")
        until(lambda: not ledger(api), "all are free")
    finally:
        running.stop()


def test_nobody_is_given_what_another_has(api: FakeApiServer, tmp_path: Path) -> None:
    """One pool for everything, with an address for each."""
    api.put(gateway("n1"), pool("all", "203.0.113.0/29", allowedUses=["LoadBalancer", "Floating", "Egress"]))
    floats = {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "FloatingIP",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
    }
    api.put(floats, {**floats, "metadata": {"name": "db", "namespace": "default"}})
    api.put(egress("one"), egress("two"), egress("named", addresses=["203.0.113.0"]), balancer("s"))
    running = Running(api, tmp_path, "one", settings=Settings())
    try:
        until(lambda: api.get("IPPool", "all").get("status", {}).get("used") == 6, "all have one")
        until(told(api, "named", state="Held"), "what is named is held")
        text = "".join(ledger(api, key) for key in ("addresses", "floating", "egress"))
        given = [line.split()[1] for line in text.splitlines()]
        assert sorted(given) == [f"203.0.113.{number}" for number in range(1, 6)]
        # What is left, and then there is none.
        api.put(egress("six", replicas=3))
        until(told(api, "six", reason="NoAddress", state="Held"), "two of three")
        assert len(status(api, "six")["addresses"]) == 2
        assert "has been given 2 of 3" in status(api, "six")["conditions"][0]["message"]
        until(lambda: any("NoAddressFree" in str(each) for each in api.objects("Event")), "an Event")
        # Who names what another has is refused, and so is what is a service's.
        api.put(egress("zz-thief", addresses=[status(api, "one")["addresses"][0]]))
        until(told(api, "zz-thief", state="Refused", reason="Conflict", nodes=None), "refused")
        until(lambda: any("EgressIPRefused" in str(each) for each in api.objects("Event")), "an Event")
        address = ledger(api, "addresses").split()[1]
        api.put(egress("service", addresses=[address]))
        until(told(api, "service", state="Refused", reason="ServiceAddress"), "a service's")
    finally:
        running.stop()


def test_a_floating_ip_takes_no_address_that_its_pools_do_not_let_it_have(
    api: FakeApiServer, tmp_path: Path
) -> None:
    """Whoever may make a FloatingIP in some namespace could have pods' traffic dropped by it."""
    api.put(gateway("n1"), pool("out", "203.0.113.0/30", allowedUses=["Egress"]))
    api.put(pool("public", "198.51.100.0/30", allowedUses=["Floating"]))
    thief = {
        "apiVersion": "l3net.io/v1alpha1",
        "kind": "FloatingIP",
        "metadata": {"name": "thief", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "addresses": ["203.0.113.1"]},
    }
    api.put(thief, egress("shop", addresses=["203.0.113.1"]))
    running = Running(api, tmp_path, "one", settings=Settings())
    try:
        until(told(api, "shop", state="Held", nodes="n1"), "held all the same")
        until(lambda: "OutsidePools" in str(api.get("FloatingIP", "thief").get("status")), "refused")
        assert status(api, "shop")["state"] == "Held"
    finally:
        running.stop()
