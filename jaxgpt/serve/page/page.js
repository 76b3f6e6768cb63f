// The page: it talks with the public API alone. What a model writes is set as text, never as markup.

import { checked, events, wordsOf } from "./api.js";
import { DEFAULTS, headers, openSettings, settings, showSettings } from "./settings.js";
import { $, element, lasted } from "./tools.js";
import { close, isWithin, rememberAsked, rememberWord, select } from "./word.js";

const CANDIDATES = 8;

let model = null; // as /v1/models describes it
let messages = []; // the conversation, as the API takes it
let running = null; // the AbortController of the reply in the making

// ---- the API

function request(prompt) {
  const values = settings();
  const asked = {
    model: model.id,
    stream: true,
    temperature: Number(values.temperature),
    top_p: Number(values.top_p),
    max_tokens: Math.trunc(Number(values.max_tokens)) || DEFAULTS.max_tokens,
  };
  if (values.seed !== "") asked.seed = Math.trunc(Number(values.seed));
  if (values.stop) asked.stop = values.stop;
  if (model.jaxgpt.chat) return ["/v1/chat/completions", { ...asked, messages, logprobs: true, top_logprobs: CANDIDATES }];
  return ["/v1/completions", { ...asked, prompt, logprobs: CANDIDATES }];
}

// ---- the conversation

function addMine(text) {
  const item = element("li", "mine");
  item.append(element("span", "hidden", "You: "), element("p", "", text));
  $("messages").append(item);
}

function addReply(given) {
  const item = element("li", "reply busy");
  const text = element("p", "text");
  text.tabIndex = 0;
  text.setAttribute("aria-label", "The model's tokens; arrow keys go through them");
  text.setAttribute("role", "group");
  if (given) text.append(element("span", "given", given));
  const foot = element("div", "foot");
  item.append(element("span", "hidden", "Model: "), text, foot);
  $("messages").append(item);
  return { item, text, foot };
}

function addWord(text, word) {
  const blank = word.text.startsWith(" ") ? " " : "";
  const span = element("span", "word", word.text.slice(blank.length));
  // Doubt in bits: a token that had one chance in two is one bit, at four bits the tint is full.
  span.style.setProperty("--doubt", Math.min(-Math.log2(Math.max(word.chance, 1e-9)) / 4, 1) * 0.42);
  rememberWord(span, word);
  text.append(blank, span);
}

function addNotes(foot, { forgotten, unknown_words: unknown } = {}) {
  if (forgotten) foot.append(element("p", "note", `The oldest ${forgotten} messages no longer fit and are forgotten.`));
  if (unknown?.length) foot.append(element("p", "note", `Not in this model's vocabulary: ${unknown.slice(0, 12).join(", ")}`));
}

async function reply(prompt) {
  const { item, text, foot } = addReply(model.jaxgpt.chat ? "" : prompt);
  const abort = (running = new AbortController());
  const began = performance.now();
  rememberAsked(item, model.jaxgpt.chat ? { model: model.id, messages: [...messages] } : { model: model.id, prompt });
  const conversation = messages; // a new one may begin while this reply is coming
  let count = 0, written = "", problem = null, about = null;
  setBusy(true);
  follow(true);
  try {
    const [path, body] = request(prompt);
    const options = { method: "POST", headers: headers(), body: JSON.stringify(body), signal: abort.signal };
    for await (const event of events(await checked(await fetch(path, options)))) {
      about = event.jaxgpt;
      for (const word of event.choices.flatMap(wordsOf)) {
        addWord(text, word);
        written += word.text;
        count += 1;
      }
      follow();
    }
  } catch (error) {
    if (!abort.signal.aborted) problem = error;
    if (error.status === 401) openSettings("api_key");
  }
  item.classList.remove("busy");
  running = null;
  setBusy(false);
  addNotes(foot, about ?? undefined);
  if (problem) {
    const wrong = element("p", "wrong note", problem instanceof TypeError ? "The server cannot be reached." : problem.message);
    wrong.setAttribute("role", "alert");
    foot.append(wrong);
  }
  if (count) foot.append(element("span", "", `${count} tokens in ${lasted(performance.now() - began)}${abort.signal.aborted ? ", stopped" : ""}`));
  const again = element("button", "again", "Try again");
  again.type = "button";
  again.addEventListener("click", () => retry(item, prompt));
  for (const other of document.querySelectorAll(".again")) other.remove(); // only the last one can be had again
  foot.append(again);
  if (model.jaxgpt.chat && written) conversation.push({ role: "assistant", content: written });
  if (!problem) $("status").textContent = `The model wrote: ${written}`;
  follow();
}

function retry(item, prompt) {
  if (running) return;
  if (messages.at(-1)?.role === "assistant") messages.pop();
  if (isWithin(item)) select(null);
  item.remove();
  reply(prompt);
}

function say(text) {
  if (!model || running || !text.trim()) return;
  $("welcome").hidden = true;
  if (model.jaxgpt.chat) {
    if (messages.at(-1)?.role === "user") messages.pop(); // it was never answered
    addMine(text);
    messages.push({ role: "user", content: text });
  }
  $("prompt").value = "";
  reply(text);
}

function setBusy(busy) {
  $("send").textContent = busy ? "Stop" : "Send";
  $("messages").setAttribute("aria-busy", busy);
  if (busy) $("status").textContent = "The model is writing.";
}

// Keeps the end in sight, unless the reader has scrolled up.
function follow(always) {
  const talk = $("talk");
  if (always || talk.scrollHeight - talk.scrollTop - talk.clientHeight < 120) talk.scrollTop = talk.scrollHeight;
}

// ---- what people do

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else say($("prompt").value);
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  say($("prompt").value);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || $("settings").open) return;
  if (running) running.abort();
  else close();
});
$("settings").addEventListener("close", () => model || start());
$("example").addEventListener("click", () => say($("example").textContent));
$("new").addEventListener("click", () => {
  running?.abort();
  messages = [];
  select(null);
  $("messages").replaceChildren();
  $("welcome").hidden = false;
  $("prompt").focus();
});

async function start() {
  try {
    model = (await (await checked(await fetch("/v1/models", { headers: headers() }))).json()).data[0];
  } catch (error) {
    $("about").textContent = error instanceof TypeError ? "The server cannot be reached." : error.message;
    if (error.status === 401) openSettings("api_key");
    return;
  }
  const { chat, step, context_len: context, max_tokens: most, sample_prompt: example } = model.jaxgpt;
  const data = model.jaxgpt.data.replaceAll("-", "\u2011"); // a name is not broken at its hyphens
  $("model").textContent = model.id;
  document.title = `${model.id} · jaxgpt`;
  $("about").textContent = chat
    ? `A small model that has read ${data} and answers. It sees ${context} tokens at once.`
    : `A small language model that has read ${data} and writes on from what you begin. It sees ${context} tokens at once.`;
  $("about").title = `step ${step}`;
  $("prompt").placeholder = $("prompt-label").textContent = chat ? "Say something" : "Begin a text";
  $("max_tokens").max = most;
  $("example").textContent = example ?? "";
  $("example").hidden = !example;
}

showSettings(settings());
start();
