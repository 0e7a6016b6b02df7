// What is drawn, out of what the nodes say. Nothing here knows of the page.

const natural = new Intl.Collator("en", { numeric: true });
export const byName = (a, b) => natural.compare(a, b);
const WORST = ["established", "down", "refused"];

/** A peer's name without what belongs to the session: the node's name and the family. */
export function shortName(name, node) {
  const parts = name.split(/[-/_.]/).filter((part) => part && part !== node && !/^(ip)?v?[46]$/i.test(part));
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

/** Places: routers in a row, below them the nodes, those with the same routers together. The same for the same
 * fabric, so that nothing moves unless something has come or gone. */
export function layout(model, width = 0, height = 0) {
  const small = model.nodes.length <= 24;
  const narrow = width > 0 && width < 560;
  const size = small ? (narrow ? { w: 112, h: 56, gx: 12, gy: 26 } : { w: 172, h: 56, gx: 22, gy: 30 }) : { w: 15, h: 15, gx: 7, gy: 7 };
  const order = new Map(model.routers.map((router, place) => [router.key, place]));
  const of = new Map(model.nodes.map((node) => [node.node, []]));
  for (const edge of model.edges) of.get(edge.node).push(order.get(edge.router));
  const racks = new Map();
  for (const node of model.nodes) {
    const set = [...new Set(of.get(node.node))].sort((a, b) => a - b);
    const key = set.join(",");
    if (!racks.has(key)) racks.set(key, { set, nodes: [], middle: set.length ? set.reduce((a, b) => a + b, 0) / set.length : 1e9 });
    racks.get(key).nodes.push(node);
  }
  const sorted = [...racks.values()].sort((a, b) => a.middle - b.middle || a.set.length - b.set.length);
  const perRow = small ? (narrow ? 2 : Math.max(2, Math.min(5, Math.floor(12 / sorted.length)))) : 0;
  const gap = small ? (narrow ? 16 : 44) : 60;
  let x = 0, deepest = 0;
  const top = small ? 196 : 240;
  const at = new Map();
  for (const rack of sorted) {
    const columns = small ? Math.min(perRow, rack.nodes.length) : Math.ceil(Math.sqrt(rack.nodes.length * 1.35));
    rack.nodes.forEach((node, place) => {
      const column = place % columns, row = Math.floor(place / columns);
      at.set(node.node, { x: x + column * (size.w + size.gx) + size.w / 2, y: top + row * (size.h + size.gy), w: size.w, h: size.h });
      deepest = Math.max(deepest, top + row * (size.h + size.gy) + size.h);
    });
    x += columns * (size.w + size.gx) - size.gx + gap;
  }
  const across = Math.max(x - gap, 200);
  const box = { w: small && narrow ? 116 : 152, h: 54 };
  const count = model.routers.length;
  const step = Math.max(box.w + (narrow ? 16 : 36), across / Math.max(count, 1));
  const wide = Math.max(across, step * count);
  // Of a small fabric the lines are as long as the place is high.
  const room = small && width && height ? Math.min(150, Math.max(0, (wide * (height - 60)) / width - deepest)) : 0;
  for (const each of at.values()) each.y += room;
  deepest += room;
  const shift = (wide - across) / 2;
  for (const each of at.values()) each.x += shift;
  const routers = new Map(model.routers.map((router, place) => [router.key, { x: step * (place + 0.5) + (wide - step * count) / 2, y: 30, ...box }]));
  return { small, nodes: at, routers, width: wide, height: Math.max(deepest, box.h + 60) };
}
