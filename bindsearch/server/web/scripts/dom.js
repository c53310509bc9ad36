/** Elements of the page; all texts become text nodes, never markup. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Return a new element.
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes] `class` and attributes by name; functions under `on...` are listeners;
 *   values of null, undefined and false are left out; `vars` are custom properties of CSS
 * @param {...(Node | string | number | null | undefined | false)} children
 * @returns {HTMLElement}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (name === "vars") setVars(element, /** @type {Record<string, string>} */ (value));
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter(isShown).map(toNode));
  return element;
}

/**
 * Return a new element of SVG with children.
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {...(Element | string)} children
 */
export function s(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** Set custom properties of CSS. @param {HTMLElement} element @param {Record<string, string | number>} values */
export function setVars(element, values) {
  for (const [name, value] of Object.entries(values)) element.style.setProperty(`--${name}`, String(value));
}

const isShown = (child) => child !== null && child !== undefined && child !== false;
const toNode = (child) => (child instanceof Node ? child : document.createTextNode(String(child)));

/** Return an icon of icons.svg, which screen readers skip. @param {string} name */
export function icon(name) {
  return s("svg", { class: "icon", "aria-hidden": "true" }, s("use", { href: `/static/icons.svg#${name}` }));
}

/**
 * Return the element with an id.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element;
}

/** Return a text in isolation, whichever way it runs; what cannot be printed is shown as a symbol. @param {string} text */
export const bdi = (text) => h("bdi", { dir: "auto" }, printable(text));

/**
 * Return a text without control characters: pictures of them instead (Unicode block "Control Pictures"), and ¿ for
 * marks of direction, which would let the end of a name look like its beginning.
 * @param {string} text
 */
export function printable(text) {
  return text
    .replace(/[\u0000-\u001f]/g, (one) => String.fromCharCode(0x2400 + one.charCodeAt(0)))
    .replace(/\u007f/g, "\u2421")
    .replace(/[\u0080-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, "\u00bf")
    .replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd");
}

/**
 * Return a button that copies a text.
 * @param {string} text
 * @param {string} label what is copied
 */
export function copyButton(text, label) {
  const button = h("button", { type: "button", class: "quiet", "aria-label": `Copy ${label}`, title: `Copy ${label}` });
  button.append(icon("copy"));
  button.addEventListener("click", async () => {
    const done = await copied(text);
    button.replaceChildren(icon(done ? "check" : "close"));
    button.title = done ? "Copied" : "The browser does not allow copying";
    setTimeout(() => {
      button.replaceChildren(icon("copy"));
      button.title = `Copy ${label}`;
    }, 1500);
  });
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** Whether the reader asked for less motion. */
export const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
