/** The grid of hits. */

import { sized } from "../api.js";
import { bdi, byId, h, icon, isCalm, printable } from "../dom.js";
import { kindName, percent, span, splitName } from "../format.js";
import { badge, fold, matchBar } from "./match.js";

const SIDE_PX = 320;
const MAX_MOVING = 60;
const NEAR_END = "600px";
const MAX_PASSAGE = 240;

/** Return what tells a hit from others: item, modality, start. @param {import("../api.js").Hit} hit */
export const keyOf = (hit) => [hit.item_id, hit.modality, hit.start_s ?? ""].join("@");

/**
 * @typedef {object} Handlers
 * @property {(hit: import("../api.js").Hit) => void} onOpen
 * @property {(hit: import("../api.js").Hit) => void} onLike
 * @property {(hit: import("../api.js").Hit) => void} onAdd
 * @property {() => void} onMore
 * @property {(isShown: boolean) => void} onWeak
 */

/** @param {Handlers} handlers */
export function createGallery({ onOpen, onLike, onAdd, onMore, onWeak }) {
  const grids = [byId("grid"), byId("weak-grid")];
  const weakButton = byId("weak-button");
  const more = byId("more");
  /** @type {Map<string, {element: HTMLElement, hit: import("../api.js").Hit}>} */
  let cards = new Map();
  let canGrow = false;

  weakButton.addEventListener("click", () => onWeak(weakButton.getAttribute("aria-expanded") !== "true"));
  more.addEventListener("click", onMore);
  new IntersectionObserver((entries) => {
    if (canGrow && entries.some((one) => one.isIntersecting) && scrollY > 0) onMore();
  }, { rootMargin: NEAR_END }).observe(more);

  const shownCards = () =>
    grids.filter((one) => !one.hidden).flatMap((one) => [.../** @type {NodeListOf<HTMLElement>} */ (one.querySelectorAll(".card"))]);

  /** Make one card the place where Tab enters the grid. @param {HTMLElement | undefined} card */
  function setEntry(card) {
    for (const one of shownCards()) one.tabIndex = one === card ? 0 : -1;
  }

  function makeCard(hit) {
    const { folder, last } = splitName(hit.name);
    const time = span(hit.start_s, hit.end_s);
    const frame = h("span", { class: "frame", "data-kind": hit.modality }, picture(hit), badge(hit.modality), time ? h("span", { class: "time" }, time) : null);
    const label = [last, kindName(hit.modality), `${hit.match} match, ${percent(hit.probability)}`, time].filter(Boolean);
    const card = h("button", {
      type: "button", class: "card", tabindex: -1, "aria-label": printable(label.join(", ")),
      onclick: () => onOpen(cards.get(keyOf(hit))?.hit ?? hit),
      onfocus: () => setEntry(card),
    }, frame,
    h("span", { class: "line" }, h("span", { class: "name", title: printable(hit.name) }, bdi(last))),
    h("span", { class: "line" }, matchBar(hit), folder ? h("span", { class: "folder" }, bdi(folder)) : null));
    const like = h("button", {
      type: "button", class: "like", tabindex: -1, title: "More like this (l)", "aria-label": `More like ${printable(last)}`,
      onclick: () => onLike(hit),
    }, icon("like"));
    return h("li", { "data-key": keyOf(hit) }, card, like);
  }

  /** Take the cards of the last answer where they still say the same, so that pictures stay while a list is re-ordered. */
  function place(grid, hits, fresh) {
    const elements = hits.map((hit) => {
      const key = keyOf(hit);
      const kept = cards.get(key);
      const isSame = kept && kept.hit.match === hit.match && kept.hit.probability === hit.probability;
      const element = isSame ? kept.element : replaced(kept, makeCard(hit));
      fresh.set(key, { element, hit });
      return element;
    });
    grid.replaceChildren(...elements);
  }

  return {
    /**
     * Show an answer.
     * @param {import("../api.js").Answer} answer
     * @param {{showWeak: boolean, canGrow: boolean}} options
     */
    render(answer, options) {
      const before = positions(shownCards());
      const focused = /** @type {HTMLElement | null} */ (document.activeElement?.closest(".grid > li"))?.dataset.key;
      const { shown, folded } = fold(answer.hits);
      const fresh = new Map();
      place(grids[0], shown, fresh);
      place(grids[1], folded, fresh);
      cards = fresh;
      grids[1].hidden = !options.showWeak;
      weakButton.hidden = folded.length === 0;
      weakButton.setAttribute("aria-expanded", String(options.showWeak));
      const n = folded.length;
      weakButton.textContent = options.showWeak ? "Hide weak matches" : `Show ${n} weak ${n === 1 ? "match" : "matches"}`;
      canGrow = options.canGrow && (options.showWeak || folded.length === 0);
      more.hidden = !canGrow;
      const held = focused === undefined ? undefined : cards.get(focused)?.element.querySelector(".card");
      if (held instanceof HTMLElement) held.focus({ preventScroll: true });
      setEntry(held instanceof HTMLElement ? held : shownCards()[0]);
      moveFrom(before, shownCards());
    },
    clear() {
      cards = new Map();
      for (const grid of grids) grid.replaceChildren();
      weakButton.hidden = true;
      more.hidden = true;
      canGrow = false;
    },
    /** Move the focus by a key; false: the key does not move. @param {string} key */
    move(key) {
      const all = shownCards();
      const at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
      const next = nextCard(all, at, key);
      if (next === undefined) return false;
      next.focus();
      next.scrollIntoView({ block: "nearest" });
      return true;
    },
    /** Focus the first card. */
    enter() {
      const [first] = shownCards();
      first?.focus();
      return first !== undefined;
    },
    /** The hit that has the focus. */
    focused() {
      const key = /** @type {HTMLElement | null} */ (document.activeElement?.closest(".grid > li"))?.dataset.key;
      return key === undefined ? undefined : cards.get(key)?.hit;
    },
    /** Focus the card of a hit, if it is shown. @param {string} key */
    focus(key) {
      const card = cards.get(key)?.element.querySelector(".card");
      if (card instanceof HTMLElement && !card.closest("[hidden]")) card.focus();
      else this.enter();
    },
    like: onLike,
    add: onAdd,
  };
}

