/** Files that are dropped, pasted or chosen become terms of the query. */

import { upload } from "../api.js";
import { byId } from "../dom.js";
import { size } from "../format.js";

const MAX_FILES = 4;

/**
 * Send a file and return the term.
 * @param {Blob} blob
 * @param {string} name
 * @param {number} maxBytes
 * @returns {Promise<import("../state.js").Term>}
 */
export async function sendFile(blob, name, maxBytes) {
  if (blob.size > maxBytes) throw new Error(`${name} has ${size(blob.size)}: send at most ${size(maxBytes)}`);
  const sent = await upload(blob, name);
  return { kind: "upload", source: sent.upload, modality: sent.modality, name: sent.name, weight: null };
}

/**
 * Listen for files.
 * @param {{onFiles: (files: File[]) => void, onText: (text: string) => void}} handlers
 */
export function listenForFiles({ onFiles, onText }) {
  const sign = byId("drop");
  const input = /** @type {HTMLInputElement} */ (byId("file"));
  let depth = 0;

  const show = (isOver) => {
    depth = isOver ? depth : 0;
    sign.hidden = !isOver;
  };
  addEventListener("dragenter", (event) => {
    if (!canTake(event)) return;
    depth += 1;
    show(true);
  });
  addEventListener("dragleave", () => {
    depth -= 1;
    if (depth <= 0) show(false);
  });
  addEventListener("dragover", (event) => {
    if (!canTake(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  addEventListener("drop", (event) => {
    show(false);
    if (!canTake(event)) return;
    event.preventDefault();
    take(filesOf(event.dataTransfer));
  });
  addEventListener("paste", (event) => {
    const files = filesOf(event.clipboardData);
    if (files.length) {
      event.preventDefault();
      take(files);
    } else if (!isEditable(event.target)) {
      const text = event.clipboardData?.getData("text/plain").trim();
      if (text) onText(text.slice(0, 2000));
    }
  });
  byId("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take([...(input.files ?? [])]);
    input.value = "";
  });

  function take(files) {
    if (files.length) onFiles(files.slice(0, MAX_FILES));
  }
}

/** A drag that started in the page, such as that of a picture, is not a file. */
const canTake = (event) => event.dataTransfer?.types.includes("Files") ?? false;
const filesOf = (transfer) => [...(transfer?.files ?? [])];
const isEditable = (target) => target instanceof HTMLElement && target.matches("input, textarea, [contenteditable]");
