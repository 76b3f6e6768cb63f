// A conversation as messages, each with what can be done to it.

import { parentOf, path, textOf } from "./conversation.js";
import { now } from "./now.js";
import { drawText } from "./tokens.js";
import { $, button, element, lasted, notify, visible } from "./tools.js";
import { regenerate, say, turnTo } from "./writing.js";

export function drawMessages() {
  const open = $("messages").querySelector("form.edit"); // stays while its message is there
  $("messages").replaceChildren(...path(now.conversation).map((node) => (open?.node === node ? open.item : drawMessage(node))));
}

function drawMessage(node) {
  const mine = node.role === "user";
  const item = element("li", mine ? "mine" : "reply");
  const text = element(mine ? "p" : "div", mine ? "said" : "text");
  drawText(text, node);
  item.append(element("span", "hidden", mine ? "You: " : "Model: "), text, foot(node, item));
  if (!mine) {
    text.tabIndex = 0;
    text.setAttribute("role", "group");
    text.setAttribute("aria-label", "What the model wrote; arrow keys go through its tokens");
    if (node === now.running?.node) item.classList.add("busy");
  }
  return item;
}

function foot(node, item) {
  const parts = element("div", "foot");
  if (node === now.running?.node) return parts;
  parts.append(...notes(node));
  if (node.count) parts.append(element("span", "", `${node.count} tokens in ${lasted(node.ms)}${node.stopped ? ", stopped" : ""}`));
  const tools = element("span", "tools");
  if (node.role === "user") tools.append(button("Edit", "", () => edit(node, item)));
  else tools.append(button("Try again", "", () => regenerate(node)));
  tools.append(button("Copy", "", () => copy(textOf(node))));
  parts.append(tools, ...versions(node));
  return parts;
}

function notes({ forgotten, unknown, problem }) {
  const said = [];
  if (forgotten) said.push(element("p", "note", `The oldest ${forgotten} messages no longer fit and are forgotten.`));
  if (unknown?.length) said.push(element("p", "note", `Not in this model's vocabulary: ${unknown.slice(0, 12).map(visible).join(", ")}`));
  if (problem) {
    const wrong = element("p", "wrong note", problem);
    wrong.setAttribute("role", "alert");
    said.push(wrong);
  }
  return said;
}

// Leafs through a message and its siblings, where it has any.
export function versions(node) {
  const parent = parentOf(now.conversation, node);
  const count = parent.children.length;
  if (count < 2) return [];
  const at = parent.children.indexOf(node);
  const turn = (label, name, to) => {
    const made = button(label, "turn", () => turnTo(parent, to));
    made.setAttribute("aria-label", name);
    made.disabled = to < 0 || to >= count;
    return made;
  };
  const leaf = element("span", "versions");
  leaf.append(turn("‹", "Previous version", at - 1), element("span", "", `${at + 1} of ${count}`), turn("›", "Next version", at + 1));
  return [leaf];
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    notify("Copied.");
  } catch {
    notify("The browser does not let this page copy; select the text and copy it by hand.");
  }
}

function edit(node, item) {
  const form = Object.assign(element("form", "edit"), { node, item });
  const box = element("textarea");
  box.value = node.text;
  box.setAttribute("aria-label", "Edit the message");
  const back = () => item.replaceWith(drawMessage(node));
  const buttons = element("div", "buttons");
  const send = element("button", "main", "Send again");
  buttons.append(button("Cancel", "", back), send);
  form.append(box, buttons);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (now.running) notify("The model is writing; stop it first.");
    else if (box.value.trim()) say(box.value, parentOf(now.conversation, node));
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      back();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  item.replaceChildren(form);
  box.focus();
}
