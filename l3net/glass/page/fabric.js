// The drawing of the fabric, and the table beside it.

import { h, s, badge, duration, plural, say, table, tone } from "./dom.js";
import { fabricModel, layout, summary } from "./model.js";

const d3 = window.d3;
const STATES = ["established", "down", "refused"];
const NODE_SIGNS = { ready: "●", "not ready": "▲", draining: "◐", unreachable: "✕" };

/** The view: `state` holds the nodes and tells of changes, `show` opens details beside the drawing. */
export class Fabric {
  constructor(state, panel) {
    this.state = state;
    this.panel = panel;
    this.chosen = null;
    this.scene = s("g", {});
    this.svg = s("svg", { class: "fabric", role: "group", "aria-label": "The fabric: routers above, nodes below, sessions between them. Arrow keys move, Enter shows details." }, this.scene);
    this.chips = h("div", { class: "chips", "aria-label": "Summary" });
    this.zoom = d3.zoom().scaleExtent([0.05, 8]).on("start", () => this.svg.classList.add("moving"))
      .on("zoom", ({ transform }) => this.moved(transform)).on("end", () => this.svg.classList.remove("moving"));
    const zoomBy = (factor) => d3.select(this.svg).call(this.zoom.scaleBy, factor);
    const tools = h("div", { class: "zoom", role: "group", "aria-label": "Zoom" },
      h("button", { type: "button", "aria-label": "Zoom in", onclick: () => zoomBy(1.5) }, "+"),
      h("button", { type: "button", "aria-label": "Zoom out", onclick: () => zoomBy(1 / 1.5) }, "−"),
      h("button", { type: "button", "aria-label": "Fit the whole fabric", onclick: () => this.fit() }, "⤢"));
    this.legend = h("ul", { class: "legend", "aria-label": "Legend" },
      [["established", "session established"], ["down", "down"], ["refused", "cannot be set up"]].map(([kind, text]) =>
        h("li", {}, s("svg", { width: 26, height: 8, "aria-hidden": "true" }, s("path", { class: `edge ${kind}`, d: "M1 4H25" })), text)),
      h("li", {}, h("span", { class: "bfd-sign", "aria-hidden": "true" }, "◇"), "BFD"),
      h("li", {}, h("span", { class: "mono", "aria-hidden": "true" }, "↓↑"), "prefixes in use, announced"));
    this.canvas = h("div", { class: "canvas" }, this.svg, tools, this.legend);
    this.element = h("section", { class: "fabric-view", "aria-label": "Fabric" }, h("h1", { class: "hidden" }, "Fabric"),
      h("div", { class: "drawing" }, this.chips, this.canvas), this.panel.element);
    this.svg.addEventListener("click", (event) => this.clicked(event));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    d3.select(this.svg).call(this.zoom).on("dblclick.zoom", null);
    this.observer = new ResizeObserver(() => { if (!this.touched) this.fit(); });
    this.observer.observe(this.canvas);
    this.draw();
    this.stop = state.on(() => this.draw());
  }

  /** The place has its size now. */
  resized() { this.shape = null; this.draw(); }

  end() { this.stop(); this.observer.disconnect(); }

  draw() {
    this.model = fabricModel([...this.state.nodes.values()]);
    this.drawChips();
    const shape = this.model.nodes.map((each) => each.node).join() + "|" + this.model.edges.map((each) => each.key).join();
    if (shape !== this.shape) {
      this.shape = shape;
      this.places = layout(this.model, this.canvas.clientWidth, this.canvas.clientHeight);
      this.svg.classList.toggle("large", !this.places.small);
      this.svg.classList.toggle("mid", this.places.mode === "mid");
      this.build();
      this.touched = false;
      this.fit();
    } else {
      this.refresh();
    }
    this.panel.update(this.model);
  }