/** Keep the picture of a card whose numbers have changed. */
function replaced(kept, element) {
  const old = kept?.element.querySelector("img");
  if (old && !old.hidden) element.querySelector("img")?.replaceWith(old);
  return element;
}

function picture(hit) {
  if (hit.modality === "text" && hit.text) {
    return h("span", { class: "passage" }, bdi(hit.text.replace(/\s+/g, " ").trim().slice(0, MAX_PASSAGE)));
  }
  const image = h("img", {
    src: sized(hit.thumbnail, SIDE_PX), alt: "", loading: "lazy", decoding: "async", width: SIDE_PX, height: SIDE_PX,
    onerror: () => image.replaceWith(h("span", { class: "blank" }, icon(hit.modality), hit.is_missing ? "The file is gone" : null)),
  });
  return image;
}

/** Return the card that an arrow leads to; rows are told by the positions of the cards. */
function nextCard(all, at, key) {
  if (!all.length || at < 0) return undefined;
  const sign = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (sign) return all[at + sign];
  if (key === "Home") return all[0];
  if (key === "End") return all[all.length - 1];
  if (key !== "ArrowUp" && key !== "ArrowDown") return undefined;
  const here = all[at].getBoundingClientRect();
  const down = key === "ArrowDown";
  const rows = all
    .map((card) => ({ card, box: card.getBoundingClientRect() }))
    .filter(({ box }) => (down ? box.top > here.top + 4 : box.top < here.top - 4));
  if (!rows.length) return undefined;
  const top = down ? Math.min(...rows.map(({ box }) => box.top)) : Math.max(...rows.map(({ box }) => box.top));
  const row = rows.filter(({ box }) => Math.abs(box.top - top) < 4);
  return row.reduce((best, one) => (Math.abs(one.box.left - here.left) < Math.abs(best.box.left - here.left) ? one : best)).card;
}

function positions(cards) {
  return new Map(cards.slice(0, MAX_MOVING).map((card) => [card.parentElement?.dataset.key, card.getBoundingClientRect()]));
}

/** Let cards glide from where they were (first, last, invert, play), unless the reader wants less motion. */
function moveFrom(before, cards) {
  if (isCalm()) return;
  for (const card of cards.slice(0, MAX_MOVING)) {
    const old = before.get(card.parentElement?.dataset.key);
    const now = card.getBoundingClientRect();
    const [dx, dy] = old ? [old.left - now.left, old.top - now.top] : [0, 0];
    if (dx || dy) {
      card.parentElement?.animate([{ transform: `translate(${dx}px, ${dy}px)` }, { transform: "none" }], {
        duration: 180,
        easing: "ease-out",
      });
    }
  }
}
