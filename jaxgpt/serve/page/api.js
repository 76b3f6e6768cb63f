// The public API: requests, errors, the events of a stream, and tokens with what else was likely.

import { $, visible } from "./tools.js";

// The headers of a request; the key is in a field of the settings, and is kept nowhere.
export function headers() {
  const key = $("api_key").value;
  return { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
}

// Returns the response, or throws what the server says is wrong, with the status.
export async function checked(response) {
  if (response.ok) return response;
  const said = (await response.json().catch(() => null))?.error;
  throw Object.assign(new Error(said?.message ?? `the server answered ${response.status}`), { status: response.status, param: said?.param });
}

export async function post(path, body, signal) {
  const request = { method: "POST", headers: headers(), body: JSON.stringify(body), signal };
  return checked(await reached(fetch(path, request)));
}

// The network's failures are TypeErrors, as are this page's own faults.
async function reached(promise) {
  try {
    return await promise;
  } catch (error) {
    throw error instanceof TypeError ? new Error("The server cannot be reached.") : error;
  }
}

// Returns what is wrong, for somebody who does not know the fields of the API.
export function readable(error) {
  const message = error.message.startsWith(`${error.param}: `) ? error.message.slice(error.param.length + 2) : error.message;
  return message[0].toUpperCase() + message.slice(1);
}

// Yields the events of a stream, each as the JSON it carries.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let part = await reached(reader.read()); !part.done; part = await reached(reader.read())) {
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
export function tokensOf({ logprobs, token_ids: ids, candidate_ids: otherIds, candidates, text }, ofWords) {
  if (!logprobs) return [];
  const name = (said) => visible(ofWords ? said.replace(/^ /, "") : said);
  const token = (id, said, logprob, text) => ({ id, name: name(said), text, chance: Number(Math.exp(logprob).toPrecision(4)) });
  const ordered = (others) => others.sort((a, b) => b.chance - a.chance);
  if (logprobs.content) {
    const decoded = ({ bytes }) => new TextDecoder().decode(Uint8Array.from(bytes));
    return logprobs.content.map((each, i) => ({
      ...token(ids[i], each.token, each.logprob, decoded(each)),
      others: ordered(each.top_logprobs.map((other, k) => token(otherIds[i][k], other.token, other.logprob, decoded(other)))),
    }));
  }
  const characters = [...text]; // offsets count characters
  const starts = logprobs.text_offset.map((offset) => offset - logprobs.text_offset[0]);
  // The likeliest come as names alone; one that stands for half a character adds no text.
  const textOf = (said) => (/⟨[0-9a-f]{2}⟩/.test(said) ? "" : said);
  return logprobs.tokens.map((said, i) => ({
    ...token(ids[i], said, logprobs.token_logprobs[i], characters.slice(starts[i], starts[i + 1]).join("")),
    others: ordered(candidates[i].map(([id, other, logprob]) => token(id, other, logprob, textOf(other)))),
  }));
}
