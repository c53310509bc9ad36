/** One hit or item large: figure or player, what it means, metadata, passages, and what can be done with it. */

import { fetchItem, wide } from "../api.js";
import { bdi, byId, copyButton, h, icon, printable } from "../dom.js";
import { kindName, percent, size, span, splitName } from "../format.js";
import { badge, contributionBars, matchBar } from "./match.js";
import { placesButton, placesView } from "./places.js";
import { commandLine, planDetails } from "./plan.js";
import { player } from "./player.js";

const WIDTH_PX = 960;
const MAX_PARTS = 200;
const PICTURE_FILE = /\.(jpe?g|jpe|jfif|png|apng|gif|webp|avif|bmp)$/i;

/**
 * @typedef {object} Handlers
 * @property {() => void} onClose
 * @property {(id: number, name: string, modality: string) => void} onLike
 * @property {(id: number, name: string, modality: string) => void} onAdd
 * @property {(step: number) => void} onStep
 */

/** What a detail view shows: a hit of an answer, or an item alone.
 * @typedef {{item_id: number, modality: string | null, start_s: number | null, hit?: import("../api.js").Hit,
 *   query?: object | null, answer?: import("../api.js").Answer | null, names?: string[]}} Shown */

/** @param {Handlers} handlers */
export function createDetail({ onClose, onLike, onAdd, onStep }) {
  const dialog = /** @type {HTMLDialogElement} */ (byId("detail"));
  let current = 0;
  /** Stop what is being located. */
  let leave = () => {};

  dialog.addEventListener("close", () => {
    stopPlaying();
    leave();
    dialog.replaceChildren();
    onClose();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // the backdrop
  });

  function stopPlaying() {
    for (const media of dialog.querySelectorAll("audio, video")) {
      /** @type {HTMLMediaElement} */ (media).pause();
      media.removeAttribute("src");
    }
  }

  function draw(shown, item) {
    const { hit } = shown;
    const stage = h("div", { class: "stage" });
    const part = choosePart(shown, item);
    const name = splitName(item.name);
    const id = item.item_id;
    stopPlaying();
    leave();
    let shownPart = part;
    const plain = () => showPart(stage, item, shownPart);
    const places = shown.query ? placesButton(
      () => ({ query: shown.query, item_id: id, modality: shownPart.modality, start_s: shownPart.start_s }),
      (located) => {
        showCommand(true);
        return showPlaces(stage, located, item, shownPart, plain);
      },
      () => {
        showCommand(false);
        plain();
      }) : null;
    const command = h("div");
    const showCommand = (isLocated) => {
      const line = shown.answer?.command ?? "";
      command.replaceChildren(commandLine(isLocated ? line.replace(" search ", " search --locate ") : line));
    };
    showCommand(false);
    const choose = (chosen) => {
      shownPart = chosen;
      plain();
      leave();
      showCommand(false);
      if (places) places.button.hidden = chosen.modality === "text";
    };
    leave = () => places?.reset();
    choose(part);
    const parts = partList(item, part, choose);
    dialog.replaceChildren(
      h("header", {},
        badge(part.modality),
        h("h2", { id: "detail-name", tabindex: -1 }, bdi(name.last)),
        h("span", { class: "steps" },
          h("button", { type: "button", class: "quiet", "aria-label": "Previous result", title: "Previous (←)", onclick: () => onStep(-1) }, icon("left")),
          h("button", { type: "button", class: "quiet", "aria-label": "Next result", title: "Next (→)", onclick: () => onStep(1) }, icon("right"))),
        h("button", { type: "button", class: "quiet close", "aria-label": "Close", title: "Close (Esc)", onclick: () => dialog.close() }, icon("close"))),
      h("div", { class: "body" },
        stage,
        h("div", { class: "facts" },
          hit ? meaning(hit, shown.names ?? []) : null,
          h("div", { class: "actions" },
            h("button", { type: "button", class: "primary labelled", onclick: () => onLike(id, item.name, item.modality) }, icon("like"), h("span", {}, "More like this")),
            h("button", { type: "button", class: "labelled", onclick: () => onAdd(id, item.name, item.modality) }, icon("plus"), h("span", {}, "Add as a term")),
            places?.button),
          places?.line,
          places?.list,
          captions(item),
          parts,
          metadata(item),
          h("section", {}, h("h3", {}, "Path"),
            h("div", { class: "command" }, h("code", {}, bdi(item.path)), copyButton(item.path, "the path"))),
          hit?.copies.length ? copies(hit) : null,
          shown.answer && shown.query
            ? h("section", {}, h("h3", {}, "The same search in a terminal"), command, planDetails(shown.query))
            : null)));
  }

  return {
    /** Show an item. @param {Shown} shown */
    async open(shown) {
      current += 1;
      const turn = current;
      const isNew = !dialog.open;
      if (isNew) dialog.showModal();
      if (isNew) dialog.replaceChildren(h("header", {}, h("h2", { id: "detail-name" }, "…")));
      const item = await fetchItem(shown.item_id);
      if (turn !== current || !dialog.open) return;
      const held = focusedLabel(dialog);
      draw(shown, item);
      focusAgain(dialog, held);
    },
    close() {
      current += 1;
      if (dialog.open) dialog.close();
    },
    isOpen: () => dialog.open,
  };
}

const focusedLabel = (dialog) => (dialog.contains(document.activeElement) ? document.activeElement?.getAttribute("aria-label") : null);

function focusAgain(dialog, label) {
  const same = [...dialog.querySelectorAll("button")].find((one) => label && one.getAttribute("aria-label") === label);
  (same ?? dialog.querySelector("h2")).focus();
}

