// What happened and when: a drawing that can be scrubbed, and the entries as a table.

import { get } from "./api.js";
import { badge, clock, failures, h, moment, plural, problem, s, say, table } from "./dom.js";

const d3 = window.d3;
const KINDS = ["session", "announcement", "route", "service", "policy", "drain", "node"];
const GOOD = /^(established|announced|up|accepted|added|recovered|ready|undrained|back|won|advertise|put)/, BAD = /^(withdrawn|down|lost|failed|refused|removed|rejected|unready|left|deleted|gone)/;
const MOST = 5000, SHOWN = 300;
export const toneOf = (entry) => (GOOD.test(entry.what) ? "ok" : BAD.test(entry.what) ? "bad" : "note");

export function timelineView(state, query) {
  let entries = [], cursor = null, window_ = null, frame = 0, x = null;
  const kinds = new Set(KINDS);
  const q = h("input", { type: "search", placeholder: "Prefix, service, peer or node", "aria-label": "Filter the timeline", value: query.q || "", maxlength: 200, spellcheck: "false", oninput: () => draw() });
  const choice = h("fieldset", { class: "kinds" }, h("legend", { class: "hidden" }, "Kinds"));
  const slider = h("input", { type: "range", min: 0, max: 1000, step: 1, value: 1000, "aria-label": "Point in time", oninput: () => { scrub(Number(slider.value) / 1000); } });
  const latest = h("button", { type: "button", onclick: () => { cursor = null; slider.value = 1000; draw(); } }, "Now");
  const when = h("output", { class: "mono" });
  const svg = s("svg", { class: "timeline", role: "img", "aria-label": "Entries over time by kind; the table below has them one by one" });
  const list = h("div", {}, h("p", { class: "hint" }, "Asking the nodes …"));
  let loaded = false;
  const body = h("div", {},
    h("div", { class: "tools" }, q, choice),
    h("div", { class: "card plot" }, svg, h("div", { class: "scrub" }, slider, when, latest)),
    list);
  const element = h("section", { class: "wide" }, h("h1", {}, "Timeline"), h("p", { class: "hint" }, "Decisions of the nodes: announcements and withdrawals, sessions that went and came, routes, drains. Drag across the drawing to look at a span; move the slider to go back in time."), body);

  const filtered = () => { const text = q.value.trim().toLowerCase(); return entries.filter((each) => kinds.has(each.kind) && (!text || `${each.subject} ${each.peer || ""} ${each.node || ""} ${each.what} ${each.reason || ""}`.toLowerCase().includes(text))); };
  function span() {
    const first = entries.length ? entries[0].at : Date.now() / 1000 - 60, last = Math.max(Date.now() / 1000, entries.length ? entries[entries.length - 1].at : 0);
    return [first, Math.max(last, first + 10)];
  }
  function scrub(part) { const [a, b] = window_ || span(); cursor = part >= 1 ? null : a + (b - a) * part; draw(); }
  function draw() { cancelAnimationFrame(frame); frame = requestAnimationFrame(drawNow); }
  function drawNow() {
    if (!loaded) return;
    const width = Math.max(svg.clientWidth, 280), lanes = KINDS.filter((kind) => entries.some((each) => each.kind === kind));
    const left = width < 520 ? 8 : 104, lane = 30, height = 26 + Math.max(lanes.length, 1) * lane + 22;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);
    const [a, b] = window_ || span();
    x = d3.scaleTime([new Date(a * 1000), new Date(b * 1000)], [left + 8, width - 14]);
    const all = filtered();
    const parts = [];
    lanes.forEach((kind, place) => {
      const y = 20 + place * lane;
      parts.push(s("line", { class: "lane", x1: left, x2: width - 8, y1: y + lane / 2, y2: y + lane / 2 }));
      if (left > 50) parts.push(s("text", { class: "lane-name", x: left - 8, y: y + lane / 2 + 4, "text-anchor": "end" }, kind));
      else parts.push(s("text", { class: "lane-name", x: left, y: y + 5 }, kind));
    });
    // Entries that would lie on one another are one mark, and a count.
    const marks = new Map();
    for (const each of all) {
      if (each.at < a || each.at > b) continue;
      const place = lanes.indexOf(each.kind), px = Math.round(x(new Date(each.at * 1000)) / 4) * 4, kind = toneOf(each), key = `${place} ${px} ${kind}`;
      const mark = marks.get(key) || { place, px, kind, count: 0, first: each };
      mark.count += 1;
      mark.past = cursor === null || each.at <= cursor;
      marks.set(key, mark);
    }
    for (const mark of marks.values()) {
      const y = 20 + mark.place * lane + lane / 2 + { ok: -4, bad: 4, note: 0 }[mark.kind];
      const r = Math.min(3.6 + Math.log2(mark.count), 9);
      const shape = mark.kind === "ok" ? s("circle", { cx: mark.px, cy: y, r }) : mark.kind === "bad" ? s("path", { d: `M${mark.px - r} ${y - r}L${mark.px + r} ${y + r}M${mark.px + r} ${y - r}L${mark.px - r} ${y + r}` }) : s("rect", { x: mark.px - r, y: y - r, width: 2 * r, height: 2 * r, transform: `rotate(45 ${mark.px} ${y})` });
      shape.setAttribute("class", `event ${mark.kind}${mark.past ? "" : " later"}`);
      shape.append(s("title", {}, `${moment(mark.first.at)} ${mark.first.subject} ${mark.first.what}${mark.count > 1 ? ` and ${mark.count - 1} more` : ""}`));
      parts.push(shape);
    }
    const axis = s("g", { class: "axis", transform: `translate(0 ${height - 24})` });
    d3.select(axis).call(d3.axisBottom(x).ticks(Math.max(2, Math.floor(width / 130))).tickFormat(d3.timeFormat(b - a > 2 * 86400 ? "%b %d" : b - a > 600 ? "%H:%M" : "%H:%M:%S")));
    parts.push(axis);
    if (cursor !== null) { const at = x(new Date(cursor * 1000)); parts.push(s("line", { class: "cursor", x1: at, x2: at, y1: 8, y2: height - 24 })); }
    const brush = s("g", { class: "brush" });
    d3.select(brush).call(d3.brushX().extent([[left, 8], [width - 8, height - 24]]).on("end", ({ selection, sourceEvent }) => {
      if (!sourceEvent) return;
      window_ = selection && selection[1] - selection[0] > 5 ? selection.map((each) => x.invert(each).getTime() / 1000) : null;
      cursor = null;
      slider.value = 1000;
      draw();
    }));
    parts.splice(lanes.length * 2, 0, brush);
    svg.replaceChildren(...parts);
    when.textContent = cursor === null ? (window_ ? `${clock(a)} – ${clock(b)}` : "now") : moment(cursor);
    const shown = all.filter((each) => each.at >= a && each.at <= (cursor ?? b));
    list.replaceChildren(h("div", { class: "tools" }, h("span", { class: "count" }, `${plural(shown.length, "entry", "entries")}${shown.length > SHOWN ? `, the last ${SHOWN} of them` : ""}`), window_ ? h("button", { type: "button", onclick: () => { window_ = null; cursor = null; draw(); } }, "Whole time") : null),
      table("Entries, the newest first", [
        ["Time", (row) => moment(row.at), "mono"],
        ["Node", (row) => row.node || "", null, true],
        ["Kind", (row) => row.kind],
        ["Subject", (row) => (row.count > 1 ? [row.subject, h("small", {}, ` and ${row.count - 1} more`)] : row.subject), "mono"],
        ["Peer", (row) => row.peer || "", null, true],
        ["What", (row) => badge(row.what, toneOf(row))],
        ["Why", (row) => row.reason || "", "why", true],
        ["Before → after", (row) => (row.old || row.new ? `${row.old || "–"} → ${row.new || "–"}` : ""), "mono", true],
      ], shown.slice(-SHOWN).reverse(), { empty: "Nothing happened in this time." }));
  }
  for (const kind of KINDS) choice.append(h("label", {}, h("input", { type: "checkbox", checked: true, onchange: (event) => { event.target.checked ? kinds.add(kind) : kinds.delete(kind); draw(); } }), ` ${kind}`));
  get("history", { limit: 2000 }).then((found) => { entries = found.entries; loaded = true; body.prepend(failures(found) || ""); draw(); }).catch((error) => body.replaceChildren(problem(error)));
  const stop = state.onEntries((more) => { const key = (each) => `${each.node} ${each.at} ${each.subject} ${each.what} ${each.peer}`, there = new Set(entries.slice(-500).map(key)); entries = [...entries, ...more.filter((each) => !there.has(key(each)))].slice(-MOST); draw(); if (more.length < 4) say(more.map((each) => `${each.subject} ${each.what}`).join(", ")); });
  const observer = new ResizeObserver(() => draw());
  observer.observe(svg);
  return { element, end: () => { stop(); observer.disconnect(); } };
}
