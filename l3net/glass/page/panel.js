// Details beside the drawing: all sessions, a node, a router, or what goes over one edge.

import { ofNode } from "./api.js";
import { shortName } from "./model.js";
import { badge, duration, h, paged, plural, say, table, tabs } from "./dom.js";

const since = (session) => (session.state === "refused" ? "" : duration(session.sinceSeconds + (Date.now() - session.heard) / 1000));
const refused = (session) => Object.values(session.refused).reduce((a, b) => a + b, 0);

export const ROUTE = [
  ["Prefix", (row) => row.prefix, "mono"],
  ["Next hop", (row) => row.nextHop, "mono"],
  ["AS path", (row) => row.asPath.join(" "), "mono"],
  ["Communities", (row) => row.communities.join(" "), "mono", true],
  ["Pref", (row) => row.localPreference ?? "", "num", true],
  ["MED", (row) => row.med ?? "", "num", true],
];
const WHY = ["Why not", (row) => badge(row.verdict + (row.stale ? " (stale)" : ""), "bad")];
const OUT = [
  ["Prefix", (row) => row.prefix, "mono"],
  ["Kind", (row) => row.kind],
  ["Service", (row) => row.service, null, true],
  ["Communities", (row) => row.communities.join(" "), "mono", true],
  ["Verdict", (row) => badge(row.verdict)],
];
export const KERNEL = [
  ["Prefix", (row) => row.prefix, "mono"],
  ["Kind", (row) => row.kind],
  ["Next hops", (row) => row.nextHops.join(", "), "mono"],
  ["In the kernel", (row) => badge(row.inKernel ? "yes" : "no")],
];

export class Panel {
  constructor() {
    this.title = h("h2", { tabindex: "-1" });
    this.back = h("button", { type: "button", class: "back", onclick: () => { this.show("all", "", this.model); this.focus(); } }, "All sessions");
    this.body = h("div", { class: "panel-body" });
    this.element = h("section", { class: "panel", "aria-label": "Details" }, h("div", { class: "panel-head" }, this.title, this.back), this.body);
    this.kind = "all";
    this.key = "";
    this.kept = {};
  }

  focus() {
    this.title.focus({ preventScroll: true });
    if (window.matchMedia("(max-width: 900px)").matches) this.element.scrollIntoView({ block: "start" });
  }

  /** What has changed of the fabric; details that were asked for are not fetched anew. */
  update(model) {
    this.model = model;
    if (this.kind === "all") { if (!this.body.contains(document.activeElement)) this.all(); }
    else if (this.kind === "node" && this.facts) this.facts.replaceWith((this.facts = this.factsOf(model.nodes.find((each) => each.node === this.key))));
    else if (this.kind === "edge" && this.lines) this.lines.replaceWith((this.lines = this.sessionsOf(model.edges.find((each) => each.key === this.key))));
  }

  show(kind, key, model) {
    this.model = model;
    this.kind = kind;
    this.key = key;
    this.facts = this.lines = null;
    this.back.hidden = kind === "all";
    if (kind === "node") this.node();
    else if (kind === "router") this.router();
    else if (kind === "edge") this.edge();
    else this.all();
    if (kind !== "all") say(`${this.title.textContent}: details are shown`);
  }

