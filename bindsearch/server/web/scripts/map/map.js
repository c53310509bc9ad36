/** The map of the collection: what lies near what, by kind. */

import { fetchMap } from "../api.js";
import { bdi, byId, h, icon, printable, setVars } from "../dom.js";
import { KINDS, kindName, plural, span, splitName } from "../format.js";
import { colours, createScatter, drawSign } from "./scatter.js";

const WHEEL_FACTOR = 1.0015;
const STEP_FACTOR = 1.4;
const MAX_LISTED = 300;
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Show the map when it is wanted.
 * @param {{onOpen: (id: number, modality: string, start_s: number | null) => void, onError: (error: Error) => void}} handlers
 */
export function createMap({ onOpen, onError }) {
  const root = byId("map");
  const canvas = /** @type {HTMLCanvasElement} */ (h("canvas", {
    tabindex: 0, role: "application", "aria-label": "Map of the collection", "aria-describedby": "map-keys",
  }));
  const tip = h("div", { class: "tip", hidden: true });
  const legend = h("div", { class: "legend", role: "group", "aria-label": "Kinds to show" });
  const about = h("div", { class: "about" });
  const list = h("details", { class: "map-list" }, h("summary", {}, "The same as a list"));
  const said = h("p", { class: "hidden", role: "status" });
  const zoomButton = (label, name, act) => h("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick: act }, icon(name));
  root.append(
    h("p", { id: "map-keys", class: "hidden" }, "Arrow keys move among the points, Enter opens one, plus and minus zoom, 0 shows all."),
    h("div", { class: "plot" }, canvas, tip,
      h("div", { class: "zoom" },
        zoomButton("Zoom in", "plus", () => scatter.zoomBy(STEP_FACTOR)),
        zoomButton("Zoom out", "minus", () => scatter.zoomBy(1 / STEP_FACTOR)),
        zoomButton("Show all", "fit", () => scatter.fit()))),
    h("aside", { class: "side" }, legend, about, list),
    said,
  );
  const scatter = createScatter(canvas);
  /** @type {any} */
  let data = null;
  /** @type {import("./scatter.js").Point[]} */
  let points = [];
  const hiddenKinds = new Set();
  let isLoading = false;

  async function show() {
    if (data) {
      scatter.draw();
      return;
    }
    if (isLoading) return;
    isLoading = true;
    about.replaceChildren(h("p", { role: "status" }, "The map is being made …"));
    try {
      data = await fetchMap();
      points = data.x.map((x, index) => ({ x, y: data.y[index], modality: data.modality[index], index }));
      draw(true);
    } catch (error) {
      about.replaceChildren(h("p", {}, "There is no map."));
      onError(/** @type {Error} */ (error));
    } finally {
      isLoading = false;
    }
  }

  function draw(isNew) {
    scatter.setPoints(points.filter((one) => !hiddenKinds.has(one.modality)), isNew);
    drawLegend();
    drawAbout();
    drawList();
  }

  function drawLegend() {
    const counts = new Map();
    for (const one of points) counts.set(one.modality, (counts.get(one.modality) ?? 0) + 1);
    const palette = colours();
    const held = document.activeElement?.getAttribute("data-legend");
    legend.replaceChildren(...Object.keys(KINDS).filter((one) => counts.has(one)).map((kind) =>
      h("button", {
        type: "button", class: "kind", "data-legend": kind, "aria-pressed": String(!hiddenKinds.has(kind)),
        "aria-label": `${kindName(kind)}, ${counts.get(kind)} points`,
        onclick: () => {
          if (!hiddenKinds.delete(kind)) hiddenKinds.add(kind);
          draw(false);
        },
      }, sign(kind, palette), h("span", {}, kindName(kind)), h("small", {}, counts.get(kind).toLocaleString("en")))));
    if (held) /** @type {HTMLElement | null} */ (legend.querySelector(`[data-legend="${held}"]`))?.focus();
  }

  function drawAbout() {
    const gaps = gapRows(data);
    about.replaceChildren(
      h("p", {}, `${plural(points.length, "segment")}${data.segments > points.length ? ` of ${data.segments.toLocaleString("en")}, drawn at random` : ""}. Near points have similar embeddings; axes and far distances mean nothing.`),
      ...(gaps.length ? [h("h3", {}, "Gap between modalities"), h("p", { class: "note" }, "Distance of the mean embeddings: 0 is no gap."),
        h("ul", { class: "gaps", tabindex: 0, "aria-label": "Gaps" }, ...gaps.map(([a, b, gap]) => h("li", {}, h("span", {}, `${kindName(a)} – ${kindName(b)}`), h("b", {}, gap.toFixed(2)))))] : []),
    );
  }

  /** A list for readers who do not see the canvas. */
  function drawList() {
    const shown = points.filter((one) => !hiddenKinds.has(one.modality)).slice(0, MAX_LISTED);
    const left = points.length - shown.length;
    list.replaceChildren(list.firstElementChild ?? h("summary", {}, "The same as a list"), h("ul", {}, ...shown.map((one) =>
      h("li", {}, h("button", { type: "button", onclick: () => open(one) }, icon(one.modality), h("span", {}, bdi(nameOf(one)))))),
    ), left > 0 ? h("p", { class: "note" }, `and ${left} more`) : "");
  }

  const nameOf = (one) => `${splitName(data.path[one.index]).last} ${span(data.start_s[one.index], data.end_s[one.index])}`.trim();
  const open = (one) => onOpen(data.item_id[one.index], one.modality, data.start_s[one.index]);

  function choose(one) {
    scatter.choose(one);
    tip.hidden = !one;
    canvas.classList.toggle("over", Boolean(one));
    if (!one) return;
    const { x, y } = scatter.toScreen(one);
    const query = new URLSearchParams({ side_px: "160", modality: one.modality });
    if (data.start_s[one.index] !== null) query.set("start_s", String(data.start_s[one.index]));
    const picture = h("img", { src: `/api/items/${data.item_id[one.index]}/thumbnail?${query}`, alt: "", width: 160, height: 120, onerror: () => picture.remove() });
    tip.replaceChildren(picture, h("span", { class: "tip-name" }, icon(one.modality), bdi(nameOf(one))));
    const isLeft = x > canvas.clientWidth / 2;
    const isUp = y > canvas.clientHeight / 2;
    setVars(tip, { x: `${x}px`, y: `${y}px`, "shift-x": isLeft ? "calc(-100% - 16px)" : "16px", "shift-y": isUp ? "calc(-100% - 8px)" : "8px" });
  }

  listen(canvas, scatter, {
    choose,
    open,
    say: (one) => {
      said.textContent = one ? `${printable(nameOf(one))}, ${kindName(one.modality)}` : "";
    },
  });

  return {
    show,
    /** Forget the map of an older generation. */
    outdate() {
      data = null;
      if (!root.hidden) show();
    },
    redraw() {
      if (!data) return;
      drawLegend();
      scatter.draw();
    },
  };
}

/** Return the sign of a kind as a small canvas. */
function sign(kind, palette) {
  const canvas = /** @type {HTMLCanvasElement} */ (h("canvas", { width: 28, height: 28, class: "sign", "aria-hidden": "true" }));
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  drawSign(context, kind, 14, 14, 8, palette[kind], palette.line);
  return canvas;
}

/** Return pairs of kinds with the distance of their means, the largest first. */
function gapRows(data) {
  return [...(data.gaps ?? [])].map((one) => [one.a, one.b, one.distance]).sort((a, b) => b[2] - a[2]);
}

/** Zoom, pan and select, with pointer, wheel and keys. */
function listen(canvas, scatter, { choose, open, say }) {
  /** @type {Map<number, {x: number, y: number}>} */
  const pointers = new Map();
  let moved = 0;
  const place = (event) => ({ x: event.offsetX, y: event.offsetY });

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    scatter.zoomBy(WHEEL_FACTOR ** -event.deltaY, event.offsetX, event.offsetY);
    choose(null);
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
    moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    const now = place(event);
    if (!before) {
      const over = scatter.at(now.x, now.y);
      if (over !== scatter.chosen()) choose(over);
      return;
    }
    pointers.set(event.pointerId, now);
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    const [dx, dy] = [now.x - before.x, now.y - before.y];
    moved += Math.abs(dx) + Math.abs(dy);
    if (other) {
      const distance = (a) => Math.hypot(a.x - other.x, a.y - other.y) || 1;
      scatter.zoomBy(distance(now) / distance(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else {
      scatter.pan(dx, dy);
    }
    if (moved > 6) choose(null);
  });
  const release = (event) => {
    if (pointers.delete(event.pointerId) && moved <= 6 && event.type === "pointerup") {
      const one = scatter.at(event.offsetX, event.offsetY);
      if (one && (event.pointerType === "mouse" || one === scatter.chosen())) open(one);
      else choose(one); // the first touch shows what it is
    }
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => {
    if (!pointers.size && document.activeElement !== canvas) choose(null);
  });
  canvas.addEventListener("keydown", (event) => {
    const direction = DIRECTIONS[event.key];
    const chosen = scatter.chosen();
    if (direction) {
      const next = scatter.next(direction[0], direction[1]);
      if (next) choose(next);
      say(scatter.chosen());
    } else if (event.key === "Enter" && chosen) open(chosen);
    else if (event.key === "+" || event.key === "=") scatter.zoomBy(STEP_FACTOR);
    else if (event.key === "-") scatter.zoomBy(1 / STEP_FACTOR);
    else if (event.key === "0") scatter.fit();
    else if (event.key === "Escape" && chosen) choose(null);
    else return;
    if (chosen && scatter.chosen() === chosen && !direction) choose(chosen);
    event.preventDefault();
  });
}
