// What the settings leave of the next token, shown while they are changed.

import { post, readable } from "./api.js";
import { beginning, idsOf, parentOf, path } from "./conversation.js";
import { now } from "./now.js";
import { $, barParts, element, percent, visible } from "./tools.js";

let wanted = null; // the settings that are to be shown next
let busy = false;

// Shows what a draw with these settings can give. Only one request is on its way; of those that wait the last counts.
export async function showNext(drawing) {
  wanted = drawing;
  if (busy || !now.model) return;
  busy = true;
  while (wanted) {
    const values = wanted;
    wanted = null;
    await show(values);
  }
  busy = false;
}

async function show(drawing) {
  const step = stepShown();
  $("next").hidden = !step;
  if (!step) return;
  $("next-where").textContent = step.where;
  try {
    const seen = await (await post("/v1/next", { ...step.asked, ...drawing })).json();
    $("next-tokens").replaceChildren(...seen.likeliest.map(row));
    $("next-left").textContent = seen.left === 1 ? "One token can come." : `${seen.left.toLocaleString("en")} tokens can come.`;
  } catch (error) {
    $("next-tokens").replaceChildren();
    $("next-left").textContent = readable(error);
  }
}

function row({ token, model_probability: own, probability }) {
  const item = element("li", probability ? "" : "out");
  item.append(...barParts(token, probability ? percent(probability) : "–", probability));
  item.style.setProperty("--own", own);
  item.title = `${percent(own)} by the model itself`;
  return item;
}

// The step that is shown: that of the token looked at; else of the one that the model was least sure of in what it last
// wrote; else the first of what it would answer to a starter.
function stepShown() {
  const { conversation, model } = now;
  const last = path(conversation).findLast((node) => node.tokens?.length);
  const at = last && last.tokens.reduce((least, token, i) => (token.chance < last.tokens[least].chance ? i : least), 0);
  const chosen = now.selected ?? (last && { node: last, at });
  if (chosen) {
    const { node, at } = chosen;
    const { asked, before } = beginning(conversation, parentOf(conversation, node), node.system, model);
    const written = [...idsOf(before), ...idsOf([node]).slice(0, at)];
    const token = node.tokens[at];
    return { asked: { ...asked, written, given: token.given ?? 0 }, where: `In the place of “${token.name}”${now.selected ? "" : ", of which the model was least sure"}:` };
  }
  const [starter] = model.jaxgpt.starters ?? [];
  if (!starter) return null;
  const asked = model.jaxgpt.chat ? { messages: [{ role: "user", content: starter }] } : { prompt: starter };
  return { asked: { model: model.id, ...asked }, where: `After “${visible(starter).replaceAll("␣", " ")}”:` };
}
