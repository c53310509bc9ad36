/** How an answer was made: the command line that does the same, and the plan. */

import { explain } from "../api.js";
import { copyButton, h, printable } from "../dom.js";

/** Return the command line with a button that copies it. @param {string} command */
export const commandLine = (command) =>
  h("div", { class: "command" }, h("code", {}, printable(command)), copyButton(command, "the command"));

/**
 * Return a part that fetches the plan when it is opened.
 * @param {object} query
 */
export function planDetails(query) {
  const text = h("pre", { class: "plan", tabindex: 0, "aria-label": "Plan" }, "…");
  return h("details", { ontoggle: (event) => fill(event.target, text, query) }, h("summary", {}, "Plan"), text);
}

async function fill(details, text, query) {
  if (!details.open || text.dataset.filled) return;
  text.dataset.filled = "yes";
  try {
    text.textContent = (await explain(query)).text;
  } catch (error) {
    text.textContent = /** @type {Error} */ (error).message;
    delete text.dataset.filled;
  }
}
