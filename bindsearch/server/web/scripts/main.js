/** The page: parts and how they act on each other. */

import { fetchItem, fetchStatus, latestSearch } from "./api.js";
import { bdi, byId, h, icon, printable } from "./dom.js";
import { kindName, plural } from "./format.js";
import { listenForKeys } from "./keyboard.js";
import { createLive } from "./live.js";
import { createMap } from "./map/map.js";
import { createFilters } from "./query/filters.js";
import { listenForRecording } from "./query/recorder.js";
import { createTerms, nameOf } from "./query/terms.js";
import { listenForFiles, sendFile } from "./query/uploads.js";
import { createDetail } from "./results/detail.js";
import { createGallery, keyOf } from "./results/gallery.js";
import { fold } from "./results/match.js";
import { commandLine, planDetails } from "./results/plan.js";
import { MAX_K, PAGE, allTerms, countFilters, createState, toQuery } from "./state.js";

const TYPING_PAUSE_MS = 120;
/** An option of a command: what to try in a terminal, for which the page has buttons of its own. */
const OPTION = /(^|\s)--[a-z]/;
const EXAMPLES = ["a dog barking", "rain on the roof", "a person walking", "a cup of coffee"];

const input = /** @type {HTMLInputElement} */ (byId("search"));
/** @type {import("./api.js").Answer | null} */
let answer = null;
/** @type {object | null} */
let asked = null;
let typingTimer = 0;
let maxUploadBytes = 64 << 20;
let isFirst = true;
let focusFirst = false; // after a step by keyboard

const state = createState(onChange);
const searching = latestSearch(onAnswer, showError, (isBusy) => byId("results").setAttribute("aria-busy", String(isBusy)));
const filters = createFilters(state);
const terms = createTerms(state);
const gallery = createGallery({
  onOpen: (hit) => state.set({ item: keyOf(hit) }, { push: true }),
  onLike: (hit) => searchLike(hit.item_id, hit.name, hit.modality),
  onAdd: (hit) => addLike(hit.item_id, hit.name, hit.modality),
  onMore: () => state.set({ k: Math.min(MAX_K, state.get().k + PAGE) }),
  onWeak: (isShown) => state.set({ showWeak: isShown }),
});
const detail = createDetail({
  onClose: () => {
    const key = state.get().item;
    if (key === null) return;
    state.set({ item: null });
    if (state.get().view === "search") gallery.focus(key);
  },
  onLike: searchLike,
  onAdd: addLike,
  onStep: step,
});
const map = createMap({
  onOpen: (id, modality, start_s) => state.set({ item: [id, modality, start_s ?? ""].join("@") }, { push: true }),
  onError: showError,
});
const live = createLive({
  onCounts: (data) => {
    filters.update(data);
    map.outdate();
    renderEmpty(data);
  },
  onRefresh: () => run({ isAgain: true }),
});

/** Act on a change of the state. */
function onChange(now, before, { isLive }) {
  if (input.value !== now.typed) input.value = now.typed;
  byId("add-text").hidden = !now.typed.trim();
  render(now);
  const isSameQuery = JSON.stringify(toQuery(now)) === JSON.stringify(toQuery(before));
  if (!isSameQuery) {
    clearTimeout(typingTimer);
    const isTyping = now.typed !== before.typed && document.activeElement === input;
    if (isTyping) typingTimer = setTimeout(run, TYPING_PAUSE_MS);
    else run({ mayWait: isLive });
  } else if (now.showWeak !== before.showWeak && answer) {
    renderAnswer();
  }
  if (now.item !== before.item) showItem(now.item);
  if (now.view !== before.view && now.view === "map") map.show();
}

function render(now) {
  filters.render();
  terms.render();
  const isMap = now.view === "map";
  document.body.dataset.view = now.view;
  byId("results").hidden = isMap;
  byId("map").hidden = !isMap;
  byId("view-search").setAttribute("aria-pressed", String(!isMap));
  byId("view-map").setAttribute("aria-pressed", String(isMap));
  const title = allTerms(now).map(nameOf).join(" + ");
  document.title = title ? `${printable(title).slice(0, 80)} · BindSearch` : "BindSearch";
}

/**
 * Ask the server.
 * @param {{isAgain?: boolean, mayWait?: boolean}} [options] isAgain: although the query is the same; mayWait: after the
 *   search that runs, whose answer is shown too
 */
function run({ isAgain = false, mayWait = false } = {}) {
  clearTimeout(typingTimer);
  const query = toQuery(state.get());
  if (!query) {
    searching.cancel();
    answer = null;
    asked = null;
    clearResults();
    return;
  }
  if (!isAgain && asked && JSON.stringify(asked) === JSON.stringify(query)) {
    searching.cancel();
    return;
  }
  searching.ask(query, { mayWait });
}

