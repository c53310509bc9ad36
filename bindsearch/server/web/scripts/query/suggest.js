/** Suggestions for a filter expression: columns, then operators, then values of the column. */

import { bdi, h } from "../dom.js";

const MAX_SHOWN = 12;
const WORD = /[A-Za-z_][A-Za-z0-9_]*$/;
const VALUE = /(?:([A-Za-z_][A-Za-z0-9_]*)|"((?:[^"]|"")+)")\s*(?:=|!=|<>|<=|>=|<|>|LIKE|IN\s*\((?:[^()]*,)?)\s*('?[^'\s(),]*)$/i;
const AFTER_COLUMN = /(?:^|[\s(])([A-Za-z_][A-Za-z0-9_]*)\s$/;

/**
 * @typedef {object} Column
 * @property {string} name
 * @property {string} type
 * @property {string} meaning
 * @property {(string | number | boolean)[]} values
 * @property {string | number | null} min
 * @property {string | number | null} max
 */

/** @typedef {{insert: string, hint: string, from: number}} Suggestion */

/**
 * Return what may come at the end of a text.
 * @param {string} text the expression up to the cursor
 * @param {Column[]} columns
 * @returns {Suggestion[]}
 */
export function suggestions(text, columns) {
  const value = VALUE.exec(text);
  const named = (name) => columns.find((one) => one.name.toLowerCase() === name?.toLowerCase());
  if (value) {
    const column = named(value[1] ?? value[2]?.replaceAll('""', '"'));
    return column ? valuesOf(column, value[3], text.length - value[3].length) : [];
  }
  const column = named(AFTER_COLUMN.exec(text)?.[1]);
  if (column) {
    const operators = column.type === "VARCHAR" ? ["=", "LIKE", "IN ("] : ["=", ">", "<", "BETWEEN"];
    return operators.map((one) => ({ insert: `${one} `, hint: bounds(column), from: text.length }));
  }
  const word = WORD.exec(text)?.[0] ?? "";
  if (!word && !/(^|[\s(])$/.test(text)) return [];
  return columns
    .filter((one) => one.name.toLowerCase().startsWith(word.toLowerCase()))
    .map((one) => ({ insert: `${quoteName(one.name)} `, hint: one.meaning, from: text.length - word.length }));
}

function valuesOf(column, begun, from) {
  const start = begun.replace(/^'/, "").toLowerCase();
  return column.values
    .filter((one) => String(one).toLowerCase().startsWith(start))
    .map((one) => ({ insert: `${literal(one)} `, hint: bounds(column), from }));
}

const bounds = (column) => (column.min === null ? column.type.toLowerCase() : `${column.min} … ${column.max}`);
const literal = (value) => (typeof value === "string" ? `'${value.replaceAll("'", "''")}'` : String(value));
const quoteName = (name) => (/^[a-z_][a-z0-9_]*$/i.test(name) ? name : `"${name.replaceAll('"', '""')}"`);

/**
 * Make a combobox of an input and its list (ARIA Authoring Practices, "Combobox").
 * @param {HTMLInputElement} input
 * @param {HTMLElement} list
 * @param {() => Column[]} columns
 * @returns {() => void} shows the suggestions again, where columns have come
 */
export function createCombobox(input, list, columns) {
  /** @type {Suggestion[]} */
  let shown = [];
  let chosen = -1;

  function open() {
    const end = input.selectionStart ?? input.value.length;
    shown = suggestions(input.value.slice(0, end), columns()).slice(0, MAX_SHOWN);
    chosen = -1;
    list.replaceChildren(...shown.map((one, index) =>
      h("li", {
        id: `${list.id}-${index}`, role: "option", "aria-selected": "false",
        onpointerdown: (event) => {
          event.preventDefault();
          accept(index);
        },
      }, bdi(one.insert.trim()), h("small", {}, one.hint))));
    list.hidden = shown.length === 0;
    input.setAttribute("aria-expanded", String(!list.hidden));
    input.removeAttribute("aria-activedescendant");
  }

  function close() {
    list.hidden = true;
    shown = [];
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function choose(index) {
    chosen = (index + shown.length) % shown.length;
    [...list.children].forEach((one, at) => one.setAttribute("aria-selected", String(at === chosen)));
    list.children[chosen].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", `${list.id}-${chosen}`);
  }

  function accept(index) {
    const { insert, from } = shown[index];
    const end = input.selectionStart ?? input.value.length;
    input.setRangeText(insert, from, end, "end");
    input.dispatchEvent(new Event("input", { bubbles: true }));
    open();
  }

  input.addEventListener("input", open);
  input.addEventListener("focus", open);
  input.addEventListener("click", open);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (list.hidden) {
      if (event.key === "ArrowDown") open();
      return;
    }
    if (event.key === "ArrowDown") choose(chosen + 1);
    else if (event.key === "ArrowUp") choose(chosen < 0 ? shown.length - 1 : chosen - 1);
    else if ((event.key === "Enter" || event.key === "Tab") && chosen >= 0) accept(chosen);
    else if (event.key === "Escape") close();
    else {
      if (event.key === "Enter") close();
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  });
  return () => {
    if (document.activeElement === input) open();
  };
}
