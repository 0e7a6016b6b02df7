// Everything that is known of an address, prefix or name, and `explain` for it.

import { get, ofNode } from "./api.js";
import { badge, failures, h, plural, problem, table } from "./dom.js";
import { KERNEL, ROUTE } from "./panel.js";

const ADDRESS = /^[0-9a-f:.]+(\/\d+)?$/i;

export function searchView(state, query) {
  const q = (query.q || "").trim();
  const input = h("input", { type: "search", name: "q", value: q, "aria-label": "Address, prefix or name", placeholder: "10.244.1.7, fd00:10:96::/112, default/web, tor1 …", maxlength: 200, spellcheck: "false", autocomplete: "off" });
  const place = h("div", { class: "results", "aria-live": "polite" });
  const form = h("form", { class: "bigfind", onsubmit: (event) => { event.preventDefault(); const to = input.value.trim(); if (to) location.hash = `#/search?${new URLSearchParams({ q: to })}`; } },
    input, h("button", { type: "submit" }, "Search"));
  const stopper = new AbortController();
  if (q) run(q, state, place, stopper.signal);
  else place.append(h("p", { class: "hint" }, "An address or a prefix is looked up by longest match on every node; any other text is looked for in the names of pods, services and peers."));
  return { element: h("section", { class: "narrow" }, h("h1", {}, "Search"), form, place), end: () => stopper.abort(), ready: () => { if (!q) input.focus(); } };
}

async function run(q, state, place, signal) {
  place.replaceChildren(h("p", { class: "hint" }, "Asking the nodes …"));
  let found;
  try {
    found = await get("search", { q }, signal);
  } catch (error) {
    if (error.name !== "AbortError") place.replaceChildren(problem(error));
    return;
  }
  const parts = [answer(q, found), explain(q, found, state)];
  parts.push(...sections(found));
  parts.push(failures(found));
  place.replaceChildren(...parts.filter(Boolean));
}

const rows = (found, kind) => found.found.flatMap((each) => each[kind].map((row) => ({ node: each.node, ...(typeof row === "string" ? { prefix: row } : row) })));

function answer(q, found) {
  const said = [];
  const list = (names) => { const all = [...new Set(names)]; return all.length > 6 ? `${all.slice(0, 5).join(", ")} and ${all.length - 5} more` : all.join(", "); };
  const pods = rows(found, "pods"), blocks = rows(found, "blocks"), announced = rows(found, "announced").filter((row) => row.verdict === "announced");
  const services = new Set(rows(found, "services").map((row) => row.service));
  const used = rows(found, "received").filter((row) => row.verdict === "accepted"), refused = rows(found, "received").filter((row) => row.verdict !== "accepted");
  if (pods.length) said.push(`${plural(pods.length, "pod")}: ${list(pods.map((row) => `${row.pod} on ${row.node}`))}.`);
  if (services.size) said.push(`${plural(services.size, "service")}: ${list(services)}.`);
  if (blocks.length) said.push(`In the block ${blocks[0].prefix} of ${list(blocks.map((row) => row.node))}.`);
  if (announced.length) said.push(`Announced as ${announced[0].prefix} by ${list(announced.map((row) => row.node))}.`);
  if (used.length) said.push(`Learned as ${used[0].prefix} and used by ${list(used.filter((row) => row.prefix === used[0].prefix).map((row) => row.node))}.`);
  if (!used.length && refused.length) said.push(`Learned as ${refused[0].prefix}, and rejected by ${list(refused.map((row) => row.node))}: ${list(refused.map((row) => row.verdict))}.`);
  const peers = rows(found, "peers");
  if (peers.length) said.push(`${plural(peers.length, "session")} with a peer of that name or address.`);
  return h("div", { class: "answer" }, h("h2", {}, q), said.length ? said.map((each) => h("p", {}, each)) : h("p", {}, `No node knows anything of it (${found.asked} asked).`));
}

