// What is drawn, out of what the nodes say. Nothing here knows of the page.

const natural = new Intl.Collator("en", { numeric: true });
export const byName = (a, b) => natural.compare(a, b);
const WORST = ["established", "down", "refused"];

/** A peer's name without what belongs to the session: the node's name and the family. */
export function shortName(name, node) {
  const rest = name.split(node).join("-");
  const parts = rest.split(/[-/_]/).filter((part) => part && !/^(ip)?v?[46]$/i.test(part));
  return parts.join("-") || name;
}

/** Routers, and for each node and router one edge with its sessions. A router is known by its router ID, which
 * only an established session tells; one that is down is put to the router of that name, address and AS. */
export function fabricModel(nodes) {
  const routers = new Map(), edges = new Map(), aliases = new Map();
  const hints = (node, session) => [`${session.asNumber}/${shortName(session.name, node.node)}`, `@${session.address}`];
  const known = new Map();
  for (const node of nodes) for (const session of node.peers) {
    if (!session.router) continue;
    const key = `${session.router}/${session.asNumber}`;
    for (const hint of hints(node, session)) if (!known.has(hint)) known.set(hint, key);
  }
  for (const node of [...nodes].sort((a, b) => byName(a.node, b.node))) {
    for (const session of node.peers) {
      const [named, addressed] = hints(node, session);
      const asName = session.asNumber === null ? [...known.entries()].find(([hint]) => hint.endsWith(`/${named.split("/")[1]}`)) : null;
      const key = session.router ? `${session.router}/${session.asNumber}` : known.get(named) || known.get(addressed) || (asName && asName[1]) || named;
      let router = routers.get(key);
      if (!router) routers.set(key, router = { key, names: new Map(), asNumber: session.asNumber, id: "", sessions: [], edges: [] });
      router.id = router.id || session.router;
      router.asNumber = router.asNumber ?? session.asNumber;
      const short = shortName(session.name, node.node);
      router.names.set(short, (router.names.get(short) || 0) + 1);
      const edgeKey = `${node.node} ${key}`;
      let edge = edges.get(edgeKey);
      if (!edge) {
        edges.set(edgeKey, edge = { key: edgeKey, node: node.node, router: key, sessions: [], state: "established", received: 0, accepted: 0, announced: 0, bfd: "" });
        router.edges.push(edge);
      }
      edge.sessions.push(session);
      router.sessions.push({ node: node.node, ...session });
      if (WORST.indexOf(session.state) > WORST.indexOf(edge.state)) edge.state = session.state;
      for (const each of ["received", "accepted", "announced"]) edge[each] += session[each];
      if (session.bfd && edge.bfd !== "Down") edge.bfd = session.bfd === "Up" ? edge.bfd || "Up" : session.bfd;
    }
  }
  for (const router of routers.values()) {
    router.label = [...router.names.entries()].sort((a, b) => b[1] - a[1] || byName(a[0], b[0]))[0][0];
    router.up = router.sessions.filter((each) => each.state === "established").length;
    aliases.set(router.label, router.key);
  }
  for (const edge of edges.values()) edge.label = routers.get(edge.router).label;
  return { nodes: [...nodes].sort((a, b) => byName(a.node, b.node)), routers: [...routers.values()].sort((a, b) => byName(a.label, b.label)), edges: [...edges.values()] };
}

/** Counts for the line above the drawing. */
export function summary(model) {
  const sessions = model.routers.flatMap((router) => router.sessions);
  const mesh = model.nodes.reduce((sum, node) => ({ up: sum.up + node.mesh.established, all: sum.all + node.mesh.sessions }), { up: 0, all: 0 });
  return {
    nodes: model.nodes.length, ready: model.nodes.filter((each) => each.state === "ready").length,
    sessions: sessions.length, up: sessions.filter((each) => each.state === "established").length,
    mesh, bfd: sessions.filter((each) => each.bfd).length, bfdDown: sessions.filter((each) => each.bfd && each.bfd !== "Up").length,
    problems: model.nodes.reduce((sum, each) => sum + each.problemCount, 0),
  };
}

