// What the page is about at the moment.

export const now = {
  model: null, // as /v1/models describes it
  conversation: null, // the one that is shown; conversation.js says what it is made of
  running: null, // of what is being written: { abort, node }; the node comes once the server has accepted
  selected: null, // the token that is looked at: { node, at }
  draw: () => {}, // shows the conversation anew; page.js says how
};
