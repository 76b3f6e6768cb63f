// The place beside the conversation: what is behind a token, or the settings, or neither.

import { now } from "./now.js";
import { $ } from "./tools.js";

const PANELS = ["inside", "settings"];

// Goes back from the settings to the token that is looked at, if any.
export function closeSettings() {
  showPanel(now.selected ? "inside" : null);
  $("open-settings").focus();
}

export function showPanel(shown) {
  for (const id of PANELS) $(id).hidden = id !== shown;
  $("open-settings").setAttribute("aria-expanded", shown === "settings");
}
