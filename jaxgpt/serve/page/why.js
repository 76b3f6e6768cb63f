// Why this word: the step that decided it. The heads by what each takes from one word, drawn onto the conversation.

import { draw } from "./drawn.js";
import { isControl, likeliestPlaces, says } from "./look.js";
import { barParts, button, element, percent } from "./tools.js";

const FEW = 6; // heads that are listed at first

// Returns what shows the step that /v1/inspect tells of; `token` is the one that it decided on, and `ranges` are where
// the tokens that were read stand on the page.
export function whyParts(seen, token, ranges) {
  const heads = headsByShare(seen, ranges);
  const list = element("fieldset", "by-share");
  list.append(element("legend", "hidden", "Head"));
  const said = element("p", "quiet");
  said.setAttribute("aria-live", "polite");

  function show(shares, who) {
    const most = likeliestPlaces(shares, 3).map((place) => `${seen.tokens[place]} ${percent(shares[place])}`);
    said.textContent = `${who} most from: ${most.join(", ")}.`;
    draw(ranges, shares);
  }

  const rows = heads.map(({ block, number, place, shares }, i) => {
    const label = element("label", "share");
    const input = element("input", "hidden");
    const where = `block ${block + 1}, head ${number + 1}`;
    Object.assign(input, { type: "radio", name: "deciding-head", checked: i === 0 });
    input.addEventListener("change", () => show(shares, `B${where.slice(1)} takes`));
    label.append(input, ...barParts(seen.tokens[place], percent(shares[place]), shares[place]), element("span", "quiet", where));
    if (isControl(seen.tokens[place])) label.classList.add("control");
    return label;
  });
  list.append(...rows.slice(0, FEW));
  if (rows.length > FEW) {
    const more = button(`All ${rows.length} heads`, "more", () => more.replaceWith(...rows.slice(FEW)));
    list.append(more);
  }
  show(heads[0].shares, `Block ${heads[0].block + 1}, head ${heads[0].number + 1} takes`);
  const last = seen.tokens.at(-1);
  const lead = `“${token.name}” was decided when the model had read as far as “${last}”. Below, the token that each head takes most from, the largest share first; the selected head is drawn onto the conversation.`;
  return [element("p", "quiet", lead), list, said, ...stages(seen, token)];
}

// Heads that rest on a control token say little: they come after those that look at a word on the page.
function headsByShare(seen, ranges) {
  const heads = seen.attention.flatMap((rows, block) =>
    rows.map((shares, number) => {
      const [place] = likeliestPlaces(shares, 1);
      return { block, number, place, shares, onPage: ranges[place] !== null };
    }),
  );
  return heads.sort((a, b) => b.onPage - a.onPage || b.shares[b.place] - a.shares[a.place]);
}

function stages(seen, token) {
  const list = element("ol", "stages");
  seen.stages.forEach((stage, number) => {
    const item = element("li");
    item.append(element("span", "name", number ? `After block ${number}` : "Before the blocks"), says(stage.likeliest, token.id));
    list.append(item);
  });
  const lead = "What it would have said, had it stopped after each block.";
  return [element("h3", "", "How it came to it"), element("p", "quiet", lead), list];
}
