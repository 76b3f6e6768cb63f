// The rail: the conversations that this browser keeps, each to be opened, named, exported and deleted.

import { nameOf, newConversation } from "./conversation.js";
import { drop, exported, keep, kept } from "./keeping.js";
import { now } from "./now.js";
import { $, button, element, notify } from "./tools.js";

let conversations = [];
let open = () => {}; // shows a conversation

// Fills the rail; `show` is called with the conversation that is chosen.
export function startRail(show) {
  open = (conversation) => {
    now.running?.abort.abort();
    show(conversation);
    showRail(false);
    drawRail();
  };
  conversations = kept(now.model);
  openNew();
}

export function openNew() {
  open(newConversation(now.model));
}

// Keeps a conversation, which now is the newest.
export function remember(conversation) {
  conversations = [conversation, ...conversations.filter((each) => each !== conversation)];
  keep(conversation);
  drawRail();
}

function drawRail() {
  const rows = conversations.map((conversation) => {
    const row = element("li");
    const name = button(nameOf(conversation), "name", () => open(conversation));
    row.append(name);
    if (conversation === now.conversation) {
      name.setAttribute("aria-current", "true");
      const tools = element("span", "tools");
      tools.append(
        button("Rename", "", () => rename(conversation, row)),
        button("Export", "", () => download(conversation)),
        button("Delete", "", () => remove(conversation)),
      );
      row.append(tools);
    }
    return row;
  });
  $("conversations").replaceChildren(...rows);
  $("no-conversations").hidden = rows.length > 0;
}

function rename(conversation, row) {
  const box = element("input");
  box.value = nameOf(conversation);
  box.setAttribute("aria-label", "Name of the conversation");
  box.maxLength = 200;
  let done = false;
  const end = (keepIt) => {
    if (done) return;
    done = true;
    if (keepIt) {
      conversation.name = box.value.trim();
      keep(conversation);
    }
    drawRail();
  };
  box.addEventListener("blur", () => end(true));
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.stopPropagation();
    end(event.key === "Enter");
  });
  row.replaceChildren(box);
  box.select();
}

function download(conversation) {
  const chat = now.model.jaxgpt.chat;
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([exported(conversation, now.model)], { type: chat ? "application/jsonl" : "text/plain" }));
  link.download = `${nameOf(conversation).replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40) || "conversation"}.${chat ? "jsonl" : "txt"}`;
  link.click();
  URL.revokeObjectURL(link.href);
}

function remove(conversation) {
  const at = conversations.indexOf(conversation);
  conversations.splice(at, 1);
  drop(conversation);
  conversation.dropped = true; // what is still being written is not kept
  openNew();
  notify("Deleted.", "Undo", () => {
    delete conversation.dropped;
    conversations.splice(at, 0, conversation);
    keep(conversation);
    open(conversation);
  });
}

export function showRail(visible) {
  $("rail").classList.toggle("open", visible);
  $("open-rail").setAttribute("aria-expanded", visible);
}

$("new").addEventListener("click", () => {
  if (!now.model) return;
  openNew();
  $(now.model.jaxgpt.chat ? "prompt" : "editor").focus();
});
$("open-rail").addEventListener("click", () => showRail(!$("rail").classList.contains("open")));
document.addEventListener("click", (event) => {
  if (event.target.isConnected && !event.target.closest("#rail, #open-rail")) showRail(false);
});
