// Services: which node announces which address, how routers share, and the endpoints behind.

import { get } from "./api.js";
import { badge, failures, h, plural, problem, s, table } from "./dom.js";

const d3 = window.d3;
const percent = (share) => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
const MOST_DRAWN = 16;

export function servicesView(state, query) {
  const size = 25;
  let offset = 0, q = query.q || "", turn = 0, total = 0;
  const filter = h("input", { type: "search", value: q, placeholder: "Namespace, name or address", "aria-label": "Filter services", maxlength: 200, spellcheck: "false", oninput: () => { clearTimeout(filter.timer); filter.timer = setTimeout(() => { q = filter.value.trim(); load(0); }, 250); } });
  const count = h("span", { class: "count" }), back = h("button", { type: "button", onclick: () => load(offset - size) }, "Previous"), next = h("button", { type: "button", onclick: () => load(offset + size) }, "Next");
  const pages = h("span", { class: "pages" }, back, next);
  const place = h("div", { class: "cards", "aria-live": "polite" });
  const missing = h("div", {});
  async function load(to) {
    offset = Math.max(0, to);
    const mine = ++turn;
    try {
      const found = await get("services", { q, offset, limit: size });
      if (mine !== turn) return;
      total = found.total;
      missing.replaceChildren(failures(found) || "");
      place.replaceChildren(...(found.rows.length ? found.rows.map(card) : [h("p", { class: "hint" }, q ? "No service matches." : "No service is declared.")]));
      count.textContent = total ? `${offset + 1}–${offset + found.rows.length} of ${total.toLocaleString("en")}` : "none";
    } catch (error) { if (mine === turn) place.replaceChildren(problem(error)); }
    back.disabled = offset === 0;
    next.disabled = offset + size >= total;
    pages.hidden = total <= size;
  }
  load(0);
  return { element: h("section", { class: "wide" }, h("h1", {}, "Services"), h("div", { class: "tools" }, filter, count, pages), missing, place) };
}

function card(service) {
  const announcing = new Set(service.addresses.flatMap((each) => each.nodes.filter((node) => node.share).map((node) => node.node)));
  const ready = service.endpoints.filter((each) => each.state === "ready").length;
  const fine = announcing.size && ready;
  const details = h("details", {}, h("summary", {}, "As a table"),
    table(`Addresses of ${service.service}`, [
      ["Address", (row) => row.address, "mono"], ["Kind", (row) => row.kind], ["Node", (row) => row.node], ["Verdict", (row) => badge(row.verdict, row.verdict === "advertise" ? "ok" : "off")], ["Share", (row) => (row.share ? percent(row.share) : ""), "num"],
    ], service.addresses.flatMap((address) => address.nodes.map((node) => ({ address: address.address, kind: address.kind, ...node })))),
    table(`Endpoints of ${service.service}`, [["Endpoint", (row) => row.address, "mono"], ["Ports", (row) => row.ports.join(", "), "mono"], ["Node", (row) => row.node], ["State", (row) => badge(row.state, row.state === "ready" ? "ok" : "warn")]], service.endpoints));
  return h("article", { class: "card service" },
    h("div", { class: "card-head" }, h("h2", {}, service.service), h("span", { class: "dim" }, `${service.type} ${service.ports.join(", ")}${service.local.length ? `, ${service.local.join(" and ")} traffic to local endpoints` : ""}`)),
    h("p", {}, badge(announcing.size ? `announced by ${plural(announcing.size, "node")}` : "not announced", announcing.size ? "ok" : "off"), " ", badge(`${ready} of ${plural(service.endpointCount, "endpoint")} ready`, fine || ready ? "ok" : "bad"),
      service.connections === undefined ? "" : h("span", { class: "dim" }, ` ${plural(service.connections, "connection")} began`)),
    map(service), details);
}

/** Address, node, endpoint from left to right; a line is as wide as its share of the flows. */
function map(service) {
  const addresses = service.addresses.slice(0, MOST_DRAWN);
  if (!addresses.length) return h("p", { class: "hint" }, "No address.");
  const announcing = [...new Set(service.addresses.flatMap((each) => each.nodes.filter((node) => node.share).map((node) => node.node)))];
  const nodes = announcing.slice(0, MOST_DRAWN), more = announcing.length - nodes.length;
  const ends = service.endpoints.slice(0, MOST_DRAWN);
  const row = 30, rows = Math.max(addresses.length, nodes.length + (more > 0 ? 1 : 0), ends.length, 1), height = rows * row + 26, width = 760;
  const columns = [0, 290, 520], widths = [170, 110, 240];
  const y = (place, count) => 26 + ((place + 0.5) * (rows * row)) / count;
  const parts = [["Address", 0], ["Node", 1], ["Endpoint", 2]].map(([text, column]) => s("text", { class: "head", x: columns[column] + 4, y: 14 }, text));
  const link = d3.linkHorizontal();
  const at = (list, place) => y(place, Math.max(list.length, 1));
  addresses.forEach((address, place) => address.nodes.forEach((node) => {
    const to = nodes.indexOf(node.node);
    if (!node.share || to < 0) return;
    parts.push(s("path", { class: "flow", d: link({ source: [columns[0] + widths[0], at(addresses, place)], target: [columns[1], at(nodes, to)] }), "stroke-width": Math.max(1.2, node.share * 12) }, s("title", {}, `${address.address} to ${node.node}: ${percent(node.share)} of the flows`)));
  }));
  const internal = service.local.length > 0;
  nodes.forEach((node, place) => {
    const mine = ends.filter((each) => each.state === "ready" && (!internal || each.node === node));
    mine.forEach((each) => parts.push(s("path", { class: "flow end", d: link({ source: [columns[1] + widths[1], at(nodes, place)], target: [columns[2], at(ends, ends.indexOf(each))] }), "stroke-width": Math.max(1, 6 / Math.max(mine.length, 1) / Math.sqrt(nodes.length)) })));
  });
  const box = (column, at_, text, kind, note) => s("g", { class: `item ${kind}`, transform: `translate(${columns[column]} ${at_ - 12})` }, s("rect", { width: widths[column], height: 24, rx: 6 }), s("text", { x: 9, y: 16.5 }, fit(text, widths[column] - (note ? 52 : 16))), note && s("text", { class: "dim", x: widths[column] - 8, y: 16.5, "text-anchor": "end" }, note));
  addresses.forEach((address, place) => parts.push(box(0, at(addresses, place), address.address, address.announcing ? "ok" : "off")));
  nodes.forEach((node, place) => { const share = service.addresses.flatMap((each) => each.nodes).find((each) => each.node === node && each.share); parts.push(box(1, at(nodes, place), node, "ok", percent(share.share))); });
  ends.forEach((each, place) => parts.push(box(2, at(ends, place), each.address, each.state === "ready" ? "ok" : "bad", each.node)));
  if (more > 0) parts.push(s("text", { class: "dim", x: columns[1], y: height - 4 }, `and ${more} more nodes`));
  return h("div", { class: "scroll map", tabindex: "0", role: "region", "aria-label": `Map of ${service.service}: ${plural(addresses.length, "address", "addresses")}, ${plural(announcing.length, "node")}, ${plural(service.endpointCount, "endpoint")}` },
    s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" }, parts));
}

const fit = (text, width) => { const most = Math.floor(width / 7.2); return text.length > most ? `${text.slice(0, most - 1)}…` : text; };