function choosePart(shown, item) {
  const modality = shown.modality ?? item.modality;
  const same = item.segments.filter((one) => one.modality === modality);
  const at = same.find((one) => one.start_s === shown.start_s) ?? same[0] ?? item.segments[0];
  // a passage is told by its text: passages have no times
  const passage = same.find((one) => one.text !== null && one.text === shown.hit?.text);
  return { start_s: null, end_s: null, text: null, modality, ...(passage ?? at) };
}

/** Show a segment: a picture, a player, a passage or a figure. */
function showPart(stage, item, part) {
  const figure = wide(withPart(item.figure, part), WIDTH_PX);
  const picture = (source) => {
    const image = h("img", {
      src: source, alt: `${kindName(part.modality)} ${printable(item.name)} ${span(part.start_s, part.end_s)}`.trim(), class: "figure",
      onerror: () => image.replaceWith(h("p", { class: "note" }, "The file cannot be shown: it is gone, has changed, or is damaged.")),
    });
    return image;
  };
  if (part.modality === "text") {
    stage.replaceChildren(h("blockquote", { tabindex: 0, "aria-label": "Passage" }, bdiLines(part.text ?? "")));
  } else if (item.media && part.modality === "video" && item.modality === "video") {
    stage.replaceChildren(player("video", item.media, part.start_s, part.end_s, figure));
  } else if (item.media && part.modality === "audio") {
    stage.replaceChildren(picture(figure), player("audio", item.media, part.start_s, part.end_s));
  } else if (item.media && part.modality === "image" && PICTURE_FILE.test(item.path)) {
    stage.replaceChildren(picture(item.media));
  } else {
    const note = ["audio", "video"].includes(part.modality) ? h("p", { class: "note" }, "Browsers do not play files of this kind; open it by its path.") : null;
    stage.replaceChildren(picture(figure), ...(note ? [note] : []));
  }
}

/** Show the places of a segment, and return their elements; a sound keeps its figure and player. */
function showPlaces(stage, located, item, part, plain) {
  const name = `${kindName(part.modality)} ${printable(item.name)} ${span(part.start_s, part.end_s)}`.trim();
  plain();
  const view = placesView(located, name, part.modality);
  if (located.picture) stage.replaceChildren(...view);
  else stage.append(...view);
  return view;
}

function withPart(url, part) {
  const query = new URLSearchParams({ modality: part.modality });
  if (part.start_s !== null) query.set("start_s", String(part.start_s));
  if (part.end_s !== null) query.set("end_s", String(part.end_s));
  return `${url}${url.includes("?") ? "&" : "?"}${query}`;
}

/** Keep the lines of a passage. */
const bdiLines = (text) => h("bdi", { dir: "auto" }, ...text.split(/\r?\n/).flatMap((line, index) => (index ? [h("br"), printable(line)] : [printable(line)])));

function meaning(hit, names) {
  const found = { vector: "by its content", words: "by its words", both: "by its content and its words" }[hit.found_by] ?? hit.found_by;
  return h("section", {},
    h("p", { class: "meaning" }, matchBar(hit), h("span", {}, `${percent(hit.probability)}, found ${found}`)),
    h("p", { class: "numbers" }, `cosine ${hit.cosine.toFixed(3)} · z ${hit.z.toFixed(1)} · rank ${hit.rank}`),
    hit.contributions.length > 1 ? h("h3", {}, "Shares of the terms") : null,
    hit.contributions.length > 1 ? contributionBars(hit.contributions, names) : null);
}

function captions(item) {
  if (!item.captions.length) return null;
  return h("section", {}, h("h3", {}, item.captions.length > 1 ? "Captions" : "Caption"), ...item.captions.map((one) => h("p", {}, bdi(one))));
}

function partList(item, part, onChoose) {
  if (item.segments.length < 2) return null;
  const buttons = item.segments.slice(0, MAX_PARTS).map((one) => {
    const isPassage = one.modality === "text";
    const label = isPassage ? (one.text ?? "").slice(0, 80) : `${kindName(one.modality)} ${span(one.start_s, one.end_s)}`;
    const button = h("button", {
      type: "button", "aria-pressed": String(one.segment_id === part.segment_id),
      onclick: () => {
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        onChoose(one);
      },
    }, icon(one.modality), h("span", {}, isPassage ? bdi(label) : label.trim()));
    return button;
  });
  const left = (item.n_segments ?? item.segments.length) - buttons.length;
  return h("section", {}, h("h3", {}, "Parts"), h("div", { class: "parts" }, ...buttons), left > 0 ? h("p", { class: "note" }, `and ${left} more`) : null);
}

function metadata(item) {
  const rows = [["Kind", kindName(item.modality)], ["Size", size(item.size_bytes)], ["Changed", item.modified.replace("T", " ").slice(0, 16)],
    ["Item", String(item.item_id)], ...Object.entries(item.columns).map(([name, value]) => [name, valueText(value)])];
  return h("section", {}, h("h3", {}, "Metadata"),
    h("dl", { class: "metadata" }, ...rows.map(([name, value]) => h("div", {}, h("dt", {}, bdi(name)), h("dd", {}, bdi(value))))));
}

function valueText(value) {
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
  return typeof value === "string" ? value : JSON.stringify(value);
}

function copies(hit) {
  return h("section", {}, h("h3", {}, "Copies"), h("ul", { class: "copies" },
    ...hit.copies.map((path) => h("li", {}, h("code", {}, bdi(path)), copyButton(path, "the path")))));
}
