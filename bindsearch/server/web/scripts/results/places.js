/** Where a hit answers the query: boxes and a heat map over its picture, the relevance over a recording. */

import { locate } from "../api.js";
import { bdi, h, icon, s } from "../dom.js";
import { clock } from "../format.js";

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
 * @property {string} words
 * @property {string | null} picture
 * @property {string | null} heat
 * @property {string[]} notices
 */

/**
 * Return a button that shows the places of a segment, and a line that says what was found. While it runs, the button
 * stops it; when it is pressed again, the segment is shown as before.
 * @param {() => object} asked what is located: query, item_id, modality, start_s
 * @param {(located: Located) => void} onPlaces
 * @param {() => void} onPlain
 */
export function placesButton(asked, onPlaces, onPlain) {
  const label = h("span", {}, "Where?");
  const line = h("p", { class: "note places", role: "status" });
  const button = h("button", { type: "button", class: "labelled", "aria-pressed": "false", onclick: act }, icon("where"), label);
  /** @type {AbortController | null} */
  let running = null;

  function set(isShown, words = "") {
    running?.abort();
    running = null;
    label.textContent = "Where?";
    button.setAttribute("aria-pressed", String(isShown));
    line.replaceChildren(bdi(words));
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
      onPlaces(located);
      set(true, [`${located.words[0].toUpperCase()}${located.words.slice(1)}.`, ...located.notices].join(" "));
    } catch (error) {
      if (running === controller) set(false, /** @type {Error} */ (error).message);
    }
  }

  return { button, line, reset: () => set(false) };
}

/**
 * Return the places as elements: the picture with its heat map and boxes, and the relevance over a recording.
 * @param {Located} located
 * @param {string} name of what is shown
 * @returns {HTMLElement[]}
 */
export function placesView(located, name) {
  const { picture, heat, curve } = located;
  const shown = [];
  if (picture) {
    shown.push(h("div", { class: "boxes" },
      h("img", { src: picture, alt: `${name}: ${located.words}`, class: "figure" }),
      heat ? h("img", { src: heat, alt: "", class: "heat" }) : null,
      boxesOver(located.boxes.filter((one) => one.at_s === located.boxes[0].at_s))));
  }
  if (curve?.times_s.length) shown.push(...curveOf(located));
  return shown;
}

function boxesOver(boxes) {
  const rects = boxes.flatMap((one, rank) => {
    const sides = { x: one.left * 1000, y: one.top * 1000, width: (one.right - one.left) * 1000, height: (one.bottom - one.top) * 1000 };
    return [s("rect", { ...sides, class: rank ? "box" : "box best" }), s("rect", { ...sides, class: "halo" })];
  });
  return s("svg", { viewBox: "0 0 1000 1000", preserveAspectRatio: "none", "aria-hidden": "true" }, ...rects.reverse());
}

function curveOf({ curve, spans }) {
  const { times_s: times, relevance, start_s: start, end_s: end } = curve;
  const x = (time) => ((time - start) * WIDTH) / Math.max(end - start, 1e-9);
  const values = [[start, relevance[0]], ...times.map((time, at) => [time, relevance[at]]), [end, relevance[relevance.length - 1]]];
  const chart = s("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "curve", role: "img",
    "aria-label": `Relevance from 0 to 1 over ${clock(start)} to ${clock(end)}`,
  },
  ...spans.map((one) => s("rect", { x: x(one.start_s), y: 0, width: x(one.end_s) - x(one.start_s), height: HEIGHT, class: "span" })),
  s("polyline", { points: values.map(([time, value]) => `${x(time).toFixed(1)},${((1 - value) * HEIGHT).toFixed(1)}`).join(" ") }));
  return [chart, h("div", { class: "ends note" }, h("span", {}, clock(start)), h("span", {}, clock(end)))];
}
