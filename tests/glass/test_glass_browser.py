"""The page in a real browser over agents that a test makes up: 500 nodes, hostile names, tokens, and a server
that ends and comes back."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Callable
from typing import Any

import glass_answers as answers
import pytest
from browsing import Page, browser
from glass_server import served

from l3net.errors import NotRunningError
from l3net.glass.backend import Backend
from l3net.glass.node import Nodes, OneNode
from l3net.glass.settings import Settings

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]

NODES = 500
TOKEN = "5f" * 20
CLICK = "new MouseEvent('click', {bubbles: true})"
EVIL = "\"><img src=x onerror='window.hurt=1'><script>window.hurt=1<b>${window.hurt=1}"


def big(number: int) -> Any:
    """A node of a cluster of two pairs of routers."""
    peers = []
    for router in (number % 2 * 2, number % 2 * 2 + 1):
        for version in (4, 6):
            six = version == 6
            address = f"fd00:{router}::{number:x}" if six else f"10.{router}.{number >> 8}.{number & 255}"
            state = "down" if number % 97 == 0 and router % 2 == 0 else "established"
            name = f"tor{router + 1}-ipv{version}"
            peers.append(answers.peer(name, address, f"10.255.0.{router}", state, asNumber=65001 + router))
    status = answers.status(f"node-{number:03}", peers)

    async def ask(question: str) -> dict[str, Any]:
        return status if question == "brief" else answers.answer(question, status["node"])

    return OneNode(ask)


async def cluster() -> Backend:
    return Nodes({f"node-{number:03}": big(number) for number in range(NODES)})


def mouse(page: Page, kind: str, x: float, y: float, buttons: int) -> None:
    event = {"type": kind, "x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": 1}
    page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def test_five_hundred_nodes_are_drawn_and_moved(record_property: Callable[[str, object], None]) -> None:
    with served(backend=cluster) as glass, browser(f"http://127.0.0.1:{glass.port}/") as page:
        page.open()
        page.wait(lambda: len(page.find(".box.node")) == NODES, "not all nodes are drawn")
        assert len(page.find(".box.router")) == 4
        # What makes panning smooth, whatever the machine: few elements.
        assert len(page.find("svg.fabric *")) < 4 * NODES
        assert "1988 of 2,000 sessions" in page.text(".chips")
        before = page.find("svg.fabric > g")[0].get_attribute("transform")
        page.script(
            "window.frames_ = []; let last = performance.now(); const tick = now => {"
            " frames_.push(now - last); last = now; requestAnimationFrame(tick) };"
            " requestAnimationFrame(tick)"
        )
        mouse(page, "mousePressed", 400, 300, 1)
        for step in range(120):
            mouse(page, "mouseMoved", 400 + 150 * math.sin(step / 15), 350 + 80 * math.cos(step / 15), 1)
        mouse(page, "mouseReleased", 400, 350, 0)
        frames = sorted(page.script("return window.frames_.slice(5)"))
        assert page.find("svg.fabric > g")[0].get_attribute("transform") != before
        told = [round(frames[int(len(frames) * part)], 1) for part in (0.5, 0.95, 0.99)]
        record_property("milliseconds a frame while panning: median, 95 %, 99 %", told)
        page.script("document.querySelector('[aria-label^=Fit]').click()")
        page.script(f"document.querySelectorAll('.box.node')[97].dispatchEvent({CLICK})")
        page.wait(lambda: "Node node-" in page.text(".panel h2"), "no details")
        assert page.accessibility() == []
        page.size(390, 844)
        page.open()
        page.wait(lambda: len(page.find(".box.node")) == NODES, "not on a phone")
        assert page.script("return document.documentElement.scrollWidth") <= 390
        assert page.errors() == []


def evil(question: str) -> dict[str, Any]:
    """Everything that a router, a user or a neighbour may have chosen is hostile."""
    word = question.partition(" ")[0]
    peer = answers.peer(EVIL, "10.0.0.1", reason=EVIL, refused={EVIL: 3}, state="down")
    if word in ("brief", "status"):
        found = answers.status(
            EVIL, [peer, answers.peer("t", "fe80::1", bfd={"state": EVIL})], problems=[EVIL]
        )
        found["floating"] = {"held": [{**answers.FLOATING[0], "by": EVIL, "pod": EVIL}]}
        found["egress"] = {"held": [{**answers.EGRESS[0], "by": EVIL}]}
        return {**found, "blocks": [EVIL], "unready": EVIL, "ready": False, "routes": answers.KERNEL}
    if word == "routes":
        return {"routes": [answers.route("10.1.0.0/16", EVIL, name=EVIL, communities=[EVIL])]}
    if word == "services":
        row = {**answers.SERVICE, "service": EVIL, "type": EVIL}
        return {"total": 1, "node": EVIL, "rows": [row]}
    if word == "history":
        entry = {**answers.ENTRY, "subject": EVIL, "what": EVIL, "reason": EVIL, "at": time.time()}
        return {"entries": [entry]}
    if word == "flows":
        found = answers.answer(question)
        ends = {"source": EVIL, "destination": EVIL, "service": EVIL, "protocol": EVIL}
        rows = [{**found["flows"][0], **ends, "policies": [EVIL]}]
        return {**found, "flows": rows, "kinds": [{**found["kinds"][0], **ends}], "problem": EVIL}
    if word == "explain":
        step = {"what": EVIL, "where": EVIL, "verdict": "bad", "detail": EVIL}
        return {"subject": EVIL, "healthy": False, "answer": EVIL, "advice": EVIL, "steps": [step]}
    if question.startswith("policy matrix"):
        return {**answers.policy("matrix"), "namespace": EVIL, "notes": [EVIL]}
    return answers.answer(question)


def test_hostile_text_stays_text() -> None:
    with served(evil) as glass, browser(f"http://127.0.0.1:{glass.port}/") as page:
        for fragment, place in (
            ("#/fabric", ".panel"),
            ("#/search?q=10.1.2.3", ".results .card"),
            ("#/timeline", "tbody .badge"),
            ("#/services", ".service"),
            ("#/policy", ".card h2"),
            ("#/drops", "tbody tr"),
            ("#/flows", "tbody tr"),
            ("#/addresses", "tbody tr"),
        ):
            page.open(fragment)
            page.wait(lambda place=place: page.find(place), f"{fragment}: nothing is shown")
            if fragment in ("#/fabric", "#/services", "#/timeline", "#/addresses"):
                page.wait(lambda: "onerror" in page.text("main"), f"{fragment}: the text is not shown")
            assert page.script("return window.hurt === undefined")
            assert page.find("main img, main script") == []
        page.open("#/fabric")
        page.wait(lambda: page.find(".box.node"), "no node")
        page.script(
            "document.querySelector('.box.node').dispatchEvent(new MouseEvent('click', {bubbles: true}))"
        )
        page.wait(lambda: page.find(".panel .facts"), "no details")
        assert page.script("return window.hurt === undefined")
        page.open("#/search?q=" + "%22%3E%3Cimg%20src%3Dx%20onerror%3D%22window.hurt%3D1%22%3E")
        page.wait(lambda: "<img" in page.text(".answer"), "the question is not shown")
        assert page.script("return window.hurt === undefined")
        assert page.errors() == []


def test_what_does_not_answer_is_told_in_every_view() -> None:
    """Nothing that is empty passes for nothing that happened."""

    async def away(question: str) -> dict[str, Any]:
        raise NotRunningError("no agent answers (Connection refused)")

    async def made() -> Backend:
        return Nodes({"n1": big(1), "n2": OneNode(away)})

    with served(backend=made) as glass, browser(f"http://127.0.0.1:{glass.port}/") as page:
        for view in ("search?q=10.1.2.3", "timeline", "services", "addresses", "flows", "drops"):
            page.open(f"#/{view}")
            page.wait(lambda: "1 node did not answer" in page.text("main"), f"{view}: it is not told")
        page.open("#/fabric")
        page.wait(lambda: page.find(".box.node.bad"), "it is not drawn")
        assert page.accessibility() == []


def test_the_token_is_asked_for_once() -> None:
    with (
        served(answers.answer, Settings((), TOKEN)) as glass,
        browser(f"http://127.0.0.1:{glass.port}/") as page,
    ):
        page.open()
        page.wait(lambda: page.find("dialog[open]"), "no token is asked for")
        assert len(page.find("dialog")) == 1
        assert page.accessibility() == []
        page.keys("wrong-token", "\ue007")
        page.wait(lambda: "not the right one" in page.text("dialog"), "a wrong one is taken")
        page.keys(TOKEN, "\ue007")
        page.wait(lambda: page.find(".box.node"), "the right one is not taken")
        assert page.find("dialog") == []
        page.wait(lambda: page.text("#live") == "live", "no events", 40)
        assert TOKEN not in page.script("return document.documentElement.outerHTML")
        page.open("#/drops")
        page.wait(lambda: page.find("tbody tr"), "it is not kept for the tab")


def test_a_server_that_ends_and_comes_back() -> None:
    """The page stays, says so, and goes on by itself with what is new."""

    def named(node: str) -> Any:
        return lambda question: answers.answer(question, node)

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(contextlib.ExitStack())
        first.enter_context(served(named("first"), port=port))
        page = stack.enter_context(browser(f"http://127.0.0.1:{port}/"))
        page.open()
        page.wait(lambda: "first" in page.text("svg.fabric"), "no node")
        page.wait(lambda: page.text("#live") == "live", "no events")
        page.script("window.stayed = true")
        first.close()
        page.wait(lambda: page.text("#live") == "reconnecting", "the end is not noticed")
        stack.enter_context(served(named("second"), port=port))
        page.wait(lambda: page.text("#live") == "live", "it does not come back", 60)
        page.wait(lambda: "second" in page.text("svg.fabric"), "what is new is not shown")
        assert "first" not in page.text("svg.fabric")
        assert page.script("return window.stayed")
