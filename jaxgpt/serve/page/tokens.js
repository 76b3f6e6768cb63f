// Tokens as they stand in a text: each can be chosen, and is tinted by how unsure the model was of it.

import { element } from "./tools.js";

const FULL_DOUBT = 4; // bits; a token that had one chance in two is one bit

const textElements = new WeakMap(); // from a node of the conversation to the element that has its text
const nodes = new WeakMap(); // and back
const places = new WeakMap(); // from a token's element to { node, at }

export const textElement = (node) => textElements.get(node);
export const nodeOf = (element) => nodes.get(element);
export const placeOf = (span) => places.get(span);
export const tokenElements = (node) => [...(textElements.get(node)?.querySelectorAll(".token") ?? [])];

// Fills the element with a node's text: its tokens, or what was typed.
export function drawText(into, node) {
  textElements.set(node, into);
  nodes.set(into, node);
  if (node.text !== undefined) into.textContent = node.text;
  else node.tokens.forEach((_, at) => drawToken(into, node, at));
}

export function drawToken(into, node, at) {
  const token = node.tokens[at];
  const blank = /^ ./s.test(token.text) ? " " : "";
  const span = element("span", "token", token.text.slice(blank.length));
  // A line break, or a token that ends inside a character, could not be seen, nor chosen.
  if (/^(?! +$)[\p{C}\p{Z}]*$/u.test(token.text)) span.dataset.mark = token.name;
  span.style.setProperty("--doubt", Math.min(-Math.log2(Math.max(token.chance, 1e-9)) / FULL_DOUBT, 1));
  if (token.chosen) span.classList.add("chosen");
  places.set(span, { node, at });
  into.append(blank, span);
}
