// The page itself: contents that follow the reader, commands to copy, samples as a slider, losses of tokens by tap.
"use strict";

function make(tag, attributes = {}, text = "") {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

// A link into a folded section opens it.
function openTarget() {
  const section = location.hash && document.getElementById(location.hash.slice(1));
  if (!section) return;
  const details = section.querySelector("details");
  if (details) details.open = true;
  section.scrollIntoView();
}
addEventListener("hashchange", openTarget);
openTarget();
for (const link of document.querySelectorAll("nav a")) {
  link.addEventListener("click", () => { if (link.hash === location.hash) openTarget(); });
}

// The contents mark the section that is at the top of the window.
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const sections = [...document.querySelectorAll("main section")];
function follow() {
  const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
  const passed = sections.filter((section) => section.getBoundingClientRect().top < innerHeight * 0.3);
  const current = atEnd ? sections.at(-1) : passed.at(-1);
  for (const [id, link] of links) {
    const here = current?.id === id;
    if (here === link.hasAttribute("aria-current")) continue;
    link.toggleAttribute("aria-current", here);
    const bar = link.parentElement;
    if (here && bar.scrollWidth > bar.clientWidth) bar.scrollTo({ left: link.offsetLeft - bar.clientWidth / 3 });
  }
}
addEventListener("scroll", follow, { passive: true });
addEventListener("resize", follow);
follow();

for (const command of document.querySelectorAll(".command")) {
  const button = make("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    const code = command.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch { // a page opened as a file may not write there: the text is selected instead
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  command.append(button);
}

for (const box of document.querySelectorAll(".samples")) {
  const samples = [...box.querySelectorAll(".sample")];
  if (samples.length < 2) continue;
  const tools = make("div", { class: "tools" });
  const label = make("label", {}, "Evaluation");
  const slider = make("input", { type: "range", min: 0, max: samples.length - 1, value: samples.length - 1 });
  const show = () => samples.forEach((sample, place) => { sample.hidden = place !== Number(slider.value); });
  slider.addEventListener("input", show);
  label.append(slider);
  tools.append(label);
  box.prepend(tools);
  show();
}

// What a token cost is told where it is pointed at, tapped, or reached by the arrow keys.
const tip = make("div", { class: "tip", role: "status" });
tip.hidden = true;
document.body.append(tip);
let told = null;
function tell(token) {
  told?.classList.remove("told");
  told = token;
  tip.hidden = !token;
  if (!token) return;
  token.classList.add("told");
  tip.textContent = token.dataset.told;
  const box = token.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left), document.documentElement.clientWidth - tip.offsetWidth - 8);
  const above = box.top - tip.offsetHeight - 6;
  tip.style.left = `${left + scrollX}px`;
  tip.style.top = `${(above > 0 ? above : box.bottom + 6) + scrollY}px`;
}
for (const text of document.querySelectorAll(".tokens")) {
  const tokens = [...text.querySelectorAll("span[title]")];
  for (const token of tokens) {
    token.dataset.told = token.title;
    token.removeAttribute("title");
  }
  text.tabIndex = 0;
  text.addEventListener("pointerover", (event) => tell(event.target.closest("span[data-told]")));
  text.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !tokens.length) return;
    event.preventDefault();
    const next = tokens.indexOf(told) + step;
    tell(tokens[Math.min(Math.max(next, 0), tokens.length - 1)]);
  });
  text.addEventListener("blur", () => tell(null));
}
addEventListener("click", (event) => tell(event.target.closest(".tokens span[data-told]")));
addEventListener("keydown", (event) => { if (event.key === "Escape") tell(null); });
