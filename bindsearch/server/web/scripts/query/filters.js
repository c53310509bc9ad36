/** Kinds to search for, and filters. */

import { fetchColumns } from "../api.js";
import { byId, h, icon } from "../dom.js";
import { KINDS, kindName } from "../format.js";
import { countFilters } from "../state.js";
import { createCombobox } from "./suggest.js";

const FIELDS = ["where", "folder", "since", "until"];
const PAUSE_MS = 400;

/**
 * Show kinds and filters, and change the state.
 * @param {{get: () => import("../state.js").State, set: Function}} state
 */
export function createFilters(state) {
  const form = byId("filters");
  const button = byId("filters-button");
  const inputs = FIELDS.map((name) => /** @type {HTMLInputElement} */ (byId(name)));
  /** @type {import("./suggest.js").Column[]} */
  let columns = [];
  let generation = -1;
  let known = -1;
  let timer = 0;
  /** @type {Record<string, number>} */
  let counts = {};

  const read = () => {
    clearTimeout(timer);
    const patch = Object.fromEntries(FIELDS.map((name, index) => [name, inputs[index].value]));
    if (FIELDS.some((name) => state.get()[name] !== patch[name])) state.set(patch, { push: true });
  };
  for (const input of inputs) {
    input.addEventListener("input", () => {
      clearTimeout(timer);
      if (input.id !== "where") timer = setTimeout(read, PAUSE_MS); // half an expression is an error
    });
    input.addEventListener("change", read);
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    read();
  });
  byId("filters-clear").addEventListener("click", () => {
    for (const input of inputs) input.value = "";
    read();
    inputs[0].focus();
  });
  button.addEventListener("click", () => setOpen(form.hidden));
  const showAgain = createCombobox(inputs[0], byId("where-list"), () => columns);

  function setOpen(isOpen) {
    form.hidden = !isOpen;
    button.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) loadColumns();
  }

  async function loadColumns() {
    if (known === generation) return;
    known = generation;
    try {
      columns = await fetchColumns();
    } catch {
      known = -1; // without suggestions; the search itself tells what is wrong
      return;
    }
    showAgain();
    const folders = columns.find((one) => one.name === "folder")?.values ?? [];
    byId("folders").replaceChildren(...folders.map((one) => h("option", { value: String(one) })));
  }

  function toggle(modality) {
    const { to } = state.get();
    const next = to.includes(modality) ? to.filter((one) => one !== modality) : [...to, modality];
    state.set({ to: Object.keys(KINDS).filter((one) => next.includes(one)) }, { push: true });
  }

  function kindButtons() {
    const { to } = state.get();
    const present = Object.keys(KINDS).filter((one) => counts[one] || to.includes(one));
    return [
      h("button", {
        type: "button", class: "kind", "data-kind": "all", "aria-pressed": String(to.length === 0),
        onclick: () => state.set({ to: [] }, { push: true }),
      }, "All"),
      ...present.map((one) => h("button", {
        type: "button", class: "kind", "data-kind": one, "aria-pressed": String(to.includes(one)),
        "aria-label": `${kindName(one)}, ${counts[one] ?? 0} segments`, onclick: () => toggle(one),
      }, icon(one), h("span", {}, kindName(one)), h("small", {}, (counts[one] ?? 0).toLocaleString("en")))),
    ];
  }

  return {
    render() {
      const now = state.get();
      FIELDS.forEach((name, index) => {
        if (document.activeElement !== inputs[index] && inputs[index].value !== now[name]) inputs[index].value = now[name];
      });
      const n = countFilters(now);
      const badge = byId("filters-count");
      badge.hidden = n === 0;
      badge.textContent = String(n);
      const root = byId("kinds");
      const held = root.contains(document.activeElement) ? document.activeElement?.getAttribute("data-kind") : null;
      root.replaceChildren(...kindButtons());
      if (held) /** @type {HTMLElement | null} */ (root.querySelector(`[data-kind="${held}"]`))?.focus();
    },
    /** Take the counts of a new generation. @param {{generation: number, segments: Record<string, number>}} status */
    update(status) {
      counts = status.segments;
      generation = status.generation;
      this.render();
      if (!form.hidden) loadColumns();
    },
    open: () => setOpen(true),
  };
}
