// Behind a token: what else the model considered, and, where it is opened, the look inside.

import { checked } from "./api.js";
import { clearLook, showLook, showProblem } from "./look.js";
import { headers } from "./settings.js";
import { $, barItem, percent, visible } from "./tools.js";

const wordOf = new WeakMap(); // from a token's element to { text, chance, others }
const askedOf = new WeakMap(); // from a reply's element to what the model was asked: { model, messages } or { model, prompt }

let selected = null; // the element of the token looked at
let looking = null; // the AbortController of the look on its way

export const rememberWord = (span, word) => wordOf.set(span, word);
export const rememberAsked = (item, asked) => askedOf.set(item, asked);
export const isWithin = (item) => selected !== null && item.contains(selected);

export function select(span) {
  selected?.classList.remove("selected");
  selected = span;
  looking?.abort();
  $("inside").hidden = !span;
  if (!span) return clearLook();
  span.classList.add("selected");
  const word = wordOf.get(span);
  $("chosen").textContent = visible(word.text);
  $("chosen-chance").textContent = `came with a probability of ${percent(word.chance)}`;
  const taken = word.others.some((other) => other.text === word.text);
  const others = taken ? word.others : [...word.others, word];
  const rows = others.map(({ text, chance }) => barItem(visible(text), percent(chance), chance, text === word.text));
  $("candidates").replaceChildren(...rows);
  const rivals = others.filter((other) => other.text !== word.text).slice(0, 3);
  const said = rivals.map((other) => `${visible(other.text)} ${percent(other.chance)}`).join(", ");
  $("status").textContent = `${visible(word.text)}, ${percent(word.chance)}. Instead: ${said}`;
  look();
}

async function look() {
  looking?.abort();
  if (!selected) return;
  keepInSight();
  if (!$("look-inside").open) return;
  const abort = (looking = new AbortController());
  const words = [...selected.closest(".text").querySelectorAll(".word")];
  const at = words.indexOf(selected);
  const written = words.slice(0, at + 1).map((span) => wordOf.get(span).text).join("");
  const next = words[at + 1] && visible(wordOf.get(words[at + 1]).text);
  const body = JSON.stringify({ ...askedOf.get(selected.closest(".reply")), written });
  try {
    const options = { method: "POST", headers: headers(), body, signal: abort.signal };
    const seen = await (await checked(await fetch("/v1/inspect", options))).json();
    if (abort.signal.aborted) return;
    showLook(seen, next);
    keepInSight();
  } catch (error) {
    if (!abort.signal.aborted) showProblem(error instanceof TypeError ? "The server cannot be reached." : error.message);
  }
}

// The panel has come, or has grown: on a phone it may lie over the token.
function keepInSight() {
  selected?.scrollIntoView({ block: "nearest" });
}

function selectByKey(event) {
  const text = event.target.closest?.(".text");
  if (!text) return;
  const words = [...text.querySelectorAll(".word")];
  const at = words.indexOf(selected);
  const to = { ArrowRight: at + 1, ArrowLeft: at < 0 ? words.length - 1 : at - 1, Home: 0, End: words.length - 1 }[event.key];
  if (to === undefined || !words[to]) return;
  event.preventDefault();
  select(words[to]);
}

// Closes the panel; who was in it is brought back to the token.
export function close() {
  const text = $("inside").contains(document.activeElement) ? selected?.closest(".text") : null;
  select(null);
  text?.focus();
}

$("messages").addEventListener("click", (event) => {
  const span = event.target.closest(".word");
  if (span) select(span === selected ? null : span);
});
$("messages").addEventListener("keydown", selectByKey);
$("close-inside").addEventListener("click", close);
$("look-inside").addEventListener("toggle", look);
