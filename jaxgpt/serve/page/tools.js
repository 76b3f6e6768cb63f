// Small tools that every part of the page uses.

export const $ = (id) => document.getElementById(id);

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function button(text, className, onClick) {
  const made = element("button", className, text);
  made.type = "button";
  made.addEventListener("click", onClick);
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

// Returns a name, a figure, and a bar that is as long as the share.
export function barParts(name, figure, share) {
  const bar = element("span", "bar");
  bar.style.setProperty("--share", Math.max(share, 0));
  return [element("span", "name", name), element("span", "figure", figure), bar];
}

// Returns a function that runs the work some time after it was last called.
export function later(ms, work) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, ms);
  };
}

let noticeEnds;

// Says something in passing, with what can be done about it, if anything.
export function notify(text, label, action) {
  const take = () => {
    $("notice").hidden = true;
    action();
  };
  $("notice").replaceChildren(element("span", "", text), ...(label ? [button(label, "", take)] : []));
  $("notice").hidden = false;
  clearTimeout(noticeEnds);
  noticeEnds = setTimeout(() => ($("notice").hidden = true), 8000);
}
