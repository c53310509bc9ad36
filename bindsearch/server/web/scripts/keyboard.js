/** Keys of the page. */

import { byId } from "./dom.js";

/**
 * Listen for keys.
 * @param {object} page
 * @param {ReturnType<typeof import("./results/gallery.js").createGallery>} page.gallery
 * @param {() => boolean} page.isDetailOpen
 * @param {(step: number) => void} page.step
 * @param {(replace: boolean) => void} page.likeOpen more like the open item: instead of the query, or as a term of it
 * @param {() => void} page.toggleMap
 * @param {() => void} page.toggleWeak
 */
export function listenForKeys(page) {
  const search = /** @type {HTMLInputElement} */ (byId("search"));
  const help = /** @type {HTMLDialogElement} */ (byId("help"));
  byId("help-button").addEventListener("click", () => help.showModal());

  const keys = {
    "/": () => {
      search.focus();
      search.select();
    },
    m: page.toggleMap,
    w: page.toggleWeak,
    "?": () => help.showModal(),
    l: () => withFocused(page.gallery.like),
    a: () => withFocused(page.gallery.add),
  };
  const inDetail = {
    ArrowLeft: () => page.step(-1),
    ArrowRight: () => page.step(1),
    l: () => page.likeOpen(true),
    a: () => page.likeOpen(false),
  };

  function withFocused(act) {
    const hit = page.gallery.focused();
    if (hit) act(hit);
  }

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = /** @type {HTMLElement} */ (event.target);
    if (target === search) return inSearch(event);
    if (target.matches("input, textarea, select, canvas, audio, video") && event.key !== "/" && event.key !== "?") return;
    if (target.matches("input:not([type=range]), textarea")) return;
    if (page.isDetailOpen()) return run(event, inDetail);
    if (document.querySelector("dialog[open]")) return;
    if (target.closest(".grid") && page.gallery.move(event.key)) event.preventDefault();
    else run(event, keys);
  });

  function run(event, known) {
    const act = known[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  function inSearch(event) {
    if (event.key === "Escape") search.blur();
    else if (event.key === "ArrowDown" && page.gallery.enter()) event.preventDefault();
  }
}
