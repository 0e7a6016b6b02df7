// Connections as they begin: nodes follow them while this view is seen, and no longer.

import { get, listen } from "./api.js";
import { badge, clock, failures, h, plural, problem, table } from "./dom.js";

const KEPT = 500, SHOWN = 100;
const port = (row) => (row.port ? `${row.port}/${row.protocol}` : row.protocol);
const to = (row) => h("span", {}, row.destination, row.toPort && row.toPort !== row.port ? h("small", { class: "dim mono" }, ` port ${row.toPort}`) : "");
const service = (row) => (row.service.includes("/") ? h("a", { href: "#/services" }, row.service) : row.service);

export function flowsView() {
  const stopper = new AbortController(), rows = new Map();
  let found = null, text = "", halted = false;
  const state = h("p", { class: "hint" }, "Asking the nodes …");
  const place = h("div", {});
  const filter = h("input", { type: "search", placeholder: "Pod, service, address, policy or node", "aria-label": "Filter connections", maxlength: 200, spellcheck: "false", oninput: () => { text = filter.value.trim().toLowerCase(); draw(); } });
  const halt = h("button", { type: "button", "aria-pressed": "false", onclick: () => { halted = !halted; halt.setAttribute("aria-pressed", String(halted)); halt.textContent = halted ? "Go on" : "Hold still"; draw(true); } }, "Hold still");
  const matches = (row) => !text || JSON.stringify(row).toLowerCase().includes(text);
  function take(answer) {
    found = answer;
    for (const row of answer.flows) rows.set(`${row.node} ${row.serial} ${row.time}`, row);
    for (const key of [...rows.keys()].slice(0, Math.max(0, rows.size - KEPT))) rows.delete(key);
    draw();
  }
  function draw(always = false) {
    // Who reads within a table by keyboard must not lose the place.
    if (!found || ((halted || place.contains(document.activeElement)) && !always)) return;
    const last = [...rows.values()].filter(matches).sort((one, other) => other.time - one.time).slice(0, SHOWN);
    const kinds = found.kinds.filter(matches);
    const began = found.kinds.reduce((sum, row) => sum + row.connections, 0) + found.more;
    state.textContent = `${plural(began, "connection")} began since somebody has looked.`;
    place.replaceChildren(
      failures(found) || "",
      ...found.problems.map((each) => h("p", { class: "notice bad" }, `${each.node}: ${each.problem}`)),
      found.lost ? h("p", { class: "notice warn" }, "More connections began than could be read: some are not counted.") : "",
      h("h2", {}, "Who speaks to whom"),
      table("Connections by who speaks to whom, the most frequent first", [
        ["From", (row) => row.source], ["To", to], ["Service", service, "", true], ["Port", port, "mono"], ["Node", (row) => row.node], ["Connections", (row) => row.connections.toLocaleString("en"), "num"],
      ], kinds.slice(0, SHOWN), { empty: text ? "Nothing matches." : "No connection has begun." }),
      h("h2", {}, "As they begin"),
      table("Connections as they begin, the newest first", [
        ["Time", (row) => clock(row.time), "mono"], ["From", (row) => row.source], ["To", to], ["Service", service, "", true], ["Port", port, "mono"], ["Node", (row) => row.node],
        ["Policies", (row) => row.policies.join(", "), "", true], ["", (row) => (row.masqueraded ? badge("masqueraded", "note") : ""), "", true],
      ], last, { empty: text ? "Nothing matches." : "No connection has begun." }));
  }
  const older = (error) => { if (!stopper.signal.aborted) place.replaceChildren(problem(error)); };
  get("flows", {}, stopper.signal).then(take).catch(older);
  listen((name, value) => { if (name === "flows") take(value); }, () => {}, () => {}, "?flows=true", stopper.signal);
  return {
    element: h("section", { class: "wide" }, h("h1", {}, "Flows"), h("p", { class: "hint" }, "Connections as they begin on the nodes, by names of pods and services, with the policies that are for either end on its node. Nodes follow them only while somebody looks here, and tell a few hundred a second one by one; all are counted."), h("div", { class: "tools" }, filter, halt), state, place),
    end: () => stopper.abort(),
  };
}
