/** Players that begin at the span of a hit and end with it. */

import { h, icon } from "../dom.js";
import { span } from "../format.js";

/**
 * Return a player of a sound or video, with a button that plays the span.
 * @param {"audio" | "video"} kind
 * @param {string} source
 * @param {number | null} start_s
 * @param {number | null} end_s
 * @param {string} [poster] picture of a video before it plays
 */
export function player(kind, source, start_s, end_s, poster) {
  const media = /** @type {HTMLMediaElement} */ (h(kind, {
    controls: true, preload: "metadata", src: source, poster, playsinline: true,
  }));
  const note = h("p", { class: "note", hidden: true }, "This browser cannot play the file; open it by its path.");
  /** @type {HTMLElement | null} */
  let button = null;
  media.addEventListener("error", () => {
    note.hidden = false;
    if (button) button.hidden = true;
    if (poster) media.replaceWith(h("img", { src: poster, alt: "Frames of the video", class: "figure" }));
  });
  if (start_s === null) return h("div", { class: "player" }, media, note);

  let end = end_s;
  const begin = () => {
    media.currentTime = start_s;
    end = end_s;
  };
  media.addEventListener("loadedmetadata", begin, { once: true });
  media.addEventListener("timeupdate", () => {
    if (end === null || media.currentTime < end) return;
    media.pause();
    end = null; // the reader may play on
  });
  button = h("button", {
    type: "button", class: "labelled",
    onclick: () => {
      begin();
      media.play().catch(() => {
        note.hidden = false;
      });
    },
  }, icon("play"), h("span", {}, `Play ${span(start_s, end_s)}`));
  return h("div", { class: "player" }, media, button, note);
}
