// Floating and egress addresses: whose each is, and which node has it.

import { get } from "./api.js";
import { duration, failures, h, paged } from "./dom.js";

const KINDS = { floatingIP: "floating", egressIP: "egress" };

export function addressesView(state, query) {
  const missing = h("div", {});
  const load = async (offset, q, limit) => {
    const found = await get("addresses", { q, offset, limit });
    missing.replaceChildren(failures(found) || "");
    return found;
  };
  const list = paged("Floating and egress addresses", [
    ["Address", (row) => h("a", { href: `#/search?${new URLSearchParams({ q: row.address })}` }, row.address), "mono"], ["Kind", (row) => KINDS[row.kind]], ["By", (row) => row.by],
    ["Pod", (row) => row.pod], ["Node", (row) => row.node], ["Connections", (row) => (row.kind === "egressIP" ? row.connections.toLocaleString("en") : ""), "num"], ["For", (row) => duration(row.sinceSeconds), "num"],
  ], load, { filter: "Address or name", empty: "No node has one.", kept: { q: query.q || "" } });
  return { element: h("section", { class: "wide" }, h("h1", {}, "Addresses"), missing, list) };
}