  drawChips() {
    const sum = summary(this.model);
    const chip = (text, kind) => h("span", { class: `chip ${kind}` }, text);
    const chips = [
      chip(`${sum.ready} of ${plural(sum.nodes, "node")} ready`, sum.ready === sum.nodes ? "ok" : "bad"),
      chip(`${sum.up} of ${plural(sum.sessions, "session")} established`, sum.up === sum.sessions ? "ok" : "bad"),
    ];
    if (sum.mesh.all) chips.push(chip(`node-to-node mesh ${sum.mesh.up} of ${sum.mesh.all}`, sum.mesh.up === sum.mesh.all ? "ok" : "bad"));
    if (sum.bfd) chips.push(chip(sum.bfdDown ? `BFD: ${sum.bfdDown} of ${sum.bfd} not up` : `BFD up on ${sum.bfd}`, sum.bfdDown ? "bad" : "ok"));
    chips.push(chip(plural(sum.problems, "problem"), sum.problems ? "warn" : "ok"));
    const text = chips.map((each) => each.textContent).join();
    if (text !== this.told) { this.told = text; this.chips.replaceChildren(...chips); }
  }

  line(edge) {
    const from = this.places.routers.get(edge.router), to = this.places.nodes.get(edge.node);
    const y1 = from.y + from.h, y2 = to.y;
    if (!this.places.small) return `M${from.x.toFixed(1)} ${y1}L${to.x.toFixed(1)} ${y2}`;
    const middle = (y1 + y2) / 2;
    return `M${from.x} ${y1}C${from.x} ${middle} ${to.x} ${middle} ${to.x} ${y2}`;
  }

  build() {
    this.parts = new Map();
    const lines = s("g", { class: "lines" }), marks = s("g", { class: "marks" }), boxes = s("g", {});
    this.lines = lines;
    this.marks = marks;
    this.highlight = s("path", { class: "edge chosen", d: "" });
    for (const router of this.model.routers) boxes.append(this.box("router", router.key, this.places.routers.get(router.key)));
    for (const node of this.model.nodes) boxes.append(this.box("node", node.node, this.places.nodes.get(node.node)));
    this.scene.replaceChildren(...(this.places.small ? [this.highlight, lines] : [lines, this.highlight]), boxes, marks);
    const first = boxes.firstElementChild;
    if (first) first.setAttribute("tabindex", "0");
    this.refresh();
  }

  box(kind, key, place) {
    const small = this.places.small || kind === "router";
    const group = s("g", { class: `box ${kind}`, role: "button", tabindex: "-1", transform: `translate(${place.x - place.w / 2} ${place.y})`, "data-kind": kind, "data-key": key, "data-w": place.w },
      s("rect", { width: place.w, height: place.h, rx: small ? 10 : 4 }));
    if (small && place.h < 50) group.append(s("text", { class: "name", x: 9, y: 23 }), " ", s("text", { class: "sign", x: place.w - 8, y: 23, "text-anchor": "end", "aria-hidden": "true" }));
    else if (small) group.append(s("text", { class: "name", x: 14, y: 24 }), " ", s("text", { class: "more", x: 14, y: 43 }), " ", s("text", { class: "sign", x: place.w - 14, y: 24, "text-anchor": "end", "aria-hidden": "true" }));
    else group.append(s("text", { class: "tiny", x: place.w / 2, y: place.h + 5, "text-anchor": "middle" }));
    this.parts.set(`${kind} ${key}`, group);
    return group;
  }

  refresh() {
    for (const router of this.model.routers) {
      const group = this.parts.get(`router ${router.key}`);
      const all = router.sessions.length, kind = router.up === all ? "ok" : router.up ? "warn" : "bad";
      this.set(group, kind, `${router.label} AS ${router.asNumber ?? "?"} ${router.up}/${all}: router, ${router.up} of ${plural(all, "session")} established`);
      this.text(group, ".name", cut(router.label, fits(group.dataset.w, 8.4, 20 + 7 * `${router.up}/${all}`.length)));
      this.text(group, ".more", `AS ${router.asNumber ?? "?"}`);
      this.text(group, ".sign", `${router.up}/${all}`);
    }
    for (const node of this.model.nodes) {
      const group = this.parts.get(`node ${node.node}`);
      const kind = tone(node.state);
      const problems = node.problemCount ? `, ${plural(node.problemCount, "problem")}` : "";
      const more = node.state === "ready" ? `${plural(node.pods, "pod")}${problems || (node.blocks.length ? `, ${node.blocks[0]}` : "")}` : node.state + (node.why ? `: ${node.why}` : "");
      this.set(group, node.state === "ready" && node.problemCount ? "warn" : kind, `${node.node} ${more}: node, ${node.state}`);
      if (this.places.small) {
        this.text(group, ".name", shortened(node.node, this.places.mode === "mid" ? fits(group.dataset.w, 7.1, 32) : fits(group.dataset.w, 9, 34)));
        const most = fits(group.dataset.w, 6.6, 22);
        this.text(group, ".more", more.length > most && node.state === "ready" ? cut(`${plural(node.pods, "pod")}`, most) : cut(more, most));
        this.text(group, ".sign", node.state === "ready" && node.problemCount ? "▲" : NODE_SIGNS[node.state] || "○");
      } else this.text(group, ".tiny", node.node.length > 9 ? `…${node.node.slice(-8)}` : node.node);
    }
    this.drawEdges();
  }

