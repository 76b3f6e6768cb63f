// Lets the model write: a reply, another one in its place, or on from any of its tokens.

import { events, post, readable, tokensOf } from "./api.js";
import { add, beginning, idsOf, parentOf, textOf, typed, written } from "./conversation.js";
import { now } from "./now.js";
import { remember } from "./rail.js";
import { openSettings, sampling, settings } from "./settings.js";
import { drawToken, textElement } from "./tokens.js";
import { $ } from "./tools.js";

const CANDIDATES = 8;

// Says something below `parent`, and lets the model answer. Returns whether the server took it.
export async function say(text, parent, accepted) {
  if (now.running) return false;
  const message = typed(text);
  const shown = parent.shown;
  add(parent, message);
  if (await write(message, [], accepted)) return true;
  withdraw(parent, message, shown);
  return false;
}

function withdraw(parent, node, shown) {
  parent.children.splice(parent.children.indexOf(node), 1);
  parent.shown = shown;
}

export const regenerate = (node) => write(parentOf(now.conversation, node), []);

// Writes again what `node` is, up to its token at `at`, and there another one. Calls `accepted` with the new node.
export function writeOnFrom(node, at, other, accepted) {
  if (now.running) return;
  const { id, name, text, chance } = other;
  const begun = [...node.tokens.slice(0, at), { ...node.tokens[at], id, name, text, chance, chosen: true }];
  const parent = parentOf(now.conversation, node);
  if (id !== now.model.jaxgpt.end_id) {
    write(parent, begun, accepted);
    return;
  }
  const ended = written(begun.slice(0, -1), node.system); // the token that was chosen ends it
  add(parent, ended);
  remember(now.conversation);
  now.draw();
}

export function turnTo(parent, index) {
  if (now.running) return;
  parent.shown = index;
  remember(now.conversation);
  now.draw();
}

// Lets the model write below `parent`, after the tokens `begun`. Returns whether the server took it.
export async function write(parent, begun, accepted = () => {}) {
  if (now.running) return false;
  const { conversation, model } = now;
  const system = model.jaxgpt.chat ? settings().system.trim() : "";
  const { asked, before } = beginning(conversation, parent, system, model);
  const given = [...idsOf(before), ...begun.map((token) => token.id)];
  const wanted = model.jaxgpt.chat ? { logprobs: true, top_logprobs: CANDIDATES } : { logprobs: CANDIDATES };
  const body = { ...asked, ...sampling(), ...wanted, stream: true, written: given };
  const shown = parent.shown;
  const running = (now.running = { abort: new AbortController(), node: null });
  let problem = "";
  if (!model.jaxgpt.chat) now.draw(); // a text is not edited while the model is asked to go on from it
  setBusy(true);
  try {
    const response = await post(model.jaxgpt.chat ? "/v1/chat/completions" : "/v1/completions", body, running.abort.signal);
    running.node = written(begun, system);
    add(parent, running.node);
    now.draw();
    accepted(running.node);
    follow(true);
    await receive(response, running, given.length);
  } catch (error) {
    if (!running.abort.signal.aborted) problem = readable(error);
    if (error.status === 401) openSettings("api_key");
  }
  now.running = null;
  setBusy(false);
  const { node } = running;
  if (node && !model.jaxgpt.chat && !node.tokens.length) {
    withdraw(parent, node, shown); // a text is not shown as versions of nothing
    problem = node.problem ?? "";
  }
  if (node && !conversation.dropped) remember(conversation);
  if (node || !model.jaxgpt.chat) now.draw(); // a message that was refused is still in its box
  if (problem) $("problem").textContent = problem;
  if (node) follow();
  return node !== null;
}

// Takes the tokens of a reply as they come; what goes wrong on the way is noted beside them.
async function receive(response, { abort, node }, given) {
  const began = performance.now();
  const first = node.tokens.length;
  try {
    for await (const event of events(response)) {
      if (event.jaxgpt) Object.assign(node, { forgotten: event.jaxgpt.forgotten, unknown: event.jaxgpt.unknown_words });
      for (const token of event.choices.flatMap((choice) => tokensOf(choice, now.model.jaxgpt.tokenizer === "word"))) {
        node.tokens.push({ ...token, given }); // how much of what was written the model had read in one go before it
        drawToken(textElement(node), node, node.tokens.length - 1);
      }
      follow();
    }
  } catch (error) {
    if (abort.signal.aborted) node.stopped = true;
    else node.problem = readable(error);
  }
  node.count = node.tokens.length - first;
  node.ms = performance.now() - began;
  if (!node.tokens.length && !node.problem && !node.stopped) node.problem = "The model ended at once, without a word.";
  if (!node.problem) $("status").textContent = `The model wrote: ${textOf(node)}`;
}

function setBusy(busy) {
  for (const id of ["send", "continue"]) $(id).textContent = busy ? "Stop" : $(id).dataset.label;
  $("talk").setAttribute("aria-busy", busy);
  if (busy) $("problem").textContent = "";
  if (busy) $("status").textContent = "The model is writing.";
}

// Keeps the end in sight, unless the reader has scrolled up.
export function follow(always) {
  const talk = $("talk");
  if (always || talk.scrollHeight - talk.scrollTop - talk.clientHeight < 120) talk.scrollTop = talk.scrollHeight;
}
