// The API, by paths relative to the page: it may stand below a proxy's.

import { h } from "./dom.js";

let token = sessionStorage.getItem("l3net-token") || "";
let declined = false, asking = null;

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

const headers = () => (token ? { "X-L3net-Token": token } : {});

/** JSON of a path below api/v1/. Throws Refused. */
export async function get(path, query = {}, signal = undefined) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  const used = token;
  let response;
  try {
    response = await fetch(`api/v1/${path}${text ? `?${text}` : ""}`, { headers: headers(), signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The looking glass does not answer.");
  }
  if (response.status === 401 && await askToken(used)) return get(path, query, signal);
  let value = null;
  try { value = await response.json(); } catch { /* told below */ }
  if (!response.ok || value === null) throw new Refused(response.status, (value && (value.error || value.message)) || `The answer was ${response.status}.`);
  return value;
}

export const ofNode = (node, resource, query, signal) => get(`nodes/${encodeURIComponent(node)}/${resource}`, query, signal);

/** Whether there is another token than the one that was `used`. Many who are refused at once ask once. */
async function askToken(used) {
  if (token !== used) return true;
  if (declined) return false;
  asking = asking || new Promise((answer) => {
    const input = h("input", { type: "password", id: "token", autocomplete: "current-password", required: true, size: 40 });
    const close = (given) => { dialog.close(); dialog.remove(); asking = null; answer(given); };
    const dialog = h("dialog", { "aria-labelledby": "token-title", oncancel: (event) => { event.preventDefault(); declined = true; close(false); } },
      h("form", { onsubmit: (event) => { event.preventDefault(); token = input.value.trim(); sessionStorage.setItem("l3net-token", token); close(true); } },
        h("h2", { id: "token-title" }, used ? "This token is not the right one" : "A token is needed"),
        h("p", {}, h("label", { for: "token" }, "The token of this looking glass, as in its token file")), h("p", {}, input),
        h("button", { type: "submit" }, "Open")));
    document.body.append(dialog);
    dialog.showModal();
    input.focus();
  });
  return asking;
}

/** Server-sent events, read by fetch since EventSource sends no token. Only while the page is seen: a browser has
 * six connections to a host for all its tabs, and nodes are asked only while somebody looks. Ends with the signal
 * `ended`, if one is given. */
export async function listen(told, state, seen, query = "", ended = null) {
  for (let wait = 1000; !ended?.aborted; wait = Math.min(wait * 2, 30000)) {
    if (document.hidden) {
      await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
      if (!document.hidden) seen();
      wait = 500;
      continue;
    }
    const stopper = new AbortController();
    const hidden = () => { if (document.hidden) stopper.abort(); }, gone = () => stopper.abort();
    document.addEventListener("visibilitychange", hidden);
    window.addEventListener("pagehide", gone);
    ended?.addEventListener("abort", gone);
    try {
      const response = await fetch(`api/v1/events${query}`, { headers: headers(), cache: "no-store", signal: stopper.signal });
      if (response.ok) {
        state("live");
        wait = 1000;
        await read(response.body.getReader(), told);
      }
    } catch { /* begun anew below */ }
    document.removeEventListener("visibilitychange", hidden);
    window.removeEventListener("pagehide", gone);
    if (ended?.aborted) return;
    if (document.hidden) { state("paused"); continue; }
    state("reconnecting");
    await new Promise((done) => setTimeout(done, wait));
  }
}

async function read(reader, told) {
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    const pieces = rest.split("\n\n");
    rest = pieces.pop();
    for (const piece of pieces) {
      const name = /^event: (.*)$/m.exec(piece), content = /^data: (.*)$/m.exec(piece);
      if (name && content) told(name[1], JSON.parse(content[1]));
    }
  }
}
