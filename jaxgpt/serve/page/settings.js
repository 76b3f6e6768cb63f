// What people set, kept by the browser; the key alone is not.

import { $ } from "./tools.js";

export const DEFAULTS = { temperature: 0.8, top_p: 0.9, max_tokens: 256, seed: "", stop: "", tint: true };

export function settings() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem("jaxgpt") ?? "{}");
  } catch {} // not kept, or not ours
  return { ...DEFAULTS, ...kept };
}

export function showSettings(values) {
  for (const name of Object.keys(DEFAULTS)) {
    if (name === "tint") $(name).checked = values[name];
    else $(name).value = values[name];
  }
  for (const name of ["temperature", "top_p"]) $(`${name}-value`).textContent = Number(values[name]).toFixed(2);
  $("messages").classList.toggle("tinted", values.tint);
}

function keepSettings() {
  const values = {};
  for (const name of Object.keys(DEFAULTS)) values[name] = name === "tint" ? $(name).checked : $(name).value;
  try {
    localStorage.setItem("jaxgpt", JSON.stringify(values));
  } catch {} // a browser that keeps nothing
  showSettings(values);
}

export function openSettings(focus) {
  if (!$("settings").open) $("settings").showModal();
  if (focus) $(focus).focus();
}

// The headers of a request to the API.
export function headers() {
  const key = $("api_key").value;
  return { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
}

$("open-settings").addEventListener("click", () => openSettings());
$("settings").addEventListener("input", keepSettings);
$("reset").addEventListener("click", () => {
  showSettings(DEFAULTS);
  keepSettings();
});