function onAnswer(query, given) {
  answer = given;
  asked = query;
  live.answered();
  hideError();
  renderAnswer();
  const { item } = state.get();
  if (item !== null && isFirst) showItem(item);
  isFirst = false;
  if (focusFirst) gallery.enter();
  focusFirst = false;
}

function clearResults() {
  gallery.clear();
  for (const id of ["how", "nothing"]) byId(id).hidden = true;
  byId("notices").replaceChildren();
  byId("count").textContent = "";
  byId("empty").hidden = false;
  hideError();
}

function renderAnswer() {
  if (!answer || !asked) return;
  const { showWeak, k } = state.get();
  const { hits } = answer;
  byId("empty").hidden = true;
  gallery.render(answer, { showWeak, canGrow: hits.length >= k && k < MAX_K });
  const { shown, folded } = fold(hits);
  const weak = folded.length ? `, ${plural(folded.length, "weak match", "weak matches")}${showWeak ? "" : " folded"}` : "";
  const took = answer.took_ms < 1 ? "< 1 ms" : `${Math.round(answer.took_ms)} ms`;
  byId("count").textContent = hits.length
    ? `${plural(shown.length, "match", "matches")}${weak} · ${plural(answer.searched.segments, "segment")} searched in ${took}`
    : "No matches";
  byId("notices").replaceChildren(...answer.notices.map((one) => h("p", {}, bdi(one))));
  renderNothing(shown.length === 0);
  byId("how").hidden = false;
  byId("how-body").replaceChildren(commandLine(answer.command), planDetails(asked));
}

/** Say plainly that nothing was found, or nothing that means anything, and what may help. */
function renderNothing(isNothing) {
  const root = byId("nothing");
  const isPlain = answer !== null && (answer.hits.length === 0 || !answer.stands_out);
  root.hidden = !isPlain && !isNothing;
  if (root.hidden || !answer) return;
  const title = answer.hits.length ? "Nothing stands out" : "Nothing was found";
  const why = answer.hits.length
    ? "The matches are guesses: chance finds as good ones."
    : countFilters(state.get()) ? "No file passes the filters." : "The collection holds nothing of these kinds.";
  root.replaceChildren(h("h2", {}, title), h("p", {}, why), suggestionList());
}

function suggestionList() {
  const now = state.get();
  const steps = [];
  for (const { text, query } of answer?.suggestions ?? []) {
    if (query) steps.push(button(text, () => setText(query)));
    else if (!OPTION.test(text)) steps.push(h("span", {}, bdi(text)));
  }
  if (now.to.length) steps.push(button("Search all kinds", () => state.set({ to: [] }, { push: true })));
  if (countFilters(now)) {
    steps.push(button("Leave out the filters", () => state.set({ where: "", folder: "", since: "", until: "" }, { push: true })));
  }
  if (!steps.length) steps.push(h("span", {}, "Try other or fewer words, or search with a picture or a sound."));
  return h("ul", { class: "suggestions" }, ...steps.map((one) => h("li", {}, one)));
}

const button = (text, act) => h("button", { type: "button", onclick: act }, bdi(text));

function setText(text) {
  state.set({ typed: text }, { push: true });
}

/** Show how to begin. */
function renderEmpty(data) {
  const kinds = Object.entries(data.segments).filter(([, n]) => n);
  const total = kinds.reduce((sum, [, n]) => sum + n, 0);
  const begin = total
    ? [h("h2", {}, "Search by what things are, not by their names"),
       h("p", {}, "Describe something, or drop a picture, a sound, a video or a recording of motion: each finds all the others."),
       h("ul", { class: "suggestions", "aria-label": "Examples" }, ...EXAMPLES.map((one) => h("li", {}, button(one, () => setText(one)))))]
    : [h("h2", {}, "The store is empty"), h("p", {}, "Index a folder; what it holds appears here by itself:"), commandLine("bindsearch index FOLDER")];
  byId("empty").replaceChildren(...begin,
    h("ul", { class: "holds", "aria-label": "What the store holds" }, ...kinds.map(([kind, n]) =>
      h("li", { "data-kind": kind }, icon(kind), h("b", {}, n.toLocaleString("en")), h("span", {}, kindName(kind))))));
}

async function showItem(key) {
  if (key === null) {
    detail.close();
    return;
  }
  const [id, modality, start] = key.split("@");
  const hit = answer?.hits.find((one) => keyOf(one) === key);
  const names = allTerms(state.get()).map(nameOf);
  try {
    await detail.open({
      item_id: Number(id), modality: modality || null, start_s: start ? Number(start) : null, hit, query: asked, names,
      answer: hit ? answer : null,
    });
  } catch (error) {
    detail.close();
    showError(/** @type {Error} */ (error));
  }
}

