// Bars: the probabilities of one face, a row each, in the order of the weights.

import { percent } from "./words.js";

/** Return an element with a class, attributes and children. */
export function element(tag, className, attributes = {}, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Return the name of the most probable. */
export function strongest(probabilities) {
  return Object.keys(probabilities).reduce((a, b) => (probabilities[b] > probabilities[a] ? b : a));
}

/** A table of bars; `show` gives it other probabilities of the same names. */
export class Bars {
  #rows = new Map();

  constructor(names, caption) {
    const body = element("tbody");
    for (const name of names) {
      const fill = element("span", "fill");
      const value = element("td", "value");
      const track = element("td", "track", { "aria-hidden": "true" }, fill);
      const row = element("tr", "", { "data-expression": name }, element("th", "", { scope: "row" }, name), value, track);
      body.append(row);
      this.#rows.set(name, { row, fill, value });
    }
    this.table = element("table", "bars", {}, element("caption", "unseen", {}, caption), body);
  }

  show(probabilities) {
    const top = strongest(probabilities);
    for (const [name, { row, fill, value }] of this.#rows) {
      fill.style.inlineSize = `${100 * probabilities[name]}%`;
      value.textContent = percent(probabilities[name]);
      row.classList.toggle("top", name === top);
    }
  }
}
