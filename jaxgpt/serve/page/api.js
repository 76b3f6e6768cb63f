// The public API's answers: errors, the events of a stream, and tokens with what else was likely.

import { visible } from "./tools.js";

// Returns the response, or throws what the server says is wrong, with the status.
export async function checked(response) {
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  throw Object.assign(new Error(said?.error?.message ?? `the server answered ${response.status}`), { status: response.status });
}

// Yields the events of a stream, each as the JSON it carries.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    text += part.value;
    const whole = text.split("\n\n");
    text = whole.pop();
    for (const event of whole) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const said = JSON.parse(data);
      if (said.error) throw new Error(said.error.message);
      yield said;
    }
  }
  throw new Error("the connection was lost");
}

// The tokens of an event, in one shape for both kinds of model: what each adds to the text, which is nothing where it
// ends in the middle of a character, and what it looks like. A word looks the same with a blank before it and without.
export function tokensOf({ logprobs, token_ids: ids, text }, ofWords) {
  if (!logprobs) return [];
  const named = (name, logprob) => ({ name: visible(ofWords ? name.replace(/^ /, "") : name), chance: Math.exp(logprob) });
  const ordered = (others) => others.sort((a, b) => b.chance - a.chance);
  if (logprobs.content) {
    return logprobs.content.map((token, i) => ({
      ...named(token.token, token.logprob),
      id: ids[i],
      text: new TextDecoder().decode(Uint8Array.from(token.bytes)),
      others: ordered(token.top_logprobs.map((other) => named(other.token, other.logprob))),
    }));
  }
  const characters = [...text]; // offsets count characters
  const starts = logprobs.text_offset.map((offset) => offset - logprobs.text_offset[0]);
  return logprobs.tokens.map((name, i) => ({
    ...named(name, logprobs.token_logprobs[i]),
    id: ids[i],
    text: characters.slice(starts[i], starts[i + 1]).join(""),
    others: ordered(Object.entries(logprobs.top_logprobs[i]).map((other) => named(...other))),
  }));
}
