// The page: views by the fragment of its address, and what is known of the fabric, kept up to date by events.

import { get, listen } from "./api.js";
import { h, problem, say } from "./dom.js";
import { byName } from "./model.js";
import { Fabric } from "./fabric.js";
import { Panel } from "./panel.js";
import { searchView } from "./search.js";
import { timelineView } from "./timeline.js";
import { addressesView } from "./addresses.js";
import { servicesView } from "./services.js";
import { policyView } from "./policy.js";
import { dropsView } from "./drops.js";
import { flowsView } from "./flows.js";

/** What the nodes say, and who wants to know of changes. */
class State {
  constructor() { this.nodes = new Map(); this.listeners = new Set(); this.entries = new Set(); this.loaded = false; }
  on(listener) { this.listeners.add(listener); return () => this.listeners.delete(listener); }
  onEntries(listener) { this.entries.add(listener); return () => this.entries.delete(listener); }
  get names() { return [...this.nodes.keys()].sort(byName); }
  take(nodes, gone = null) {
    if (gone === null) this.nodes = new Map();
    for (const name of gone || []) this.nodes.delete(name);
    for (const node of nodes) {
      for (const session of [...node.peers, ...node.mesh.down]) session.heard = Date.now();
      this.nodes.set(node.node, node);
    }
    this.loaded = true;
    this.listeners.forEach((each) => each());
  }
}

const state = new State();
const main = document.getElementById("main");
const VIEWS = [["fabric", "Fabric"], ["search", "Search"], ["timeline", "Timeline"], ["services", "Services"], ["addresses", "Addresses"], ["policy", "Policy"], ["flows", "Flows"], ["drops", "Drops"]];
const nav = document.getElementById("nav");
const links = new Map(VIEWS.map(([key, title]) => [key, h("a", { href: `#/${key}` }, title)]));
nav.append(...links.values());
let view = null;

function place() {
  const [, key = "fabric", rest = ""] = /^#\/([a-z]+)\??(.*)$/.exec(location.hash) || [];
  return [VIEWS.some(([each]) => each === key) ? key : "fabric", Object.fromEntries(new URLSearchParams(rest))];
}

function route(first = false) {
  const [key, query] = place();
  if (view && view.end) view.end();
  for (const [each, link] of links) each === key ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  const title = VIEWS.find(([each]) => each === key)[1];
  document.title = `${title} – l3net looking glass`;
  document.body.dataset.view = key;
  if (!state.loaded) view = { element: h("div", {}, h("h1", { class: "hidden" }, title), h("p", { class: "notice" }, "Asking the nodes …")) };
  else if (key === "fabric") view = fabricView(query);
  else view = { search: searchView, timeline: timelineView, services: servicesView, addresses: addressesView, policy: policyView, flows: flowsView, drops: dropsView }[key](state, query);
  main.replaceChildren(view.element);
  if (view.ready) view.ready();
  if (!first) { main.focus({ preventScroll: true }); window.scrollTo(0, 0); say(title); }
}

function fabricView(query) {
  const panel = new Panel();
  const fabric = new Fabric(state, panel);
  panel.onopen = (kind, key) => fabric.choose(kind, key);
  const [kind, key] = query.node ? ["node", query.node] : ["all", ""];
  if (kind === "node" && state.nodes.has(key)) fabric.choose("node", key); else panel.show("all", "", fabric.model);
  return { element: fabric.element, end: () => fabric.end(), ready: () => fabric.resized() };
}

document.getElementById("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const q = document.getElementById("q").value.trim();
  if (q) { const to = `#/search?${new URLSearchParams({ q })}`; location.hash === to ? route() : (location.hash = to); }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    document.getElementById("q").focus();
  }
});
window.addEventListener("hashchange", () => route());

const live = document.getElementById("live");
function status(text) { live.textContent = text; live.className = `live ${text}`; }

async function refresh() {
  const found = await get("fabric");
  const first = !state.loaded;
  state.take(found.nodes);
  if (first) route(true);
}

function told(name, value) {
  if (name === "fabric") {
    const first = !state.loaded;
    state.take(value.nodes, value.gone);
    if (first) route(true);
  } else if (name === "history") state.entries.forEach((each) => each(value.entries));
  else if (name === "again" || (name === "hello" && state.loaded)) refresh().catch(() => {});
}

route(true);
refresh().then(() => get("")).then((about) => {
  document.getElementById("about").textContent = `l3net ${about.version}${about.cluster ? `, ${about.nodes} nodes` : ""}`;
}).catch((error) => { status("offline"); if (!state.loaded) main.replaceChildren(problem(error)); });
// What lasts grows older though nothing happens.
setInterval(() => { if (!document.hidden && state.loaded) state.listeners.forEach((each) => each()); }, 20000);
listen(told, status, () => refresh().catch(() => {}));
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
