// Packets that policies dropped, of those that are logged.

import { get } from "./api.js";
import { badge, failures, h, moment, problem, table } from "./dom.js";

const end = (each) => { const where = each.port ? `${each.address.includes(":") ? `[${each.address}]` : each.address}:${each.port}` : each.address; return each.name ? h("span", {}, each.name, h("small", { class: "dim mono" }, ` ${where}`)) : h("span", { class: "mono" }, where); };

export function dropsView(state) {
  let timer = 0, ended = false, text = "";
  const place = h("div", {}, h("p", { class: "hint" }, "Asking the nodes …"));
  const filter = h("input", { type: "search", placeholder: "Pod, address, policy or node", "aria-label": "Filter drops", maxlength: 200, spellcheck: "false", oninput: () => { text = filter.value.trim().toLowerCase(); draw(); } });
  let found = null;
  function draw() {
    if (!found) return;
    const rows = found.drops.filter((row) => !text || JSON.stringify(row).toLowerCase().includes(text)).reverse();
    place.replaceChildren(
      found.logging ? "" : h("p", { class: "notice note" }, "No policy logs what it denies. Give one the annotation ", h("code", {}, 'l3net.io/log-drops: "true"'), " and its drops appear here with names."),
      failures(found) || "",
      ...found.problems.map((each) => h("p", { class: "notice bad" }, `${each.node}: ${each.problem}`)),
      table("Dropped packets, the newest first", [
        ["Time", (row) => moment(row.time), "mono"], ["Node", (row) => row.node], ["Direction", (row) => row.direction || "–"],
        ["From", (row) => end(row.source)], ["To", (row) => end(row.destination)], ["Protocol", (row) => row.protocol], ["Because", (row) => badge(row.reason, "bad")],
      ], rows.slice(0, 300), { empty: text ? "Nothing matches." : "Nothing was dropped." }));
  }
  async function load() {
    try { found = await get("drops"); draw(); } catch (error) { place.replaceChildren(problem(error)); }
    if (!ended) timer = setTimeout(load, document.hidden ? 15000 : 3000 + 20 * state.names.length);
  }
  load();
  return {
    element: h("section", { class: "wide" }, h("h1", {}, "Drops"), h("p", { class: "hint" }, "Packets that network policies dropped on the way, with the rule that did it. Ten a second of each policy are logged, and a node keeps the last thousand. ", h("a", { href: "#/flows" }, "Connections as they begin"), " have a view of their own."), h("div", { class: "tools" }, filter), place),
    end: () => { ended = true; clearTimeout(timer); },
  };
}
