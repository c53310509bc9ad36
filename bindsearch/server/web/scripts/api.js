/** Requests to the server. */

/** A refusal of the server, or that it is not there: one line for the reader. */
export class ApiError extends Error {
  /** @param {string} message @param {number} status 0: no answer */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/**
 * @typedef {object} Hit
 * @property {number} rank
 * @property {string} path
 * @property {string} name
 * @property {string} modality
 * @property {string} match
 * @property {number} probability
 * @property {number} z
 * @property {number} cosine
 * @property {number} item_id
 * @property {number | null} start_s
 * @property {number | null} end_s
 * @property {string | null} text
 * @property {number[]} contributions
 * @property {string[]} copies
 * @property {boolean} is_missing
 * @property {string} found_by
 * @property {string} thumbnail
 * @property {string} figure
 * @property {string | null} media
 */

/**
 * @typedef {object} Answer
 * @property {{terms: {modality: string, source: string, weight: number}[], to: string[], k: number}} query
 * @property {number} took_ms
 * @property {{segments: number, fields: number | null}} searched
 * @property {boolean} stands_out
 * @property {string[]} notices
 * @property {Hit[]} hits
 * @property {string} command
 * @property {{text: string, query: string | null}[]} [suggestions]
 */

/**
 * Send a request and return what it answers.
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<any>}
 */
async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError("the server does not answer: is bindsearch serve still running?", 0);
  }
  const data = await response.json().catch(() => null);
  if (response.ok && data !== null) return data;
  throw new ApiError(data?.error ?? `the server answered ${response.status}`, response.status);
}

/** @param {string} path @param {object} body @param {AbortSignal} [signal] */
const post = (path, body, signal) =>
  request(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });

/** @param {object} query @param {AbortSignal} signal @returns {Promise<Answer>} */
export const search = (query, signal) => post("/api/search", query, signal);

/** @param {object} asked @param {AbortSignal} signal @returns {Promise<import("./results/places.js").Located>} */
export const locate = (asked, signal) => post("/api/locate", asked, signal);

/** @param {object} query @returns {Promise<{text: string}>} */
export const explain = (query) => post("/api/explain", query);

export const fetchStatus = () => request("/api/status");
export const fetchColumns = () => request("/api/columns").then((data) => data.columns);
export const fetchMap = () => request("/api/map");

/** @param {number | string} id */
export const fetchItem = (id) => request(`/api/items/${encodeURIComponent(String(id))}`);

/** @param {Blob} blob @param {string} name */
export const upload = (blob, name) =>
  request(`/api/uploads?name=${encodeURIComponent(name.toWellFormed?.() ?? name)}`, { method: "POST", body: blob });

/** Return the URL of a small picture with another size. @param {string} url @param {number} side */
export function sized(url, side) {
  return `${url}${url.includes("?") ? "&" : "?"}side_px=${side}`;
}

/** Return the URL of a figure with another width. @param {string} url @param {number} width */
export function wide(url, width) {
  return `${url}${url.includes("?") ? "&" : "?"}width_px=${width}`;
}

/** @param {number | string} id */
export const itemThumbnail = (id) => `/api/items/${id}/thumbnail?side_px=96`;

/** @param {string} id */
export const uploadThumbnail = (id) => `/api/uploads/${encodeURIComponent(id)}/thumbnail?side_px=96`;

/**
 * Return a function that runs searches: the newest wins. With `mayWait` a search that runs is not given up, so that a
 * list follows a slider; at most one then waits.
 * @param {(query: object, answer: Answer) => void} onAnswer
 * @param {(error: Error) => void} onError
 * @param {(isBusy: boolean) => void} onBusy
 */
export function latestSearch(onAnswer, onError, onBusy) {
  /** @type {AbortController | null} */
  let running = null;
  /** @type {object | null} */
  let waiting = null;

  async function run(query) {
    const controller = new AbortController();
    running = controller;
    onBusy(true);
    try {
      const answer = await search(query, controller.signal);
      if (running === controller) onAnswer(query, answer);
    } catch (error) {
      if (running === controller && !controller.signal.aborted) onError(/** @type {Error} */ (error));
    }
    if (running !== controller) return;
    running = null;
    const next = waiting;
    waiting = null;
    if (next) run(next);
    else onBusy(false);
  }

  return {
    /** @param {object} query @param {{mayWait?: boolean}} [options] */
    ask(query, { mayWait = false } = {}) {
      if (running && mayWait) {
        waiting = query;
        return;
      }
      this.cancel();
      run(query);
    },
    cancel() {
      waiting = null;
      running?.abort();
      running = null;
      onBusy(false);
    },
  };
}
