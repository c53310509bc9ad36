/** Where a hit answers the query: boxes and a heat map over its picture, the relevance over a recording. */

import { locate } from "../api.js";
import { bdi, h, icon, s } from "../dom.js";
import { clock, sentence } from "../format.js";

const WIDTH = 600;
const HEIGHT = 120;

/**
 * @typedef {object} Box
 * @property {number} left
 * @property {number} top
 * @property {number} right
 * @property {number} bottom
 * @property {number | null} at_s
 */

/**
 * @typedef {object} Located
 * @property {Box[]} boxes
 * @property {{start_s: number, end_s: number}[]} spans
 * @property {{times_s: number[], relevance: number[], start_s: number, end_s: number} | null} curve
 * @property {{at_s: number | null} | null} peak
 * @property {string} words
 * @property {string[]} places the boxes, or the spans, in words
 * @property {string | null} picture
 * @property {string | null} heat
 * @property {string[]} notices
 */

/**
 * Return a button that shows the places of a segment, a line that says what was found, and a list of the places if
 * there are several. While it runs, the button stops it; when it is pressed again, the segment is shown as before.
 * @param {() => object} asked what is located: query, item_id, modality, start_s
 * @param {(located: Located) => HTMLElement[]} onPlaces shows them, and returns their elements
 * @param {() => void} onPlain
 */
export function placesButton(asked, onPlaces, onPlain) {
  const label = h("span", {}, "Where?");
  const line = h("p", { class: "note places", role: "status" });
  const list = h("ol", { class: "note place-list", "aria-label": "Places" });
  const button = h("button", { type: "button", class: "labelled", "aria-pressed": "false", onclick: act }, icon("where"), label);
  /** @type {AbortController | null} */
  let running = null;

  function set(isShown, words = "") {
    running?.abort();
    running = null;
    label.textContent = "Where?";
    button.setAttribute("aria-pressed", String(isShown));
    line.replaceChildren(bdi(words));
    list.replaceChildren();
  }

  async function act() {
    const isPlain = running === null && button.getAttribute("aria-pressed") === "false";
    if (!isPlain) {
      set(false);
      onPlain();
      return;
    }
    const controller = new AbortController();
    set(false, "Looking for the place …");
    running = controller;
    label.textContent = "Stop";
    try {
      const located = await locate(asked(), controller.signal);
      if (running !== controller) return;
      const shown = onPlaces(located);
      set(true, [located.words, ...located.notices].map(sentence).join(" "));
      if (located.places.length > 1) list.replaceChildren(...located.places.map((words, at) => listed(words, at, shown)));
    } catch (error) {
      if (running === controller) set(false, /** @type {Error} */ (error).message);
    }
  }

  return { button, line, list, reset: () => set(false) };
}

/** Return a place of the list, which emphasises its box or span, if that is shown, while it has the focus or pointer. */
function listed(words, at, shown) {
  const marks = shown.flatMap((one) => [...one.querySelectorAll(`[data-place="${at}"]`)]);
  if (!marks.length) return h("li", {}, words);
  const emphasise = (is) => () => marks.forEach((one) => one.classList.toggle("emphasised", is));
  return h("li", {}, h("button", {
    type: "button", class: "quiet",
    onfocus: emphasise(true), onblur: emphasise(false), onpointerenter: emphasise(true), onpointerleave: emphasise(false),
  }, words));
}

/**
 * Return the places as elements: the picture with its heat map and boxes, and the relevance over a recording.
 * @param {Located} located
 * @param {string} name of what is shown
 * @param {string} kind its modality
 * @returns {HTMLElement[]}
 */
export function placesView(located, name, kind) {
  const { picture, heat, curve, boxes, peak } = located;
  const shown = [];
  if (picture) {
    shown.push(h("div", { class: "boxes" },
      h("img", { src: picture, alt: `${name}: ${located.words}`, class: "figure" }),
      heat ? h("img", { src: heat, alt: "", class: "heat" }) : null,
      ...boxesOver(boxes, peak?.at_s ?? null)));
    if (heat) shown.push(h("div", { class: "scale note" }, "relevance 0", h("span", { class: "heat-colours" }), "1"));
  }
  if (curve?.times_s.length) shown.push(...curveOf(located, kind));
  return shown;
}

/** Return the boxes of the frame that is shown, the best one above the others, and their numbers if there are several. */
function boxesOver(boxes, atS) {
  const all = boxes.map((box, at) => ({ box, at })).filter(({ box }) => box.at_s === atS);
  const rects = all.flatMap(({ box, at }) => {
    const sides = { x: box.left * 1000, y: box.top * 1000, width: (box.right - box.left) * 1000, height: (box.bottom - box.top) * 1000 };
    return [s("rect", { ...sides, class: at ? "box" : "box best", "data-place": at }), s("rect", { ...sides, class: "halo" })];
  });
  return [
    s("svg", { viewBox: "0 0 1000 1000", preserveAspectRatio: "none", "aria-hidden": "true" }, ...rects.reverse()),
    labels(boxes.length > 1 ? all.map(({ box, at }) => label(box.left, box.top, String(at + 1))) : []),
  ];
}

/** Return labels over a figure whose coordinates are stretched, as these must not be. @param {SVGElement[]} texts */
const labels = (texts) => s("svg", { class: "labels", "aria-hidden": "true" }, ...texts);

/** Return a label right below a point, which is given in shares of width and height. */
const label = (x, y, text) => s("text", { x: `${100 * x}%`, y: `${100 * y}%`, dx: 5, dy: 15 }, text);

/** Return the relevance over time, below the time axis of the figure of its kind. */
function curveOf({ curve, spans }, kind) {
  const { times_s: times, relevance, start_s: start, end_s: end } = curve;
  const share = (time) => (time - start) / Math.max(end - start, 1e-9);
  const x = (time) => WIDTH * share(time);
  const values = [[start, relevance[0]], ...times.map((time, at) => [time, relevance[at]]), [end, relevance[relevance.length - 1]]];
  const chart = s("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "curve", role: "img",
    "aria-label": `Relevance from 0 to 1 over ${clock(start)} to ${clock(end)}`,
  },
  ...spans.map((one, at) => s("rect", {
    x: x(one.start_s), y: 0, width: x(one.end_s) - x(one.start_s), height: HEIGHT, class: "span", "data-place": at,
  })),
  s("polyline", { points: values.map(([time, value]) => `${x(time).toFixed(1)},${((1 - value) * HEIGHT).toFixed(1)}`).join(" ") }));
  const starts = spans.length > 1 ? spans.map((one, at) => label(share(one.start_s), 0, String(at + 1))) : [];
  return [
    h("div", { class: "chart", "data-axis": kind }, chart, labels(starts)),
    h("div", { class: "ends note", "data-axis": kind }, h("span", {}, clock(start)), h("span", {}, "relevance: 0 below, 1 above"), h("span", {}, clock(end))),
  ];
}