/** Open the hit before or after the open one. */
function step(by) {
  const { item, showWeak } = state.get();
  const folded = fold(answer?.hits ?? []);
  const list = showWeak ? [...folded.shown, ...folded.folded] : folded.shown;
  const next = list[list.findIndex((one) => keyOf(one) === item) + by];
  if (item !== null && next && list.some((one) => keyOf(one) === item)) state.set({ item: keyOf(next) });
}

function searchLike(id, name, modality) {
  focusFirst = true;
  state.set({
    item: null, typed: "", typedWeight: null, view: "search",
    terms: [{ kind: "like", source: String(id), name, modality, weight: null }],
  }, { push: true });
}

function addLike(id, name, modality) {
  state.set({ item: null, view: "search" });
  terms.add({ kind: "like", source: String(id), name, modality, weight: null });
}

async function addFiles(files) {
  for (const file of files) await addFile(file, file.name || "pasted.png");
}

async function addFile(blob, name) {
  byId("results").setAttribute("aria-busy", "true");
  try {
    const term = await sendFile(blob, name, maxUploadBytes);
    state.set({ view: "search" });
    terms.add(term);
  } catch (error) {
    showError(/** @type {Error} */ (error));
  }
}

function showError(error) {
  byId("results").setAttribute("aria-busy", "false");
  byId("error").textContent = printable(error.message);
  byId("error").hidden = false;
}

function hideError() {
  byId("error").hidden = true;
  byId("error").textContent = "";
}

function keepText() {
  const typed = state.get().typed.trim();
  if (!typed) return;
  const weight = state.get().typedWeight;
  const term = { kind: "text", source: typed, weight };
  state.set({ typed: "", typedWeight: null, terms: [term, ...state.get().terms] }, { push: true });
  input.focus();
}

function toggleMap() {
  state.set({ view: state.get().view === "map" ? "search" : "map" }, { push: true });
}

function switchTheme() {
  const order = ["", "light", "dark"];
  const root = document.documentElement;
  const next = order[(order.indexOf(root.dataset.theme ?? "") + 1) % order.length];
  if (next) root.dataset.theme = next;
  else delete root.dataset.theme;
  try {
    localStorage.setItem("theme", next);
  } catch {
    // storage is switched off: for this visit only
  }
  nameTheme();
  map.redraw();
}

function nameTheme() {
  const names = { light: "light", dark: "dark" };
  const text = `Colours: ${names[document.documentElement.dataset.theme ?? ""] ?? "as the system has them"}`;
  byId("theme").title = text;
  byId("theme").setAttribute("aria-label", text);
}

/** Start. */
function start() {
  input.addEventListener("input", () => state.set({ typed: input.value }));
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.shiftKey) {
      event.preventDefault();
      keepText();
    }
  });
  byId("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    state.set({ view: "search" });
    run();
  });
  byId("add-text").addEventListener("click", keepText);
  byId("view-search").addEventListener("click", () => state.set({ view: "search" }, { push: true }));
  byId("view-map").addEventListener("click", () => state.set({ view: "map" }, { push: true }));
  byId("theme").addEventListener("click", switchTheme);
  listenForFiles({ onFiles: addFiles, onText: setText });
  listenForRecording({ onSound: addFile, onError: (message) => showError(new Error(message)) });
  listenForKeys({
    gallery, step, toggleMap,
    isDetailOpen: detail.isOpen,
    toggleWeak: () => state.set({ showWeak: !state.get().showWeak }),
    likeOpen: (isInstead) => clickInDetail(isInstead ? ".actions .primary" : ".actions button:not(.primary)"),
  });
  nameTheme();
  const now = state.get();
  input.value = now.typed;
  byId("add-text").hidden = !now.typed.trim();
  if (countFilters(now)) filters.open();
  render(now);
  if (toQuery(now)) run();
  else clearResults();
  nameItems();
  if (now.view === "map") map.show();
  if (now.item !== null && !toQuery(now)) showItem(now.item);
  live.start();
  fetchStatus().then((status) => {
    maxUploadBytes = status.uploads_max_bytes;
  }, showError);
  if (!now.item && matchMedia("(pointer: fine)").matches) input.focus();
}

/** Fetch the names of items that an address gives by id. */
async function nameItems() {
  const nameless = state.get().terms.filter((one) => one.kind === "like" && !one.name);
  const found = await Promise.all(nameless.map((one) => fetchItem(one.source).catch(() => null)));
  const names = new Map(found.filter(Boolean).map((one) => [String(one.item_id), one]));
  const { terms, k } = state.get();
  if (!names.size) return;
  const named = (one) => ({ ...one, name: names.get(one.source).name, modality: names.get(one.source).modality });
  state.set({ terms: terms.map((one) => (one.kind === "like" && names.has(one.source) ? named(one) : one)), k });
}

function clickInDetail(selector) {
  /** @type {HTMLElement | null} */ (byId("detail").querySelector(selector))?.click();
}

start();
