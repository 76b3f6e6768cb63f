// Behind a token: what else could have come there, to go on from; why it came; what it leads to.

import { post, readable } from "./api.js";
import { beginning, idsOf, parentOf } from "./conversation.js";
import { clearDrawn, rangesOf } from "./drawn.js";
import { lookParts } from "./look.js";
import { now } from "./now.js";
import { showPanel } from "./panels.js";
import { textElement, placeOf, tokenElements } from "./tokens.js";
import { $, barParts, element, percent } from "./tools.js";
import { whyParts } from "./why.js";
import { writeOnFrom } from "./writing.js";

let looking = null; // the AbortController of the look on its way

// Shows what is behind the token at a place, or, for null, nothing.
export function select(place) {
  now.selected = place;
  looking?.abort();
  clearDrawn();
  markSelected();
  if (!place) {
    if (!$("inside").hidden) showPanel(null);
    return;
  }
  const { node, at } = place;
  const token = node.tokens[at];
  showPanel("inside");
  $("chosen").textContent = token.name;
  $("chosen-chance").textContent = `${token.chosen ? "You chose it; its probability was" : "It came with a probability of"} ${percent(token.chance)}.`;
  const taken = token.others.some((other) => other.id === token.id);
  const others = taken ? token.others : [...token.others, token];
  $("candidates").replaceChildren(...others.map((other) => candidate(other, node, at)));
  const rivals = others.filter((other) => other.id !== token.id).slice(0, 3);
  const said = rivals.map((other) => `${other.name} ${percent(other.chance)}`).join(", ");
  $("status").textContent = `${token.name}, ${percent(token.chance)}. Instead: ${said}`;
  look();
}

// A row that writes on from another token when it is pressed; that of the token itself only shows its share.
function candidate(other, node, at) {
  const taken = other.id === node.tokens[at].id;
  const item = element("li", taken ? "taken" : "");
  const row = element(taken ? "div" : "button", "row");
  row.append(...barParts(other.name, percent(other.chance), other.chance));
  if (!taken) {
    row.type = "button";
    row.title = "Go on from this token";
    row.addEventListener("click", () => writeOnFrom(node, at, other, (written) => select({ node: written, at })));
  }
  item.append(row);
  return item;
}

// Marks the token looked at, after the conversation was drawn anew; closes where it is no longer on the page.
export function markSelected() {
  for (const span of document.querySelectorAll(".token.selected")) span.classList.remove("selected");
  const span = now.selected && tokenElements(now.selected.node)[now.selected.at];
  if (span?.isConnected) span.classList.add("selected");
  else if (now.selected) select(null);
}

async function look() {
  const { node, at } = now.selected;
  const deciding = $("why").checked;
  const { asked, texts, before } = beginning(now.conversation, parentOf(now.conversation, node), node.system, now.model);
  const spans = [...before.flatMap(tokenElements), ...tokenElements(node)];
  const ids = [...idsOf(before), ...idsOf([node])];
  const end = ids.length - node.tokens.length + at + (deciding ? 0 : 1);
  const given = Math.min(end, node.tokens[deciding ? at : Math.min(at + 1, node.tokens.length - 1)].given ?? 0);
  const abort = (looking = new AbortController());
  keepInSight();
  try {
    const response = await post("/v1/inspect", { ...asked, written: ids.slice(0, end), given }, abort.signal);
    const seen = await response.json();
    if (abort.signal.aborted) return;
    if (deciding) {
      const ranges = rangesOf(seen.places, texts.map((each) => each && textElement(each)), spans.slice(0, end));
      show(whyParts(seen, node.tokens[at], ranges));
    } else {
      clearDrawn();
      show(lookParts(seen, ids[end]));
    }
    keepInSight();
  } catch (error) {
    if (abort.signal.aborted) return;
    const wrong = element("p", "wrong", readable(error));
    wrong.setAttribute("role", "alert");
    show([wrong]);
  }
}

// Puts new parts in the place of the old ones; whoever was on a head is on the one that is chosen now.
function show(parts) {
  const name = $("look").contains(document.activeElement) && document.activeElement.name;
  $("look").replaceChildren(...parts);
  if (name) $("look").querySelector(`[name="${name}"]:checked`)?.focus();
}

// The panel has come, or has grown: on a phone it may lie over the token.
function keepInSight() {
  document.querySelector(".token.selected")?.scrollIntoView({ block: "nearest" });
}

function selectByKey(event) {
  const text = event.target.closest?.(".text");
  if (!text) return;
  const spans = [...text.querySelectorAll(".token")];
  const at = spans.findIndex((span) => span.classList.contains("selected"));
  const to = { ArrowRight: at + 1, ArrowLeft: at < 0 ? spans.length - 1 : at - 1, Home: 0, End: spans.length - 1 }[event.key];
  if (to === undefined || !spans[to]) return;
  event.preventDefault();
  select(placeOf(spans[to]));
}

// Closes the panel; who was in it is brought back to the token.
export function close() {
  const text = $("inside").contains(document.activeElement) && now.selected ? textElement(now.selected.node) : null;
  select(null);
  text?.focus();
}

$("talk").addEventListener("click", (event) => {
  const span = event.target.closest(".token");
  if (!span || !window.getSelection().isCollapsed) return;
  const place = placeOf(span);
  const again = now.selected?.node === place.node && now.selected.at === place.at;
  if (tokenElements(place.node)[place.at] === span) select(again ? null : place);
});
$("messages").addEventListener("keydown", selectByKey);
$("close-inside").addEventListener("click", close);
for (const id of ["why", "leads"]) $(id).addEventListener("change", () => now.selected && look());
