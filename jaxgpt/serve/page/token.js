// Behind a token: what else the model considered, and, where it is opened, the look inside.

import { checked } from "./api.js";
import { clearLook, showLook, showProblem } from "./look.js";
import { headers } from "./settings.js";
import { $, barItem, percent } from "./tools.js";

const tokenOf = new WeakMap(); // from a token's element to { id, text, name, chance, others }
const askedOf = new WeakMap(); // from a reply's element to what the model was asked: { model, messages } or { model, prompt }

let selected = null; // the element of the token looked at
let looking = null; // the AbortController of the look on its way

export const rememberToken = (span, token) => tokenOf.set(span, token);
export const rememberAsked = (item, asked) => askedOf.set(item, asked);
export const isWithin = (item) => selected !== null && item.contains(selected);

export function select(span) {
  selected?.classList.remove("selected");
  selected = span;
  looking?.abort();
  $("inside").hidden = !span;
  if (!span) return clearLook();
  span.classList.add("selected");
  const token = tokenOf.get(span);
  $("chosen").textContent = token.name;
  $("chosen-chance").textContent = `came with a probability of ${percent(token.chance)}`;
  const taken = token.others.some((other) => other.name === token.name);
  const others = taken ? token.others : [...token.others, token];
  const rows = others.map(({ name, chance }) => barItem(name, percent(chance), chance, name === token.name));
  $("candidates").replaceChildren(...rows);
  const rivals = others.filter((other) => other.name !== token.name).slice(0, 3);
  const said = rivals.map((other) => `${other.name} ${percent(other.chance)}`).join(", ");
  $("status").textContent = `${token.name}, ${percent(token.chance)}. Instead: ${said}`;
  look();
}

async function look() {
  looking?.abort();
  if (!selected) return;
  keepInSight();
  if (!$("look-inside").open) return;
  const abort = (looking = new AbortController());
  const spans = [...selected.closest(".text").querySelectorAll(".token")];
  const ids = spans.map((span) => tokenOf.get(span).id);
  const at = spans.indexOf(selected);
  const written = ids.slice(0, at + 1);
  const body = JSON.stringify({ ...askedOf.get(selected.closest(".reply")), written });
  try {
    const options = { method: "POST", headers: headers(), body, signal: abort.signal };
    const seen = await (await checked(await fetch("/v1/inspect", options))).json();
    if (abort.signal.aborted) return;
    showLook(seen, ids[at + 1]);
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
  const spans = [...text.querySelectorAll(".token")];
  const at = spans.indexOf(selected);
  const to = { ArrowRight: at + 1, ArrowLeft: at < 0 ? spans.length - 1 : at - 1, Home: 0, End: spans.length - 1 }[event.key];
  if (to === undefined || !spans[to]) return;
  event.preventDefault();
  select(spans[to]);
}

// Closes the panel; who was in it is brought back to the token.
export function close() {
  const text = $("inside").contains(document.activeElement) ? selected?.closest(".text") : null;
  select(null);
  text?.focus();
}

$("messages").addEventListener("click", (event) => {
  const span = event.target.closest(".token");
  if (span) select(span === selected ? null : span);
});
$("messages").addEventListener("keydown", selectByKey);
$("close-inside").addEventListener("click", close);
$("look-inside").addEventListener("toggle", look);
