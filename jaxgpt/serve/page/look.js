// What a token leads to: where each head looks from it, its vector's way through the blocks, the tokens nearest to it.

import { barParts, element, percent } from "./tools.js";

const SHOWN = 3; // of the likeliest tokens after each block

let head = "all"; // the head looked at, "block,head"; kept from token to token

export const isControl = (name) => /^<\|?\w+\|?>$/.test(name);
const mean = (rows) => rows[0].map((_, place) => rows.reduce((sum, row) => sum + row[place], 0) / rows.length);

// Returns what shows the step that /v1/inspect tells of; `next` is the id of the token that came of it, if any.
export function lookParts(seen, next) {
  return [...attention(seen), ...way(seen, next), ...neighbours(seen)];
}

// ---- attention

function attention(seen) {
  const layers = seen.attention;
  const names = seen.tokens;
  if (head !== "all" && !layers[head.split(",")[0]]?.[head.split(",")[1]]) head = "all";
  const text = element("p", "attended");
  text.tabIndex = 0; // it may scroll
  text.setAttribute("role", "group");
  text.setAttribute("aria-label", "What the model read, the darker the more is taken from it");
  const said = element("p", "quiet");
  said.setAttribute("aria-live", "polite");
  const spans = names.map((name, place) => {
    const span = element("span", isControl(name) ? "control" : "", name);
    if (place === names.length - 1) span.classList.add("asking");
    return span;
  });
  text.append(...spans.flatMap((span) => [span, " "]));

  function show() {
    const [layer, number] = head.split(",").map(Number);
    const weights = head === "all" ? mean(layers.flat()) : layers[layer][number];
    const largest = Math.max(...weights);
    spans.forEach((span, place) => {
      span.style.setProperty("--share", weights[place] / largest);
      span.title = percent(weights[place]);
    });
    const most = likeliestPlaces(weights, 3).map((place) => `${names[place]} ${percent(weights[place])}`);
    const who = head === "all" ? "All heads, on average, take" : `Block ${layer + 1}, head ${number + 1} takes`;
    said.textContent = `${who} most from: ${most.join(", ")}.`;
  }

  const heads = element("fieldset", "heads");
  heads.append(element("legend", "hidden", "Head"));
  heads.style.setProperty("--heads", layers[0].length);
  heads.append(choice("all", "All heads, on average", "", 0, show));
  layers.forEach((rows, layer) => {
    heads.append(element("span", "block", `Block ${layer + 1}`));
    rows.forEach((weights, number) => {
      const [place] = likeliestPlaces(weights, 1);
      heads.append(choice(`${layer},${number}`, names[place], percent(weights[place]), weights[place], show));
    });
  });
  show();
  const sight = seen.out_of_sight ? `The oldest ${seen.out_of_sight} tokens are out of the model's sight. ` : "";
  const lead = `${sight}Each head of each block looks back in its own way, and takes from the tokens it looks at. Below, the token that each takes most from.`;
  return [element("h3", "", "Where it looks"), element("p", "quiet", lead), heads, text, said];
}

export function likeliestPlaces(weights, count) {
  return [...weights.keys()].sort((a, b) => weights[b] - weights[a]).slice(0, count);
}

function choice(value, name, figure, share, show) {
  const label = element("label", value === "all" ? "head every" : "head");
  const input = element("input", "hidden");
  Object.assign(input, { type: "radio", name: "head", value, checked: value === head });
  if (value !== "all") {
    const [layer, number] = value.split(",").map(Number);
    input.setAttribute("aria-label", `Block ${layer + 1}, head ${number + 1}: ${name} ${figure}`);
  }
  input.addEventListener("change", () => {
    head = value;
    show();
  });
  label.style.setProperty("--share", share);
  label.append(input, element("span", isControl(name) ? "control" : "", name));
  if (figure) label.append(element("span", "figure", figure));
  return label;
}

// ---- the way through the blocks

function way(seen, next) {
  const longest = Math.max(...seen.stages.map((stage) => stage.length));
  const learned = seen.position_vector !== null;
  const steps = element("ol", "steps");
  if (learned) {
    steps.append(step("The token's own vector", seen.token_vector, longest), step("+ the vector of its place", seen.position_vector, longest));
  }
  seen.stages.forEach((stage, number) => {
    const title = number ? `After block ${number}` : learned ? "= what enters the first block" : "The token's own vector";
    const item = step(title, stage, longest);
    item.append(element("span", "hidden", "Were it to stop here, it would say: "), says(stage.likeliest, next));
    steps.append(item);
  });
  const place = learned ? "" : " Places are rotary here: nothing is added for them, the heads turn by them.";
  const lead = `Inside, a token is a vector, and every block adds to it.${place} Under each stage: what the model would say next, were it to stop there.`;
  return [element("h3", "", "Its way through the model"), element("p", "quiet", lead), steps];
}

function step(title, vector, longest) {
  const item = element("li");
  const turned = vector.turned == null ? "" : `, turned by ${Math.round(vector.turned)}°`;
  const size = element("span", "bar");
  size.style.setProperty("--share", vector.length / longest);
  item.append(element("span", "name", title), element("span", "figure", `length ${vector.length}${turned}`), size, stripe(vector.values));
  return item;
}

// A vector's numbers as colours side by side: one colour above zero, another below, the deeper the further from it.
function stripe(values) {
  const strip = element("div", "stripe");
  const usual = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length) || 1;
  const stops = values.map((x, i) => {
    const depth = Math.round(Math.min(Math.abs(x) / (2.5 * usual), 1) * 100);
    const [from, to] = [i, i + 1].map((edge) => `${((100 * edge) / values.length).toFixed(2)}%`);
    return `color-mix(in srgb, var(--${x > 0 ? "accent" : "tint"}) ${depth}%, transparent) ${from} ${to}`;
  });
  strip.style.setProperty("background-image", `linear-gradient(90deg, ${stops.join(",")})`);
  strip.setAttribute("aria-hidden", "true");
  return strip;
}

export function says(likeliest, next) {
  const list = element("ol", "says");
  for (const { id, token, probability } of likeliest.slice(0, SHOWN)) {
    const item = element("li", id === next ? "taken" : "");
    item.style.setProperty("--share", probability);
    item.append(element("span", "name", token), " ", element("span", "figure", percent(probability)));
    list.append(item);
  }
  return list;
}

// ---- neighbours

function neighbours(seen) {
  const list = element("ol", "bars");
  for (const { token, cosine } of seen.neighbours) {
    const item = element("li");
    item.append(...barParts(token, cosine.toFixed(2), cosine));
    list.append(item);
  }
  const lead = "The tokens whose vectors point most nearly the same way (the cosine of the angle): those it was used like.";
  return [element("h3", "", "Its neighbours"), element("p", "quiet", lead), list];
}