  all() {
    this.title.textContent = "Sessions";
    this.back.hidden = true;
    const rows = this.model.routers.flatMap((router) => router.edges.flatMap((edge) => edge.sessions.map((session) => ({ ...session, edge, via: router }))));
    rows.sort((a, b) => (a.state === "established") - (b.state === "established") || a.edge.node.localeCompare(b.edge.node, "en", { numeric: true }));
    const columns = [
      ["Node", (row) => h("button", { type: "button", class: "link", onclick: () => this.open("node", row.edge.node) }, row.edge.node)],
      ["Peer", (row) => h("button", { type: "button", class: "link", title: row.name, onclick: () => this.open("edge", row.edge.key) }, row.via.label, h("small", {}, ` ${row.address}`))],
      ["State", (row) => badge(row.state, undefined, row.reason)],
      ["BFD", (row) => (row.bfd ? badge(row.bfd) : ""), null, true],
      ["In use", (row) => row.accepted, "num"],
      ["Out", (row) => row.announced, "num"],
      ["Since", since, "num"],
    ];
    const load = async (offset, q, size) => {
      const lowered = q.toLowerCase();
      const found = rows.filter((row) => !lowered || `${row.edge.node} ${row.via.label} ${row.name} ${row.address} ${row.state} ${row.reason}`.toLowerCase().includes(lowered));
      return { total: found.length, rows: found.slice(offset, offset + size) };
    };
    this.body.replaceChildren(
      h("p", { class: "hint" }, "Choose a node, a router or a line of the drawing to see its routes."),
      paged("Sessions", columns, load, { size: 50, kept: this.kept, filter: "Filter: node, peer, state …", empty: "No sessions with routers." }));
  }

  open(kind, key) {
    if (this.onopen) this.onopen(kind, key); else this.show(kind, key, this.model);
    this.focus();
  }

  factsOf(node) {
    if (!node) return h("div", {}, h("p", { class: "notice bad" }, "This node is gone."));
    const sessions = table(`Sessions of ${node.node}`, [
      ["Peer", (row) => h("button", { type: "button", class: "link", title: row.name, onclick: () => this.open("edge", this.edgeOf(node.node, row).key) }, this.edgeOf(node.node, row).label, h("small", {}, ` ${row.address}`))],
      ["State", (row) => badge(row.state, undefined, row.reason)],
      ["BFD", (row) => (row.bfd ? badge(row.bfd) : ""), null, true],
      ["In use", (row) => row.accepted, "num"],
      ["Rejected", refused, "num"],
      ["Out", (row) => row.announced, "num"],
      ["Since", since, "num"],
    ], [...node.peers, ...[]], { empty: "No sessions with routers." });
    return h("div", {},
      h("p", {}, badge(node.state), node.why && ` ${node.why}`, node.version && h("span", { class: "dim" }, ` l3net ${node.version}`)),
      h("dl", { class: "facts" },
        h("dt", {}, "Blocks"), h("dd", { class: "mono" }, node.blocks.join(", ") || "none"),
        h("dt", {}, "Pods"), h("dd", {}, node.pods),
        h("dt", {}, "Service addresses announced"), h("dd", {}, node.announced),
        node.mesh.sessions ? [h("dt", {}, "Node-to-node mesh"), h("dd", {}, `${node.mesh.established} of ${node.mesh.sessions} established`, node.mesh.down.map((each) => h("div", {}, badge(each.state), ` ${each.name} ${each.reason}`)))] : null),
      node.problems.length ? h("div", { class: "notice warn" }, h("strong", {}, plural(node.problemCount, "problem")), h("ul", {}, node.problems.map((each) => h("li", {}, each)))) : null,
      sessions);
  }

  edgeOf(node, session) {
    return this.model.edges.find((edge) => edge.node === node && edge.sessions.some((each) => each.address === session.address && each.name === session.name));
  }

  node() {
    const name = this.key;
    this.title.textContent = `Node ${name}`;
    this.facts = this.factsOf(this.model.nodes.find((each) => each.node === name));
    this.body.replaceChildren(this.facts, tabs(`Tables of ${name}`, [
      ["Routes in", () => this.routes(name, "", "used")],
      ["Rejected", () => this.routes(name, "", "unused")],
      ["Out", () => this.exports(name, "")],
      ["Kernel", () => paged(`Routes of l3net in the kernel of ${name}`, KERNEL, (offset, q, limit) => ofNode(name, "kernel", { offset, q, limit }))],
      ["Pods", () => paged(`Pods of ${name}`, [["Pod", (row) => row.pod], ["Addresses", (row) => row.addresses.join(", "), "mono"], ["Policies", (row) => row.policies, "num"]], (offset, q, limit) => ofNode(name, "pods", { offset, q, limit }), { filter: "Filter: name or address" })],
    ]));
  }