  text(group, where, text) {
    const place = group.querySelector(where);
    if (place && place.textContent !== text) place.textContent = text;
  }

  set(group, kind, label) {
    const name = `box ${group.dataset.kind} ${kind}${this.chosen === `${group.dataset.kind} ${group.dataset.key}` ? " chosen" : ""}`;
    if (group.getAttribute("class") !== name) group.setAttribute("class", name);
    if (group.getAttribute("aria-label") !== label) group.setAttribute("aria-label", label);
  }

  drawEdges() {
    // Of a large fabric all edges of a state are one path: thousands of elements would make panning stutter.
    const few = this.model.edges.length <= 160 && this.places.small;
    if (!few) {
      this.lines.replaceChildren(...STATES.map((state) => s("path", { class: `edge ${state}`, d: this.model.edges.filter((each) => each.state === state).map((each) => this.line(each)).join("") })));
    } else {
      this.lines.replaceChildren(...this.model.edges.flatMap((edge) => [
        s("path", { class: `edge ${edge.state}`, d: this.line(edge) }),
        s("path", { class: "hit", d: this.line(edge), "data-edge": edge.key }, s("title", {}, `${edge.node} – ${edge.label}: ${edge.state}, ↓${edge.accepted} ↑${edge.announced}${edge.bfd ? `, BFD ${edge.bfd}` : ""}`)),
      ]));
    }
    const picked = this.model.edges.filter((each) => this.isChosen(each));
    // What a line carries stands on it: on all where there is room, else on those that are chosen or not well.
    const told = this.model.edges.length <= 16 && this.places.small ? this.model.edges
      : [...new Set([...picked.slice(0, 12), ...(few ? this.model.edges.filter((each) => each.state !== "established" || (each.bfd && each.bfd !== "Up")) : [])])].slice(0, 40);
    this.marks.replaceChildren(...told.map((edge) => this.mark(edge, told)));
    this.highlight.setAttribute("d", picked.map((each) => this.line(each)).join(""));
  }

  isChosen(edge) {
    return Boolean(this.chosen) && (this.chosen === `edge ${edge.key}` || this.chosen === `node ${edge.node}` || this.chosen === `router ${edge.router}`);
  }

  mark(edge, told) {
    const from = this.places.routers.get(edge.router), to = this.places.nodes.get(edge.node);
    const beside = told.filter((each) => each.node === edge.node), place = beside.indexOf(edge);
    const t = beside.length > 1 ? 0.5 + (0.3 * (place + 0.5)) / beside.length : 0.5;
    const y1 = from.y + from.h, y2 = to.y, middle = (y1 + y2) / 2, curved = this.places.small;
    const x = curved ? bezier(t, from.x, from.x, to.x, to.x) : from.x + (to.x - from.x) * t;
    const y = curved ? bezier(t, y1, middle, middle, y2) : y1 + (y2 - y1) * t;
    const text = edge.state === "established" ? `↓${short(edge.accepted)} ↑${short(edge.announced)}` : edge.state;
    const wide = text.length * 6.6 + 16 + (edge.bfd ? 16 : 0);
    return s("g", { class: `mark ${edge.state}`, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, "data-edge": edge.key },
      s("rect", { x: -wide / 2, y: -11, width: wide, height: 22, rx: 11 }),
      s("text", { x: edge.bfd ? -8 : 0, y: 4, "text-anchor": "middle" }, text),
      edge.bfd && s("text", { class: `bfd ${edge.bfd === "Up" ? "ok" : "bad"}`, x: wide / 2 - 13, y: 4.5, "text-anchor": "middle" }, s("title", {}, `BFD ${edge.bfd}`), edge.bfd === "Up" ? "◇" : "✕"));
  }

