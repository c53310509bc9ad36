/** What the reader asks and sees, kept in the address of the page, so that back, reload and links work. */

/**
 * A term of the query beside the text in the box.
 * @typedef {object} Term
 * @property {"text" | "upload" | "like"} kind
 * @property {string} source the text, the id of the upload, or the id of the item
 * @property {number | null} weight null: the default
 * @property {string} [name] of the file
 * @property {string} [modality] of the file
 */

/**
 * @typedef {object} State
 * @property {string} typed text in the search box
 * @property {number | null} typedWeight its weight; null: the default
 * @property {Term[]} terms
 * @property {string[]} to target modalities; empty: all
 * @property {string} where
 * @property {string} folder
 * @property {string} since
 * @property {string} until
 * @property {number} k
 * @property {boolean} showWeak
 * @property {"search" | "map"} view
 * @property {string | null} item key of the open item: id, or id@modality@start
 */

export const PAGE = 24;
export const MAX_K = 1000;
const MAX_TERMS = 16;
const URL_PAUSE_MS = 250;
/** Parts of the state that make another query, whose list begins with its first page. */
const QUERY_PARTS = ["typed", "terms", "to", "where", "folder", "since", "until"];

/** @type {State} */
const EMPTY = Object.freeze({
  typed: "",
  typedWeight: null,
  terms: [],
  to: [],
  where: "",
  folder: "",
  since: "",
  until: "",
  k: PAGE,
  showWeak: false,
  view: "search",
  item: null,
});

/** Return the state that an address holds. @param {string} search @returns {State} */
export function readAddress(search) {
  const given = new URLSearchParams(search);
  const text = (name) => given.get(name) ?? "";
  return {
    ...EMPTY,
    typed: text("q"),
    typedWeight: weightOf(text("w")),
    terms: given.getAll("term").slice(0, MAX_TERMS).flatMap(readTerm),
    to: text("to").split(",").filter(Boolean),
    where: text("where"),
    folder: text("under"),
    since: text("since"),
    until: text("until"),
    k: Math.min(MAX_K, Math.max(PAGE, Number.parseInt(text("k"), 10) || PAGE)),
    showWeak: text("weak") === "1",
    view: text("view") === "map" ? "map" : "search",
    item: given.get("item"),
  };
}

/** Return the address of a state. @param {State} state */
export function writeAddress(state) {
  const out = new URLSearchParams();
  const put = (name, value) => value && out.append(name, value);
  put("q", state.typed);
  put("w", state.typedWeight === null ? "" : String(state.typedWeight));
  for (const term of state.terms) put("term", writeTerm(term));
  put("to", state.to.join(","));
  put("where", state.where);
  put("under", state.folder);
  put("since", state.since);
  put("until", state.until);
  put("k", state.k === PAGE ? "" : String(state.k));
  put("weak", state.showWeak ? "1" : "");
  put("view", state.view === "map" ? "map" : "");
  put("item", state.item);
  const text = out.toString();
  return text ? `/?${text}` : "/";
}

const weightOf = (text) => (text === "" || !Number.isFinite(Number(text)) ? null : Math.max(-1, Math.min(1, Number(text))));

/** Terms are kind:weight:source; those of uploads upload:weight:id:modality:name. */
function writeTerm(term) {
  const rest = term.kind === "upload" ? [term.source, term.modality ?? "", term.name ?? ""] : [term.source];
  return [term.kind, term.weight ?? "", ...rest].join(":");
}

function readTerm(written) {
  const [kind, weight, ...rest] = written.split(":");
  const source = rest.join(":");
  if (!source || !["text", "upload", "like"].includes(kind)) return [];
  if (kind !== "upload") return [{ kind, source, weight: weightOf(weight ?? "") }];
  const [id, modality, ...name] = rest;
  return [{ kind, source: id, modality, name: name.join(":"), weight: weightOf(weight ?? "") }];
}

/** Return all terms of a query with weights: the text in the box first. @param {State} state @returns {Term[]} */
export function allTerms(state) {
  const typed = state.typed.trim();
  const own = typed ? [{ kind: "text", source: typed, weight: state.typedWeight }] : [];
  const terms = /** @type {Term[]} */ ([...own, ...state.terms]);
  const standard = defaultWeight(terms.length);
  return terms.map((term) => ({ ...term, weight: term.weight ?? standard }));
}

/** Return the weight of terms that have none: that of a mean, 0.5 for two terms as in section 3.4 of the ImageBind paper. */
export const defaultWeight = (n) => (n > 1 ? Math.round(100 / n) / 100 : 1);

/** Return the query that the server gets; null if there is none. @param {State} state */
export function toQuery(state) {
  const terms = allTerms(state);
  if (!terms.length) return null;
  const filter = {};
  if (state.where.trim()) filter.where = state.where.trim();
  if (state.folder.trim()) filter.folders = [state.folder.trim()];
  if (state.since.trim()) filter.since = state.since.trim();
  if (state.until.trim()) filter.until = state.until.trim();
  return {
    terms: terms.map(({ kind, source, weight }) => (terms.length > 1 ? { kind, source, weight } : { kind, source })),
    k: state.k,
    ...(state.to.length ? { to: state.to } : {}),
    ...(Object.keys(filter).length ? { filter } : {}),
  };
}

/** @param {State} state */
export const countFilters = (state) => [state.where, state.folder, state.since, state.until].filter((one) => one.trim()).length;

/**
 * Return the holder of the state.
 * @param {(state: State, before: State, how: {isLive: boolean}) => void} onChange
 */
export function createState(onChange) {
  let state = readAddress(location.search);
  let timer = 0;

  const write = (push) => {
    clearTimeout(timer);
    const address = writeAddress(state);
    if (address === location.pathname + location.search) return;
    if (push) history.pushState(null, "", address);
    else history.replaceState(null, "", address);
  };
  const change = (next, isLive = false) => {
    const before = state;
    state = next;
    onChange(state, before, { isLive });
  };
  addEventListener("popstate", () => {
    clearTimeout(timer);
    change(readAddress(location.search));
  });
  addEventListener("pagehide", () => write(false));

  return {
    /** @returns {State} */
    get: () => state,
    /**
     * Change the state.
     * @param {Partial<State>} patch
     * @param {{push?: boolean, isLive?: boolean}} [options] push: a step that "back" undoes; else the address follows
     *   after a pause; isLive: one of many quick changes
     */
    set(patch, { push = false, isLive = false } = {}) {
      if (push) write(false); // what was typed before
      change({ ...state, ...(QUERY_PARTS.some((one) => one in patch) ? { k: PAGE } : {}), ...patch }, isLive);
      if (push) write(true);
      else {
        clearTimeout(timer);
        timer = setTimeout(() => write(false), URL_PAUSE_MS);
      }
    },
  };
}
