// Network policies: who reaches whom in a namespace, and the policies in force.

import { ofNode } from "./api.js";
import { badge, h, paged, problem, table } from "./dom.js";

export function policyView(state, query) {
  const nodes = state.names.length ? state.names : ["self"];
  const node = h("select", { "aria-label": "Node whose agent is asked" }, nodes.map((each) => h("option", { value: each, selected: each === query.node }, each)));
  const namespace = h("input", { name: "namespace", list: "namespaces", value: query.namespace || "default", required: true, maxlength: 63, spellcheck: "false" });
  const port = h("input", { name: "port", value: query.port || "80/tcp", maxlength: 20, size: 10, spellcheck: "false" });
  const names = h("datalist", { id: "namespaces" });
  const place = h("div", { "aria-live": "polite" });
  const list = h("div", {});
  async function run() {
    place.replaceChildren(h("p", { class: "hint" }, "Judging …"));
    try { place.replaceChildren(matrix(await ofNode(node.value, "matrix", { namespace: namespace.value.trim(), port: port.value.trim() }))); } catch (error) { place.replaceChildren(problem(error)); }
  }
  function policies() {
    list.replaceChildren(paged("Policies in force", [
      ["Name", (row) => (row.namespace ? `${row.namespace}/${row.name}` : row.name)],
      ["Kind", (row) => (row.derived ? "tenant" : row.kind)], ["Tier", (row) => row.tier], ["Priority", (row) => row.priority ?? "", "num"],
      ["For", (row) => row.subject], ["Pods here", (row) => row.pods.length, "num"], ["Ingress", (row) => row.ingress ?? "–", "num"], ["Egress", (row) => row.egress ?? "–", "num"],
    ], (offset, q, limit) => ofNode(node.value, "policies", { offset, limit }), { filter: false, empty: "No policy is declared: any pod reaches any." }));
  }
  async function suggest() {
    const found = await Promise.allSettled(nodes.slice(0, 8).map((each) => ofNode(each, "pods", { limit: 500 })));
    const all = new Set(found.flatMap((each) => (each.status === "fulfilled" ? each.value.rows.map((row) => row.pod.split("/")[0]) : [])));
    names.replaceChildren(...[...all].sort().map((each) => h("option", { value: each })));
  }
  node.addEventListener("change", () => { run(); policies(); });
  const form = h("form", { class: "tools", onsubmit: (event) => { event.preventDefault(); run(); } },
    h("label", {}, "Namespace ", namespace), names, h("label", {}, "Port ", port), h("label", {}, "asked of ", node), h("button", { type: "submit" }, "Show"));
  run();
  policies();
  suggest();
  return { element: h("section", { class: "wide" }, h("h1", {}, "Policy"), form, h("section", { class: "card" }, place), h("section", { class: "card" }, h("h2", {}, "Policies in force"), list)) };
}

const SIGNS = { yes: "✓", no: "✕", some: "◐" };

function cell(found) {
  const families = Object.entries(found), told = new Set(Object.values(found));
  if (!families.length) return h("span", { class: "dim" }, "–");
  const one = (word, text) => h("span", { class: `verdict ${word}` }, h("span", { "aria-hidden": "true" }, SIGNS[word]), ` ${text}`);
  return told.size === 1 ? one([...told][0], [...told][0]) : families.map(([family, word]) => h("div", {}, one(word, `${family} ${word}`)));
}

function matrix(found) {
  const columns = [["From", (row) => h("span", {}, row.from, row.pods > 1 ? h("small", { class: "dim" }, ` ${row.pods} pods`) : null)],
    ...found.columns.map((column, place) => [h("span", { title: column.pods.join(", ") }, `to ${column.name}`), (row) => cell(row.to[place]), "matrix"])];
  return h("div", {}, h("h2", {}, `Who reaches the pods of ${found.namespace} on ${found.port}`),
    found.refused ? h("p", { class: "notice bad" }, `Policies are not in force as declared: ${found.refused}`) : null,
    table(`Who reaches the pods of ${found.namespace} on ${found.port}`, columns, found.rows, { fit: true }),
    found.notes.map((each) => h("p", { class: "hint" }, each)));
}