  moved(transform) {
    if (this.fitting !== true) this.touched = true;
    this.scene.setAttribute("transform", transform.toString());
    this.svg.classList.toggle("near", transform.k > 1.9);
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!this.places || !width || !height) return;
    const pad = 24, k = Math.min((width - pad * 2) / this.places.width, (height - pad * 2 - 30) / this.places.height, 1.4);
    const x = (width - this.places.width * k) / 2, y = Math.max(pad, (height - 30 - this.places.height * k) / 2 - 10 * k);
    this.fitting = true;
    d3.select(this.svg).call(this.zoom.transform, d3.zoomIdentity.translate(x, y).scale(k));
    this.fitting = false;
    this.touched = false;
  }

  clicked(event) {
    if (event.defaultPrevented) return;
    const target = event.target.closest("[data-kind],[data-edge]");
    if (target && target.dataset.kind) return this.choose(target.dataset.kind, target.dataset.key);
    if (target) return this.choose("edge", target.dataset.edge);
    const near = this.nearest(event);
    if (near) this.choose("edge", near.key);
  }

  nearest(event) {
    const [x, y] = d3.zoomTransform(this.svg).invert(d3.pointer(event, this.svg));
    const reach = 6 / d3.zoomTransform(this.svg).k;
    let best = null, least = reach;
    for (const edge of this.places.small ? [] : this.model.edges) {
      const a = this.places.routers.get(edge.router), b = this.places.nodes.get(edge.node);
      const away = distance(x, y, a.x, a.y + a.h, b.x, b.y);
      if (away < least) [best, least] = [edge, away];
    }
    return best;
  }

  choose(kind, key) {
    this.chosen = `${kind} ${key}`;
    this.panel.show(kind, key, this.model);
    this.refresh();
  }

  key(event) {
    const group = event.target.closest("[data-kind]");
    if (!group) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.choose(group.dataset.kind, group.dataset.key);
      this.panel.focus();
      return;
    }
    const to = this.next(group, event.key);
    if (!to) return;
    event.preventDefault();
    group.setAttribute("tabindex", "-1");
    to.setAttribute("tabindex", "0");
    to.focus();
  }

  /** The box that an arrow key leads to: the nearest one in that direction. */
  next(group, key) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    const boxes = [...this.parts.values()];
    if (key === "Home") return boxes[0];
    if (key === "End") return boxes[boxes.length - 1];
    if (!way) return null;
    const place = (each) => (each.dataset.kind === "node" ? this.places.nodes : this.places.routers).get(each.dataset.key);
    const here = place(group);
    let best = null, least = Infinity;
    for (const each of boxes) {
      const there = place(each), dx = there.x - here.x, dy = there.y - here.y;
      const along = dx * way[0] + dy * way[1], aside = Math.abs(dx * way[1] + dy * way[0]);
      if (along <= 1) continue;
      const cost = along + aside * 2.5;
      if (cost < least) [best, least] = [each, cost];
    }
    return best;
  }
}

const bezier = (t, a, b, c, d) => (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t ** 2 * c + t ** 3 * d;
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
/** The end of a name tells more than its beginning: node-017 of many. */
const shortened = (text, most) => (text.length > most ? `…${text.slice(1 - most)}` : text);
const fits = (width, letter, margin) => Math.max(4, Math.floor((width - margin) / letter));
const short = (count) => (count >= 10000 ? `${Math.round(count / 1000)}k` : String(count));

function distance(x, y, x1, y1, x2, y2) {
  const dx = x2 - x1, dy = y2 - y1, t = Math.max(0, Math.min(1, ((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - x1 - t * dx, y - y1 - t * dy);
}
