// Elements out of values: text is always text, never markup.

const SVG = "http://www.w3.org/2000/svg";

function made(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

/** An HTML element. */
export const h = (tag, attributes, ...children) => made(document.createElement(tag), attributes, children);
/** An SVG element. */
export const s = (tag, attributes, ...children) => made(document.createElementNS(SVG, tag), attributes, children);

/** Says something to those who listen rather than look. */
export function say(text) {
  const place = document.getElementById("say");
  place.textContent = "";
  requestAnimationFrame(() => { place.textContent = text; });
}

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/** Seconds as people say them: the two largest units. */
export function duration(seconds) {
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  let rest = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [name, size] of units) {
    if (rest >= size || (name === "s" && !parts.length)) { parts.push(`${Math.floor(rest / size)}${name}`); rest %= size; }
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

export const clock = (at) => new Date(at * 1000).toLocaleTimeString("en-GB", { hour12: false });
export const moment = (at) => { const d = new Date(at * 1000); return `${d.toLocaleDateString("en-CA")} ${clock(at)}`; };

const GLYPHS = { ok: "●", bad: "✕", warn: "▲", note: "◐", off: "○" };
const TONES = {
  ready: "ok", established: "ok", accepted: "ok", announced: "ok", advertise: "ok", Up: "ok", yes: "ok", ok: "ok",
  "not ready": "warn", draining: "note", unreachable: "bad", down: "bad", Down: "bad", refused: "bad", no: "bad", bad: "bad",
  some: "warn", note: "note",
};
export const tone = (word) => TONES[word] || "off";
/** A state as a word with a sign: never by colour alone. */
export function badge(word, kind = tone(word), title = null) {
  return h("span", { class: `badge ${kind}${word.length > 30 ? " long" : ""}`, title }, h("span", { "aria-hidden": "true" }, GLYPHS[kind] || GLYPHS.off), ` ${word}`);
}

/** A table: columns are [title, row => cell, class, whether it may be left out where empty]. */
export function table(caption, columns, rows, options = {}) {
  // A column that may be left out, and would be empty, is.
  if (rows.length) columns = columns.filter(([, cell, , optional]) => !optional || rows.some((row) => cell(row) !== ""));
  const body = rows.map((row) => h("tr", options.row ? options.row(row) : null,
    columns.map(([, cell, kind], place) => {
      const inside = cell(row);
      return place === 0 ? h("th", { scope: "row", class: kind }, inside) : h("td", { class: kind }, inside);
    })));
  return h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    h("table", { class: options.fit ? "fit" : null }, h("caption", { class: options.caption ? null : "hidden" }, caption),
      h("thead", {}, h("tr", {}, columns.map(([title, , kind]) => h("th", { scope: "col", class: kind === "mono" ? null : kind }, title)))),
      h("tbody", {}, body.length ? body : h("tr", {}, h("td", { colspan: columns.length, class: "empty" }, options.empty || "Nothing here.")))));
}

/** Rows of a large table, a page at a time: `load(offset, q)` gives { total, rows }. */
export function paged(caption, columns, load, options = {}) {
  const size = options.size || 100;
  const kept = options.kept || {};  // where the reader is, for a table that is made anew
  let offset = kept.offset || 0, q = kept.q || "", turn = 0, total = 0;
  const place = h("div", { class: "page-rows" });
  const count = h("span", { class: "count" });
  const back = h("button", { type: "button", onclick: () => go(offset - size) }, "Previous");
  const next = h("button", { type: "button", onclick: () => go(offset + size) }, "Next");
  const filter = options.filter === false ? null : h("input", {
    type: "search", value: q, placeholder: options.filter || "Filter: prefix, AS, community …", "aria-label": `Filter ${caption}`, maxlength: 200, spellcheck: "false",
    oninput: () => { clearTimeout(filter.timer); filter.timer = setTimeout(() => { q = filter.value.trim(); go(0); }, 250); },
  });
  const buttons = h("span", { class: "pages" }, back, next);
  async function go(to) {
    offset = Math.max(0, to);
    Object.assign(kept, { offset, q });
    const mine = ++turn;
    place.setAttribute("aria-busy", "true");
    try {
      const found = await load(offset, q, size);
      if (mine !== turn) return;
      total = found.total;
      place.replaceChildren(table(caption, columns, found.rows, { empty: q ? "Nothing matches." : options.empty }));
      const last = Math.min(offset + found.rows.length, total);
      count.textContent = total ? `${(offset + 1).toLocaleString("en")}–${last.toLocaleString("en")} of ${total.toLocaleString("en")}` : "none";
    } catch (error) {
      if (mine !== turn) return;
      place.replaceChildren(problem(error));
      count.textContent = "";
    }
    place.removeAttribute("aria-busy");
    back.disabled = offset === 0;
    next.disabled = offset + size >= total;
    buttons.hidden = total <= size;
  }
  go(offset);
  return h("div", { class: "paged" }, h("div", { class: "tools" }, filter, count, buttons), place);
}

/** An error as part of the page. */
export function problem(error) {
  const older = error.status === 501;
  return h("p", { class: `notice ${older ? "note" : "bad"}`, role: "note" }, older
    ? "The agent that runs here does not answer this question: it is older than this page."
    : error.message);
}

/** The nodes that did not answer, if any. */
export function failures(found) {
  const all = found.failures || [];
  if (!all.length) return null;
  return h("div", { class: "notice warn" }, h("strong", {}, `${plural(all.length, "node")} did not answer`),
    h("ul", {}, all.slice(0, 10).map((each) => h("li", {}, `${each.node}: ${each.error}`)), all.length > 10 ? h("li", {}, `and ${all.length - 10} more`) : null));
}

/** Tabs within a panel: [title, () => element]. */
export function tabs(label, parts, chosen = 0) {
  const list = h("div", { role: "tablist", "aria-label": label, class: "subtabs" });
  const body = h("div", { role: "tabpanel", tabindex: "0" });
  const id = `t${Math.random().toString(36).slice(2, 9)}`;
  body.id = `${id}p`;
  const buttons = parts.map(([title], place) => h("button", {
    type: "button", role: "tab", id: `${id}${place}`, "aria-controls": body.id,
    onclick: () => choose(place),
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const to = (place + step + parts.length) % parts.length;
      choose(to);
      buttons[to].focus();
    },
  }, title));
  function choose(place) {
    buttons.forEach((each, number) => {
      each.setAttribute("aria-selected", String(number === place));
      each.tabIndex = number === place ? 0 : -1;
    });
    body.setAttribute("aria-labelledby", `${id}${place}`);
    body.replaceChildren(parts[place][1]());
  }
  list.append(...buttons);
  choose(chosen);
  return h("div", {}, list, body);
}
