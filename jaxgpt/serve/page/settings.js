// What people set, beside the conversation; kept by the browser, the key aside.

import { showNext } from "./next.js";
import { closeSettings, showPanel } from "./panels.js";
import { $ } from "./tools.js";

const DEFAULTS = {
  temperature: 0.8, top_k: 0, top_p: 0.9, min_p: 0,
  system: "", max_tokens: 256, seed: "", stop: "", theme: "light dark", tint: true,
};
const SHOWN = {
  temperature: (x) => x.toFixed(2),
  top_k: (x) => (x ? String(x) : "all"),
  top_p: (x) => x.toFixed(2),
  min_p: (x) => (x ? x.toFixed(2) : "off"),
};

export function settings() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem("jaxgpt") ?? "{}");
  } catch {} // not kept, or not ours
  return { ...DEFAULTS, ...kept };
}

// How tokens are drawn, as the API takes it.
export function drawing() {
  const values = settings();
  return Object.fromEntries(Object.keys(SHOWN).map((name) => [name, Number(values[name])]));
}

// The same, with where to end.
export function sampling() {
  const { max_tokens: most, seed, stop } = settings();
  return {
    ...drawing(),
    max_tokens: Math.trunc(Number(most)) || DEFAULTS.max_tokens,
    ...(seed !== "" && { seed: Math.trunc(Number(seed)) }),
    ...(stop && { stop }),
  };
}

const field = (name) => (name === "theme" ? $("settings").querySelector("[name=theme]:checked") : $(name));

export function showSettings(values) {
  for (const name of Object.keys(DEFAULTS)) {
    if (name === "theme") for (const choice of $("settings").querySelectorAll("[name=theme]")) choice.checked = choice.value === values.theme;
    else if (name === "tint") $(name).checked = values[name];
    else $(name).value = values[name];
  }
  for (const [name, text] of Object.entries(SHOWN)) $(`${name}-value`).textContent = text(Number(values[name]));
  document.documentElement.style.colorScheme = values.theme;
  document.body.classList.toggle("tinted", values.tint);
}

function keepSettings() {
  const values = {};
  for (const name of Object.keys(DEFAULTS)) values[name] = name === "tint" ? $(name).checked : field(name).value;
  try {
    localStorage.setItem("jaxgpt", JSON.stringify(values));
  } catch {} // a browser that keeps nothing
  showSettings(values);
  if (!$("settings").hidden) showNext(drawing());
}

export function openSettings(focus) {
  showPanel("settings");
  showNext(drawing());
  if (focus) $("more").open = true;
  $(focus ?? "temperature").focus();
}

$("open-settings").addEventListener("click", () => ($("settings").hidden ? openSettings() : closeSettings()));
$("settings").addEventListener("input", keepSettings);
$("settings").addEventListener("submit", (event) => event.preventDefault());
$("reset").addEventListener("click", () => {
  showSettings(DEFAULTS);
  keepSettings();
});
