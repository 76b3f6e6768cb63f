// Where a message is typed, and how long it may be; one that is refused stays in the box.

import { post } from "./api.js";
import { path } from "./conversation.js";
import { now } from "./now.js";
import { settings } from "./settings.js";
import { $, later } from "./tools.js";
import { say } from "./writing.js";

let counting = null; // the AbortController of the count on its way

// Sends what is typed, and empties the box once the server has taken it.
export async function send(text = $("prompt").value) {
  if (!now.model || now.running || !text.trim()) return;
  const parent = path(now.conversation).at(-1) ?? now.conversation;
  const { conversation } = now;
  const accepted = () => {
    if ($("prompt").value === text) $("prompt").value = ""; // else it is a draft
    count();
  };
  if (!(await say(text, parent, accepted)) && now.conversation === conversation && !$("prompt").value) $("prompt").value = text;
}

// Says how many tokens are typed, of how many.
export async function count() {
  counting?.abort();
  const chat = now.model?.jaxgpt.chat;
  const text = chat ? $("prompt").value : draft();
  $("counter").textContent = "";
  $("counter").classList.remove("over");
  if (!now.model || !text.trim()) return;
  const abort = (counting = new AbortController());
  const system = settings().system.trim();
  const messages = [...(system ? [{ role: "system", content: system }] : []), { role: "user", content: text }];
  try {
    const response = await post("/v1/lengths", { model: now.model.id, ...(chat ? { messages } : { prompt: text }) }, abort.signal);
    const { tokens, limit } = await response.json();
    if (abort.signal.aborted) return;
    const said = `${tokens} of ${limit} tokens${tokens > limit ? ": too long" : ""}`;
    $("counter").classList.toggle("over", tokens > limit);
    $("counter").textContent = said;
    if (tokens > limit) $("status").textContent = said;
  } catch {} // what is wrong is said when it is sent
}

// What was typed of a text that the model has not gone on from; after that there is no limit.
function draft() {
  const nodes = path(now.conversation);
  return nodes.length === 1 ? nodes[0].text : "";
}

export const countSoon = later(150, count);

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (now.running) now.running.abort.abort();
  else send();
});
$("prompt").addEventListener("input", countSoon);
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
