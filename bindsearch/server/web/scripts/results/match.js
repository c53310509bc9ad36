/** What a hit means, in words and as a bar; and which hits are worth showing. */

import { h, icon, setVars } from "../dom.js";
import { kindName, percent } from "../format.js";

const WEAK = "weak";
/** Least probability of a hit that stands out from what chance finds (STANDS_OUT in bindsearch/types.py). */
const STANDS_OUT = 0.03;

/**
 * Return the hits to show and those to fold: weak ones, but those that stand out if there are no better ones.
 * @param {import("../api.js").Hit[]} hits
 */
export function fold(hits) {
  const better = hits.filter((hit) => hit.match !== WEAK);
  const shown = better.length ? better : hits.filter((hit) => hit.probability >= STANDS_OUT);
  return { shown, folded: hits.filter((hit) => !shown.includes(hit)) };
}

/** Return the match as a bar and a word. @param {import("../api.js").Hit} hit */
export function matchBar(hit) {
  const bar = h("span", { class: "meter", "aria-hidden": "true", vars: { share: hit.probability.toFixed(4) } });
  return h("span", { class: `match match-${hit.match}`, title: percent(hit.probability) }, bar, h("span", {}, hit.match));
}

/** Return the badge of a kind. @param {string} modality */
export const badge = (modality) =>
  h("span", { class: "badge", "data-kind": modality }, icon(modality), h("span", {}, kindName(modality)));

/**
 * Return each term's share of the cosine as bars from the middle.
 * @param {number[]} contributions
 * @param {string[]} names
 */
export function contributionBars(contributions, names) {
  const largest = Math.max(0.01, ...contributions.map(Math.abs));
  return h("ul", { class: "shares" }, ...contributions.map((share, index) => {
    const half = (Math.abs(share) / largest) * 50;
    const bar = h("span", {
      class: share < 0 ? "share negative" : "share", "aria-hidden": "true",
      vars: { from: `${share < 0 ? 50 - half : 50}%`, length: `${half}%` },
    });
    const name = h("bdi", { dir: "auto", class: "share-name" }, names[index] ?? `term ${index + 1}`);
    return h("li", {}, name, bar, h("span", { class: "number" }, `${share < 0 ? "−" : "+"}${Math.abs(share).toFixed(3)}`));
  }));
}
