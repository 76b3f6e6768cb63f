// Conversations, kept by this browser alone: one entry each, so that a long one does not slow down the others.

import { textOf, path, weightsOf } from "./conversation.js";
import { notify } from "./tools.js";

const PREFIX = "jaxgpt:conversation:";

// The conversations with this model, the newest first. What other weights of the same name wrote is text and no more.
export function kept(model) {
  const found = [];
  for (const key of keys()) {
    try {
      const conversation = JSON.parse(localStorage.getItem(key));
      if (conversation.model !== model.id) continue;
      if (conversation.weights !== weightsOf(model)) {
        forgetTokens(conversation);
        conversation.weights = weightsOf(model);
      }
      found.push(conversation);
    } catch {} // not ours
  }
  return found.sort((a, b) => b.changed - a.changed);
}

function keys() {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  } catch {
    return []; // a browser that keeps nothing
  }
}

function forgetTokens(node) {
  if (node.tokens) {
    node.text = textOf(node);
    node.tokens = [];
  }
  node.children.forEach(forgetTokens);
}

export function keep(conversation) {
  conversation.changed = Date.now();
  try {
    localStorage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
  } catch {
    notify("This browser has no room left to keep the conversation: delete or export some.");
  }
}

export function drop(conversation) {
  try {
    localStorage.removeItem(PREFIX + conversation.id);
  } catch {} // it kept nothing
}

// What is shown of a conversation, as a line that finetuning can read.
export function exported(conversation, model) {
  const nodes = path(conversation);
  if (!model.jaxgpt.chat) return nodes.map(textOf).join("");
  return `${JSON.stringify({ messages: nodes.map((node) => ({ role: node.role, content: textOf(node) })) })}\n`;
}