  routes(node, peer, verdict) {
    const from = peer ? [] : [["Peer", (row) => h("span", { title: row.peer }, shortName(row.name, node))]];
    const columns = verdict === "used" ? [...ROUTE.slice(0, 1), ...from, ...ROUTE.slice(1)] : [ROUTE[0], WHY, ...from, ...ROUTE.slice(1, 4)];
    const title = verdict === "used" ? "Routes that are used" : "Routes that are rejected";
    return paged(`${title}, ${node}${peer ? ` from ${peer}` : ""}`, columns, (offset, q, limit) => ofNode(node, "routes", { peer, verdict, offset, q, limit }), { empty: verdict === "used" ? "No route of these is used." : "None is rejected." });
  }

  exports(node, peer) {
    const to = peer ? [] : [["Peer", (row) => h("span", { title: row.peer }, shortName(row.name, node))]];
    return paged(`Announcements of ${node}${peer ? ` to ${peer}` : ""}`, [OUT[0], ...to, ...OUT.slice(1)], (offset, q, limit) => ofNode(node, "exports", { peer, offset, q, limit }), { empty: "Nothing is to be announced." });
  }

  router() {
    const router = this.model.routers.find((each) => each.key === this.key);
    this.title.textContent = `Router ${router.label}`;
    this.body.replaceChildren(
      h("dl", { class: "facts" },
        h("dt", {}, "AS"), h("dd", {}, router.asNumber ?? "unknown"),
        h("dt", {}, "Router ID"), h("dd", { class: "mono" }, router.id || "not known while no session is established"),
        h("dt", {}, "Sessions"), h("dd", {}, `${router.up} of ${router.sessions.length} established`)),
      table(`Sessions of ${router.label}`, [
        ["Node", (row) => h("button", { type: "button", class: "link", onclick: () => this.open("edge", row.edge.key) }, row.edge.node)],
        ["Address", (row) => row.address, "mono"],
        ["State", (row) => badge(row.state, undefined, row.reason)],
        ["In use", (row) => row.accepted, "num"],
        ["Out", (row) => row.announced, "num"],
        ["Since", since, "num"],
      ], router.edges.flatMap((edge) => edge.sessions.map((session) => ({ ...session, edge }))).slice(0, 500)));
  }

  sessionsOf(edge) {
    if (!edge) return h("div", {}, h("p", { class: "notice bad" }, "These sessions are gone."));
    return h("div", { class: "sessions" }, edge.sessions.map((session) => h("div", { class: `session ${session.state}` },
      h("p", {}, badge(session.state), " ", h("span", { class: "mono" }, session.address), h("span", { class: "dim" }, ` ${session.type}, AS ${session.asNumber ?? "any"}, `), since(session) && `for ${since(session)}`),
      session.reason && h("p", { class: "dim" }, session.reason),
      h("p", { class: "dim" }, `${session.name}: ${session.received} received, ${session.accepted} used, ${refused(session)} rejected, ${session.announced} announced`, session.bfd && `, BFD ${session.bfd}`, session.flaps ? `, ${plural(session.flaps, "flap")}` : ""))));
  }

  edge() {
    const edge = this.model.edges.find((each) => each.key === this.key);
    if (!edge) return;
    this.title.textContent = `${edge.node} – ${edge.label}`;
    this.lines = this.sessionsOf(edge);
    const place = h("div", {});
    let chosen = edge.sessions[0].address;
    const fill = () => place.replaceChildren(tabs(`Routes between ${edge.node} and ${chosen}`, [
      ["Routes in", () => this.routes(edge.node, chosen, "used")],
      ["Rejected", () => this.routes(edge.node, chosen, "unused")],
      ["Out", () => this.exports(edge.node, chosen)],
    ]));
    const choice = edge.sessions.length > 1 ? h("label", { class: "choice" }, "Session ",
      h("select", { onchange: (event) => { chosen = event.target.value; fill(); } }, edge.sessions.map((each) => h("option", { value: each.address }, each.address)))) : null;
    fill();
    this.body.replaceChildren(this.lines, choice || "", place);
  }
}
