// Small tools that every part of the page uses.

export const $ = (id) => document.getElementById(id);

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function percent(chance) {
  const value = 100 * chance;
  return value >= 99.95 ? "100\u00a0%" : value >= 0.1 ? `${value.toFixed(1)}\u00a0%` : "<\u00a00.1\u00a0%";
}

export const lasted = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

const MARKS = { " ": "␣", "\n": "⏎", "\r": "␍", "\t": "⇥" };

// Returns a text as people can see it, as jaxgpt/text/tokenizer.py does.
export function visible(text) {
  const number = (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
  return text.replace(/[\p{C}\p{Z}]/gu, (c) => MARKS[c] ?? number(c)).replace(/^(?=\p{M})/u, "◌");
}

// Returns a row of a list: a name, a figure, and a bar that is as long as the share.
export function barItem(name, figure, share, taken) {
  const item = element("li", taken ? "taken" : "");
  const bar = element("span", "bar");
  bar.style.setProperty("--share", Math.max(share, 0));
  item.append(element("span", "name", name), element("span", "figure", figure), bar);
  return item;
}
