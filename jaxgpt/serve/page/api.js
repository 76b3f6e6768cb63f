// The public API's answers: errors, the events of a stream, and tokens with what else was likely.

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

// The tokens of an event, in one shape for both kinds of model.
export function wordsOf({ logprobs }) {
  if (!logprobs) return [];
  const named = (pairs) => pairs.map(([text, p]) => ({ text, chance: Math.exp(p) })).sort((a, b) => b.chance - a.chance);
  if (logprobs.content) {
    return logprobs.content.map((word) => ({
      text: word.token,
      chance: Math.exp(word.logprob),
      others: named(word.top_logprobs.map((other) => [other.token, other.logprob])),
    }));
  }
  return logprobs.tokens.map((text, i) => ({
    text,
    chance: Math.exp(logprobs.token_logprobs[i]),
    others: named(Object.entries(logprobs.top_logprobs[i])),
  }));
}