// How a node is drawn: with two lines, with its name alone, or as a square.
const SIZES = {
  big: { w: 172, h: 56, gx: 22, gy: 30, gap: 44, most: 9 },
  mid: { w: 108, h: 36, gx: 12, gy: 18, gap: 34, most: 60 },
  tiny: { w: 15, h: 15, gx: 7, gy: 7, gap: 60, most: Infinity },
};

/** Places: routers in a row, below them the nodes, those with the same routers together. The same for the same
 * fabric and place, so that nothing moves unless something has come or gone. */
export function layout(model, width = 0, height = 0) {
  const count = model.nodes.length, narrow = width > 0 && width < 560;
  const mode = count <= SIZES.big.most ? "big" : count <= SIZES.mid.most ? "mid" : "tiny";
  const size = mode === "big" && narrow ? { ...SIZES.big, w: 112, gx: 12, gy: 26, gap: 16 } : SIZES[mode];
  const racks = racksOf(model);
  // Of some ways to break the rows the one that is drawn largest.
  let best = null;
  for (const columns of mode === "tiny" ? [0] : [4, 3, 2, 5, 6, 8, 1]) {
    for (const router of narrow ? [104] : [152, 116]) {
      const found = placed(model, racks, size, mode, columns, router, width, height);
      if (!best || found.scale > best.scale * 1.02) best = found;
    }
  }
  return best;
}

/** Nodes by the set of their routers, from left to right. */
function racksOf(model) {
  const order = new Map(model.routers.map((router, place) => [router.key, place]));
  const of = new Map(model.nodes.map((node) => [node.node, []]));
  for (const edge of model.edges) of.get(edge.node).push(order.get(edge.router));
  const racks = new Map();
  for (const node of model.nodes) {
    const set = [...new Set(of.get(node.node))].sort((a, b) => a - b), key = set.join(",");
    if (!racks.has(key)) racks.set(key, { set, nodes: [], middle: set.length ? set.reduce((a, b) => a + b, 0) / set.length : 1e9 });
    racks.get(key).nodes.push(node);
  }
  return [...racks.values()].sort((a, b) => a.middle - b.middle || a.set.length - b.set.length);
}

function placed(model, racks, size, mode, columns, routerWidth, width, height) {
  const at = new Map(), top = mode === "tiny" ? 240 : 196, box = { w: routerWidth, h: 54 };
  let x = 0, deepest = 0;
  for (const rack of racks) {
    const across = columns ? Math.min(columns, rack.nodes.length) : Math.ceil(Math.sqrt(rack.nodes.length * 1.35));
    rack.nodes.forEach((node, place) => {
      const y = top + Math.floor(place / across) * (size.h + size.gy);
      at.set(node.node, { x: x + (place % across) * (size.w + size.gx) + size.w / 2, y, w: size.w, h: size.h });
      deepest = Math.max(deepest, y + size.h);
    });
    x += across * (size.w + size.gx) - size.gx + size.gap;
  }
  const across = Math.max(x - size.gap, 200), count = model.routers.length;
  const step = Math.max(box.w + (box.w < 140 ? 14 : 30), across / Math.max(count, 1)), wide = Math.max(across, step * count);
  const scale = width && height ? Math.min(1.4, (width - 48) / wide, (height - 90) / Math.max(deepest, 120)) : 1 / wide;
  // Of a small fabric the lines are as long as the place is high.
  const room = mode !== "tiny" && width && height ? Math.min(150, Math.max(0, (height - 90) / scale - deepest)) : 0;
  for (const each of at.values()) { each.x += (wide - across) / 2; each.y += room; }
  const routers = new Map(model.routers.map((router, place) => [router.key, { x: step * (place + 0.5) + (wide - step * count) / 2, y: 30, ...box }]));
  return { mode, small: mode !== "tiny", nodes: at, routers, width: wide, height: Math.max(deepest + room, box.h + 60), scale };
}
