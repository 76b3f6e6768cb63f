// The editor of a language model: a text that people and the model write on together.

import { add, path, textOf, typed } from "./conversation.js";
import { countSoon } from "./composer.js";
import { select } from "./inside.js";
import { versions } from "./messages.js";
import { now } from "./now.js";
import { remember } from "./rail.js";
import { drawText } from "./tokens.js";
import { $, element } from "./tools.js";
import { regenerate, write } from "./writing.js";

const LAST_LINE = "\n"; // makes an empty last line show

export function drawEditor() {
  const editor = $("editor");
  const runs = path(now.conversation).map((node) => {
    const run = element("span", node.role === "user" ? "given" : "run");
    drawText(run, node);
    return run;
  });
  const ends = path(now.conversation).map(textOf).join("").endsWith("\n");
  editor.replaceChildren(...runs, ...(ends && !now.running ? [LAST_LINE] : []));
  editor.classList.remove("edited");
  editor.classList.toggle("busy", now.running !== null);
  editable(!now.running);
  const last = path(now.conversation).at(-1);
  $("versions").replaceChildren(...(last && !now.running ? versions(last) : []));
  $("again").hidden = now.running !== null || last?.role !== "assistant";
  if (last?.problem) $("problem").textContent = last.problem;
}

// Some browsers do not know the editing of plain text; what is typed there is read as plain text all the same.
function editable(on) {
  $("editor").setAttribute("contenteditable", on ? "plaintext-only" : "false");
  if (on && !$("editor").isContentEditable) $("editor").setAttribute("contenteditable", "true");
}

// What is changed by hand is all of it a new beginning: the model reads it anew.
function edited() {
  const text = $("editor").innerText.replace(/\n$/, ""); // LAST_LINE, or the browser's own
  const [first] = path(now.conversation);
  if (first && !first.children.length) first.text = text;
  else add(now.conversation, typed(text));
  if (text.trim()) remember(now.conversation);
  $("editor").classList.add("edited");
  $("again").hidden = true;
  $("versions").replaceChildren();
  select(null);
  countSoon();
}

// Begins a text with something that the model can go on from.
export function begin(text) {
  add(now.conversation, typed(text));
  now.draw();
  goOn();
}

async function goOn() {
  const last = path(now.conversation).at(-1);
  if (now.running) now.running.abort.abort();
  else if (last && (last.role === "assistant" || last.text.trim())) await write(last, []);
  caretToEnd();
}

function caretToEnd() {
  $("editor").focus();
  getSelection().selectAllChildren($("editor"));
  getSelection().collapseToEnd();
}

$("editor").addEventListener("input", edited);
$("editor").addEventListener("paste", (event) => {
  event.preventDefault();
  document.execCommand("insertText", false, event.clipboardData.getData("text/plain"));
});
$("editor").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  goOn();
});
$("continue").addEventListener("click", goOn);
$("again").addEventListener("click", () => regenerate(path(now.conversation).at(-1)));
