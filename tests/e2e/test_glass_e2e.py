"""The looking glass in a real browser, over a real lab: what the page says is what router and kernel say."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from browsing import Page, browser
from jsonschema import Draft202012Validator
from small_lab import RACK, lab_of

from l3net.lab.breaking import chosen_links, cut, mend
from l3net.lab.up import Lab
from l3net.lab.wait import until
from l3net.naming import AGENT_SOCKET, RUN_DIR
from l3net.shell.sockets.agentsocket import ask

pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

CANARY = "canary-2b7e-secret"
#: A peer that has a password, and a policy, so that there is more to tell.
MORE = f"""
apiVersion: v1
kind: Secret
metadata: {{name: bgp, namespace: kube-system}}
data: {{key: {base64.b64encode(CANARY.encode()).decode()}}}
---
apiVersion: l3net.io/v1alpha1
kind: BGPPeer
metadata: {{name: far}}
spec:
  address: 192.0.2.9
  asNumber: 65009
  multihop: 3
  password: {{secretKeyRef: {{name: bgp, key: key}}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{namespace: default, name: closed, annotations: {{l3net.io/log-drops: "true"}}}}
spec: {{podSelector: {{}}, ingress: []}}
"""
GIVEN = {
    "q": "10.96.0.10",
    "subject": "service default/web",
    "namespace": "default",
    "name": "default/closed",
    "source": "default/web-1",
    "destination": "10.244.2.2",
    "question": "neighbors",
}


@pytest.fixture
def lab(tmp_path: Path, own_netns: Callable[[str], str]) -> Iterator[Lab]:
    with lab_of(RACK, tmp_path) as made:
        yield made


@pytest.fixture
def port(lab: Lab) -> Iterator[int]:
    """Of `l3net lab glass`, in the network namespace of the test."""
    number = 9179
    argv = [sys.executable, "-m", "l3net.cli.main", "lab", "glass", "--name", lab.name]
    running = subprocess.Popen([*argv, "--listen", f"127.0.0.1:{number}"], stderr=subprocess.DEVNULL)
    try:
        until(lambda: _listens(number), 20, "`l3net lab glass` does not listen")
        yield number
    finally:
        running.terminate()
        running.wait()


def _listens(number: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", number)) == 0


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def heard_by_router(lab: Lab, node: str, version: int) -> set[str]:
    """Prefixes that FRR has from a node."""
    session = next(
        each
        for each in lab.topology.sessions("tor")
        if each.remote_host == node and each.remote.version == version
    )
    command = f"show bgp ipv{version} unicast neighbors {session.remote} routes json"
    text = lab.host("tor").run(["vtysh", "-c", command]).stdout
    return {str(ip_network(prefix)) for prefix in json.loads(text)["routes"]}


def in_kernel(lab: Lab, node: str) -> set[str]:
    """Prefixes of l3net's unicast routes by a router in the kernel of a node."""
    found = set()
    for version in ("-4", "-6"):
        text = lab.host(node).run(["ip", version, "-j", "route", "show", "proto", "108", "dev", "tor"]).stdout
        found |= {str(ip_network(route["dst"])) for route in json.loads(text)}
    return found


def test_the_page_says_what_router_and_kernel_say(lab: Lab, port: int) -> None:
    (lab.manifests / "more.yaml").write_text(MORE)
    with browser(f"http://127.0.0.1:{port}/") as page:
        page.open()
        page.wait(lambda: len(page.rows("Sessions")) == 6, "not all sessions are shown")
        sessions_are_true(lab, page)
        routes_are_true(lab, page)
        keyboard_leads_everywhere(page)
        search_finds_a_pod(lab, page)
        flows_are_followed_while_somebody_looks(lab, page)
        failures_appear_by_themselves(lab, page)
        views_are_accessible(page)
        assert page.errors() == []
    every_path_answers_and_tells_no_secret(port)


def sessions_are_true(lab: Lab, page: Page) -> None:
    rows = {row["Peer"].split()[-1]: row for row in page.rows("Sessions")}
    for version in (4, 6):
        told = lab.host("tor").run(["vtysh", "-c", f"show bgp ipv{version} unicast summary json"]).stdout
        for session in lab.topology.sessions("tor"):
            if session.remote.version == version:
                seen = json.loads(told)["peers"][str(session.remote)]
                row = rows[str(session.local)]
                assert (row["State"], seen["state"]) == ("● established", "Established")
                assert int(row["Out"]) == seen["pfxRcd"]
    assert "down" in rows["192.0.2.9"]["State"]  # of the control, that nobody answers


def press_tab(page: Page, name: str) -> None:
    """One of the tabs within the details."""
    page.script(
        "[...document.querySelectorAll('[role=tab]')].find(e => e.textContent === arguments[0]).click()", name
    )


def routes_are_true(lab: Lab, page: Page) -> None:
    for node in ("n1", "n2"):
        page.script("location.hash = arguments[0]", f"#/fabric?node={node}")
        page.wait(lambda node=node: page.rows(f"Sessions of {node}"), "no details")
        press_tab(page, "Kernel")
        page.wait(lambda: page.rows("Routes of l3net in the kernel"), "no routes")
        shown = page.rows("Routes of l3net in the kernel")
        via_tor = {row["Prefix"] for row in shown if "dev tor" in row["Next hops"]}
        assert via_tor == in_kernel(lab, node)
        assert all(row["In the kernel"] == "● yes" for row in shown)
        press_tab(page, "Out")
        page.wait(lambda: page.rows("Announcements of"), "no announcements")
        said = {
            row["Prefix"]
            for row in page.rows("Announcements of")
            if row["Peer"].startswith("tor") and row["Verdict"] == "● announced"
        }
        assert said == heard_by_router(lab, node, 4) | heard_by_router(lab, node, 6)


def keyboard_leads_everywhere(page: Page) -> None:
    """From the address bar to a router, to a node, to its details and back, with keys alone."""
    page.open()
    page.wait(lambda: page.find(".box.node"), "no drawing")
    seen = []
    for _ in range(17):
        page.keys("\ue004")  # Tab
        seen.append(page.focused())
        if ": router" in seen[-1]:
            break
    assert ": router" in seen[-1], seen
    assert "Skip to content" in seen[0]
    assert {"Fabric", "Search", "Timeline", "Services", "Policy", "Flows", "Drops"} <= set(seen)
    page.keys("\ue015")  # arrow down
    assert ": node, " in page.focused()
    node = page.focused().split()[0]
    page.keys("\ue007")  # Enter
    page.wait(lambda: page.focused() == f"Node {node}", "the details have no focus")
    page.keys("/")
    assert page.focused().startswith("Address, prefix or name")


def search_finds_a_pod(lab: Lab, page: Page) -> None:
    address = lab.pod("web-1").addresses[-1]
    page.keys(str(address), "\ue007")
    page.wait(lambda: "1 pod: default/web-1 on n1" in page.text(".answer"), "the pod is not found")
    page.wait(lambda: page.find(".explain"), "it is not explained")
    assert "Learned as" in page.text(".answer")
    assert "used by n2" in page.text(".answer")


def subscribed(lab: Lab, node: str) -> bool:
    """Whether anybody there listens to connections that begin: the first group of NETLINK_NETFILTER."""
    rows = lab.host(node).run(["cat", "/proc/net/netlink"]).stdout.splitlines()[1:]
    return any(row.split()[1] == "12" and int(row.split()[3], 16) & 1 for row in rows)


_CALL = """
import socket, sys
for _ in range(5):
    with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET) as one:
        one.settimeout(0.3)
        one.connect_ex((sys.argv[1], 80))
"""


def _connections(lab: Lab, node: str) -> int:
    """To default/web, as the agent has counted."""
    answer = ask(lab.host(node).inside(RUN_DIR) / AGENT_SOCKET, 'services {"q": "default/web"}')
    return int(next(row["connections"] for row in answer["rows"] if row["service"] == "default/web"))


def flows_are_followed_while_somebody_looks(lab: Lab, page: Page) -> None:
    """Five connections of a node to a service in each family are five on the page, by names."""
    assert not any(subscribed(lab, node) for node in ("n1", "n2"))
    page.script("location.hash = '#/flows'")
    page.wait(lambda: all(subscribed(lab, node) for node in ("n1", "n2")), "nobody follows connections")
    addresses = ("10.96.0.10", "fd00:10:96::a")
    for address in addresses:
        lab.host("n1").run([sys.executable, "-c", _CALL, address])

    def counted() -> dict[str, int]:
        found = dict.fromkeys(addresses, 0)
        for row in page.rows("Connections by who speaks to whom"):
            if (
                row["Node"] == "n1"
                and row.get("Service") == "default/web"
                and row["From"].startswith("node n1")
            ):
                found[addresses[":" in row["From"]]] += int(row["Connections"])
        return found

    page.wait(lambda: _connections(lab, "n1") >= 10, "the agent counts other connections")
    page.wait(lambda: counted() == dict.fromkeys(addresses, 5), f"other connections: {counted()}")
    last = [row for row in page.rows("Connections as they begin") if row["Node"] == "n1"]
    to_pod = [
        row for row in last if row["To"].startswith("default/web-1") and row["Service"] == "default/web"
    ]
    assert to_pod and all(row["Policies"] == "default/closed" for row in to_pod), last
    page.keys("\ue004")  # Tab: the filter, then what holds the view still
    page.script("document.querySelector('main input').focus()")
    page.keys("nothing of that name")
    page.wait(lambda: "Nothing matches." in page.text("main"), "the filter does nothing")
    page.keys("\ue004")
    assert page.focused() == "Hold still"
    page.size(390, 844)
    page.open("#/flows")
    page.wait(lambda: page.rows("Connections by who speaks to whom"), "nothing on a phone")
    assert page.script("return document.documentElement.scrollWidth") <= 390
    page.size(1280, 800)


def failures_appear_by_themselves(lab: Lab, page: Page) -> None:
    """A cable is pulled: the drawing, the table and the timeline tell, without a reload."""
    page.open()
    page.wait(lambda: len(page.find(".edge.established")) >= 2, "no established sessions")
    page.script("window.stayed = true")
    cut(lab, chosen_links(lab.topology, [("n1", "tor")]))
    try:
        page.wait(lambda: len(page.find(".lines .edge.established")) == 1, "the session stays up", 30)
        page.wait(lambda: "2 of 6 sessions" in page.text(".chips"), "the summary is old")
        states = [row["State"] for row in page.rows("Sessions") if row["Node"] == "n1"]
        assert not any("established" in each for each in states), states
        page.script("location.hash = '#/timeline'")
        page.wait(
            lambda: any(
                row["Node"] == "n1" and row["Kind"] == "session" and "down" in row["What"]
                for row in page.rows("Entries")
            ),
            "the timeline does not have it",
        )
        assert page.script("return window.stayed")
    finally:
        mend(lab)


def views_are_accessible(page: Page) -> None:
    views = (
        ("#/timeline", ".timeline .event"),
        ("#/services", ".service .map"),
        ("#/drops", "table"),
        ("#/flows", "table"),
        ("#/policy", ".verdict"),
        ("#/search?q=10.96.0.10", ".explain"),
        ("#/fabric?node=n2", ".subtabs"),
    )
    for scheme, shown in (("light", views), ("dark", views[-3:])):
        page.scheme(scheme)
        for fragment, ready in shown:
            page.open(fragment)
            page.wait(lambda ready=ready: page.find(ready), f"{fragment}: nothing is shown")
            assert page.accessibility() == [], (scheme, fragment)
    # The control: an image without a text, and a field without a name.
    page.script("document.getElementById('main').innerHTML = '<img src=icon.svg><input>'")
    assert len(page.accessibility()) >= 2


def every_path_answers_and_tells_no_secret(port: int) -> None:
    code, text = get(port, "/api/v1/openapi.json")
    assert code == 200
    document = json.loads(text)
    for path, item in document["paths"].items():
        if path == "/api/v1/events":
            continue
        parameters = item["get"]["parameters"]
        query = "&".join(
            f"{each['name']}={GIVEN[each['name']].replace(' ', '%20')}"
            for each in parameters
            if each["required"] and each["in"] == "query"
        )
        code, body = get(port, f"{path.replace('{node}', 'n1')}?{query}")
        assert code == 200, (path, body[:300])
        schema = item["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        whole: dict[str, Any] = {**schema, "components": document["components"]}
        Draft202012Validator(whole).validate(json.loads(body))
        assert CANARY.encode() not in body, path
    assert json.loads(get(port, "/api/v1/nodes/n1/status")[1])["peers"]
    for path in ("status", "protocols/bgp", "protocols/short", "routes/table/master4", "symbols"):
        code, body = get(port, f"/birdwatcher/n1/{path}")
        assert code == 200
        assert CANARY.encode() not in body
