// The page: it talks with the public API alone. What a model writes is set as text, never as markup.

import { checked, headers, readable } from "./api.js";
import { count, countSoon, send } from "./composer.js";
import { begin, drawEditor } from "./editor.js";
import { close, markSelected, select } from "./inside.js";
import { drawMessages } from "./messages.js";
import { now } from "./now.js";
import { closeSettings } from "./panels.js";
import { showRail, startRail } from "./rail.js";
import { openSettings, settings, showSettings } from "./settings.js";
import { nodeOf, textElement } from "./tokens.js";
import { $, button } from "./tools.js";
import { follow } from "./writing.js";

// Shows the conversation as it is now; the focus stays on the text it was on.
now.draw = () => {
  const node = nodeOf(document.activeElement);
  $("welcome").hidden = now.conversation.children.length > 0;
  if (now.model.jaxgpt.chat) drawMessages();
  else drawEditor();
  markSelected();
  if (node) textElement(node)?.focus();
};

function show(conversation) {
  select(null);
  now.conversation = conversation;
  $("problem").textContent = "";
  now.draw();
  count();
  if (conversation.children.length) follow(true);
  else $("talk").scrollTop = 0;
}

async function start() {
  try {
    now.model = (await (await checked(await fetch("/v1/models", { headers: headers() }))).json()).data[0];
  } catch (error) {
    $("about").textContent = readable(error);
    if (error.status === 401) openSettings("api_key");
    return;
  }
  const { chat, step, data, knows, starters, context_len: context, max_tokens: most } = now.model.jaxgpt;
  $("model").textContent = now.model.id;
  document.title = `${now.model.id} · jaxgpt`;
  $("about").textContent = knows;
  $("facts").textContent = `${data.replaceAll("-", "\u2011")}, step ${step}; sees ${context} tokens at once`; // a name is not broken
  $("max_tokens").max = most;
  $("starters").replaceChildren(...starters.map((text) => button(text, "", () => (chat ? send(text) : begin(text)))));
  document.body.classList.add(chat ? "talks" : "writes");
  startRail(show);
  $(chat ? "prompt" : "editor").focus();
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (now.running) now.running.abort.abort();
  else if ($("rail").classList.contains("open")) showRail(false);
  else if (!$("settings").hidden) closeSettings();
  else close();
});
$("system").addEventListener("input", countSoon);
$("api_key").addEventListener("change", () => now.model || start());
$("close-settings").addEventListener("click", closeSettings);

showSettings(settings());
start();
