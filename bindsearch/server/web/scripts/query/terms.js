/** The terms of the query: chips with sliders of weight from -1 to 1. */

import { itemThumbnail, uploadThumbnail } from "../api.js";
import { bdi, byId, h, icon, setVars } from "../dom.js";
import { kindName, signed } from "../format.js";
import { allTerms, defaultWeight } from "../state.js";

/**
 * Show the terms, and change the state as the reader moves them.
 * @param {{get: () => import("../state.js").State, set: Function}} state
 */
export function createTerms(state) {
  const root = byId("terms");
  let shape = "";

  /** Terms with the position in `state.terms`; -1 is the text in the box. */
  function positions() {
    const now = state.get();
    const offset = now.typed.trim() ? 1 : 0;
    return allTerms(now).map((term, index) => ({ term, position: index - offset }));
  }

  function setWeight(position, weight) {
    const now = state.get();
    const n = allTerms(now).length;
    const fixed = (one) => ({ ...one, weight: one.weight ?? defaultWeight(n) });
    const terms = now.terms.map((one, index) => (index === position ? { ...one, weight } : fixed(one)));
    const typedWeight = position === -1 ? weight : (now.typedWeight ?? defaultWeight(n));
    state.set({ terms, typedWeight: now.typed.trim() ? typedWeight : null, k: now.k }, { isLive: true });
  }

  function remove(position) {
    const now = state.get();
    const rest = now.terms.filter((_, index) => index !== position);
    const left = rest.length + (position === -1 || !now.typed.trim() ? 0 : 1);
    const plain = (one) => (left > 1 ? one : { ...one, weight: null });
    const typed = position === -1 ? { typed: "", typedWeight: null } : left > 1 ? {} : { typedWeight: null };
    state.set({ ...typed, terms: rest.map(plain) }, { push: true });
    const next = root.querySelectorAll(".remove");
    /** @type {HTMLElement} */ (next[Math.min(position + 1, next.length - 1)] ?? byId("search")).focus();
  }

  function chip({ term, position }, isAlone) {
    const label = nameOf(term);
    const value = h("output", { class: "weight" }, signed(term.weight));
    const slider = h("input", {
      type: "range", min: -1, max: 1, step: 0.05, value: term.weight, "aria-label": `Weight of ${label}`,
      oninput: () => {
        const weight = Number(slider.value);
        mark(weight);
        setWeight(position, weight);
      },
      ondblclick: () => {
        slider.value = "0.5";
        slider.dispatchEvent(new Event("input"));
      },
    });
    const mark = (weight) => {
      value.textContent = signed(weight);
      slider.setAttribute("aria-valuetext", signed(weight));
      setVars(slider, { from: `${Math.min(50, 50 + weight * 50)}%`, to: `${Math.max(50, 50 + weight * 50)}%` });
      element.classList.toggle("negative", weight < 0);
    };
    const element = h("div", { class: "term", role: "group", "aria-label": `Term: ${label}` },
      pictureOf(term),
      h("span", { class: "term-name", title: label }, bdi(label)),
      isAlone ? null : slider,
      isAlone ? null : value,
      h("button", {
        type: "button", class: "quiet remove", "aria-label": `Remove ${label}`, title: "Remove",
        onclick: () => remove(position),
      }, icon("close")),
    );
    mark(term.weight);
    return element;
  }

  return {
    /** Draw the chips again where terms came or went; sliders that are held stay. */
    render() {
      const shown = positions();
      root.hidden = shown.length === 0 || (shown.length === 1 && shown[0].position === -1);
      const next = JSON.stringify(shown.map(({ term, position }) => [term.kind, term.source, term.name, position]));
      const sliders = [.../** @type {NodeListOf<HTMLInputElement>} */ (root.querySelectorAll("input[type=range]"))];
      const isSame = next === shape && sliders.every((one, index) => Number(one.value) === shown[index].term.weight);
      if (isSame) return;
      shape = next;
      root.replaceChildren(...shown.map((one) => chip(one, shown.length === 1)));
    },
    /** Add a term; the others keep their weights. @param {import("../state.js").Term} term */
    add(term) {
      const now = state.get();
      if (term.kind !== "text" && now.terms.some((one) => one.kind === term.kind && one.source === term.source)) return;
      state.set({ terms: [...now.terms, withWeight(term, now)] }, { push: true });
    },
  };
}

/** Return a term with 0.5 if the reader has weighed others. */
function withWeight(term, state) {
  const isWeighed = state.typedWeight !== null || state.terms.some((one) => one.weight !== null);
  return { ...term, weight: isWeighed ? 0.5 : null };
}

/** @param {import("../state.js").Term} term */
export function nameOf(term) {
  if (term.kind === "text") return term.source;
  return term.name || (term.kind === "like" ? `item ${term.source}` : "a file");
}

function pictureOf(term) {
  if (term.kind === "text") return h("span", { class: "term-picture" }, icon("text"));
  const source = term.kind === "like" ? itemThumbnail(term.source) : uploadThumbnail(term.source);
  const picture = h("img", {
    src: source, alt: "", width: 40, height: 40,
    onerror: () => picture.replaceWith(icon(term.modality || "like")),
  });
  return h("span", { class: "term-picture", title: term.modality ? kindName(term.modality) : null }, picture);
}
