// A conversation is a tree: a message that is edited or written again gets a sibling, and what followed it stays with it.
//
// Each node shows one of its children. A text that a language model writes on is the same: its first node is what was
// typed, and those below it are what the model wrote, each going on where the one above it ends.

export const newConversation = (model) => ({
  id: `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}`,
  name: "",
  model: model.id,
  weights: weightsOf(model),
  changed: Date.now(),
  children: [],
  shown: 0,
});

// What tells a trained model from one of the same name: the ids of tokens mean nothing to another.
export const weightsOf = (model) => `${model.created}, step ${model.jaxgpt.step}`;

export const typed = (text) => ({ role: "user", text, children: [], shown: 0 });
export const written = (tokens, system) => ({ role: "assistant", tokens, system, children: [], shown: 0 });

export const textOf = (node) => node.text ?? node.tokens.map((token) => token.text).join("");

// The nodes on the page, from the first one down.
export function path(conversation) {
  const nodes = [];
  for (let node = conversation.children[conversation.shown]; node; node = node.children[node.shown]) nodes.push(node);
  return nodes;
}

// The nodes from the first one down to `node`, wherever it is in the tree; none where it is not.
export function pathTo(conversation, node) {
  for (const child of conversation.children) {
    if (child === node) return [child];
    const below = pathTo(child, node);
    if (below.length) return [child, ...below];
  }
  return [];
}

export const parentOf = (conversation, node) => pathTo(conversation, node).at(-2) ?? conversation;

// Adds a child, and shows it.
export function add(parent, node) {
  parent.shown = parent.children.push(node) - 1;
}

// What the API is asked with, to go on below `parent`: what was said before, and the ids that were written since.
export function beginning(conversation, parent, system, model) {
  const nodes = parent === conversation ? [] : pathTo(conversation, parent);
  if (!model.jaxgpt.chat) {
    const typed = nodes.findLastIndex((node) => node.text !== undefined) + 1; // what other weights wrote is as if typed
    const prompt = nodes.slice(0, typed).map(textOf).join("");
    return { asked: { model: model.id, prompt }, texts: typed === 1 ? nodes.slice(0, 1) : [null], before: nodes.slice(typed) };
  }
  const messages = nodes.map((node) => ({ role: node.role, content: textOf(node) }));
  if (system) messages.unshift({ role: "system", content: system });
  return { asked: { model: model.id, messages }, texts: system ? [null, ...nodes] : nodes, before: [] };
}

export const idsOf = (nodes) => nodes.flatMap((node) => node.tokens.map((token) => token.id));

// What a conversation is called as long as nobody has named it.
export function nameOf(conversation) {
  const first = conversation.name || (conversation.children.length ? textOf(path(conversation)[0]) : "");
  const line = first.trim().replace(/\s+/g, " ");
  return line.length > 60 ? `${line.slice(0, 58)}…` : line || "New";
}