function explain(q, found, state) {
  const service = rows(found, "services")[0], pod = rows(found, "pods")[0];
  const lowered = q.toLowerCase();
  const subject = ADDRESS.test(q) ? `address ${q.split("/")[0]}` : q.includes(" ") ? q
    : service && service.service.toLowerCase() === lowered ? `service ${service.service}` : pod && pod.pod.toLowerCase() === lowered ? `pod ${pod.pod}` : null;
  if (!subject) return null;
  const names = state.names.length ? state.names : found.found.map((each) => each.node);
  if (!names.length) return null;
  const first = (pod && pod.node) || (found.found[0] && found.found[0].node) || names[0];
  const out = h("div", { "aria-live": "polite" });
  const ask = async (node) => {
    out.replaceChildren(h("p", { class: "hint" }, `Asking ${node} …`));
    try { out.replaceChildren(explanation(await ofNode(node, "explain", { subject }))); } catch (error) { out.replaceChildren(problem(error)); }
  };
  const choice = names.length > 1 ? h("label", { class: "choice" }, "as seen from ", h("select", { onchange: (event) => ask(event.target.value) }, names.map((each) => h("option", { value: each, selected: each === first }, each)))) : null;
  ask(first);
  return h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, "Explain ", h("code", {}, subject)), choice), out);
}

export function explanation(found) {
  return h("div", { class: `explain ${found.healthy ? "ok" : "bad"}` },
    h("p", { class: "first" }, badge(found.healthy ? "healthy" : "not healthy", found.healthy ? "ok" : "bad"), ` ${found.answer}`),
    h("ol", { class: "steps" }, found.steps.map((step) => h("li", { class: step.verdict },
      badge({ ok: "ok", bad: "broken", note: "note" }[step.verdict] || step.verdict, step.verdict), " ", h("strong", {}, step.what), step.where ? h("span", { class: "dim" }, ` at ${step.where}`) : null,
      step.detail ? h("div", { class: "dim" }, typeof step.detail === "string" ? step.detail : JSON.stringify(step.detail)) : null,
      step.since ? h("div", { class: "dim" }, `since ${typeof step.since === "number" ? new Date(step.since * 1000).toLocaleString("en-GB") : step.since}`) : null))),
    found.advice ? h("p", { class: "advice" }, found.advice) : null);
}

function sections(found) {
  const node = ["Node", (row) => h("a", { href: `#/fabric?node=${encodeURIComponent(row.node)}` }, row.node)];
  const part = (title, columns, all, most = 200) => all.length ? h("section", { class: "card" }, h("h2", {}, title, h("span", { class: "count" }, ` ${all.length}`)), table(title, columns, all.slice(0, most))) : null;
  const received = rows(found, "received"), announced = rows(found, "announced");
  const services = new Map(rows(found, "services").map((row) => [row.service, row]));
  return [
    part("Pods", [["Pod", (row) => row.pod], node, ["Addresses", (row) => row.addresses.join(", "), "mono"], ["Policies", (row) => row.policies, "num"]], rows(found, "pods")),
    part("Services", [["Service", (row) => h("a", { href: `#/services?q=${encodeURIComponent(row.service)}` }, row.service)], ["Type", (row) => row.type], ["Addresses", (row) => row.addresses.map((each) => each.address).join(", "), "mono"], ["Ports", (row) => row.ports.join(", "), "mono"], ["Endpoints", (row) => row.endpointCount, "num"]], [...services.values()]),
    part("Peers", [["Peer", (row) => row.name], node, ["Address", (row) => row.address, "mono"], ["State", (row) => badge(row.state)]], rows(found, "peers")),
    part("In the kernel, longest match first", [node, ...KERNEL], rows(found, "kernel")),
    part("Learned, longest match first", [node, ROUTE[0], ["Verdict", (row) => badge(row.verdict, row.verdict === "accepted" ? "ok" : "bad")], ["Peer", (row) => row.name], ...ROUTE.slice(1, 4)], received),
    part("Announced, longest match first", [node, ["Prefix", (row) => row.prefix, "mono"], ["Kind", (row) => row.kind], ["Peer", (row) => h("span", { title: row.peer }, row.name)], ["Verdict", (row) => badge(row.verdict)]], announced.sort((a, b) => (b.verdict === "announced") - (a.verdict === "announced"))),
  ].filter(Boolean);
}
