/** The line of status: what the store holds, whether it is being indexed, and whether it has changed. */

import { byId, printable } from "./dom.js";
import { plural } from "./format.js";

const sum = (counts) => Object.values(counts).reduce((total, one) => total + one, 0);

/**
 * Listen for events of the store.
 * @param {{onCounts: (data: {generation: number, segments: Record<string, number>}) => void, onRefresh: () => void}} handlers
 */
export function createLive({ onCounts, onRefresh }) {
  const activity = byId("activity");
  const refresh = byId("refresh");
  /** @type {EventSource | null} */
  let source = null;
  let hasAnswer = false;
  let answered = -1;
  let newest = -1;
  let store = { encoder: "", dim: 0 };
  let counts = { items: {}, segments: {} };

  refresh.addEventListener("click", () => {
    refresh.hidden = true;
    onRefresh();
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));

  function describe() {
    const parts = [plural(sum(counts.items), "file"), plural(sum(counts.segments), "segment")];
    const encoder = store.encoder ? ` · encoder ${printable(store.encoder)}, ${store.dim} dimensions` : "";
    byId("store").textContent = `${parts.join(", ")}${encoder} · generation ${newest}`;
  }

  const handlers = {
    store: (data) => {
      store = data;
      if (newest >= 0) describe();
    },
    generation: (data) => {
      if (newest < 0 && hasAnswer) answered = data.generation; // the answer was quicker than the first event
      newest = data.generation;
      counts = data;
      describe();
      refresh.hidden = !hasAnswer || answered === newest;
      onCounts(data);
    },
    indexing: (data) => {
      activity.textContent = data.running ? "Indexing is running" : "";
    },
    problem: (data) => {
      activity.textContent = printable(data.error);
    },
  };

  function start() {
    if (source) return;
    source = new EventSource("/api/events");
    for (const [name, act] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => act(JSON.parse(/** @type {MessageEvent} */ (event).data)));
    }
    source.addEventListener("error", () => {
      activity.textContent = "The server does not answer";
    });
    source.addEventListener("open", () => {
      activity.textContent = "";
    });
  }

  /** A page that is not seen keeps no connection: browsers allow six to a server, for all pages. */
  function stop() {
    source?.close();
    source = null;
  }

  return {
    start,
    /** Note that an answer came from the newest generation. */
    answered() {
      hasAnswer = true;
      answered = newest;
      refresh.hidden = true;
    },
  };
}
