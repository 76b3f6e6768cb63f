// Shares of attention, drawn onto the conversation itself: the darker a token, the more is taken from it.
//
// They are highlights of the browser (CSS.highlights): ranges that it paints, while the text stays as it is.

const LEVELS = 8;
const LEAST = 0.02; // of the largest share; what has less is not drawn

// Returns a range for each token that the model read, null for one that stands nowhere on the page. `texts` are the
// elements of the messages that `places` number, `written` those of the tokens that were written since.
export function rangesOf(places, texts, written) {
  const before = places.length - written.length; // less than none where the oldest are out of sight
  return places.map((place, i) => {
    if (i >= before) return rangeIn(written[i - before], 0, Infinity);
    return place && texts[place[0]] ? rangeIn(texts[place[0]], place[1], place[2]) : null;
  });
}

// The range from one character of an element to before another; characters are counted as the server does.
function rangeIn(element, first, end) {
  if (!element?.isConnected) return null;
  const range = document.createRange();
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  let at = 0, begun = false;
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const characters = [...text.data];
    const offset = (place) => characters.slice(0, place - at).join("").length;
    if (!begun && first < at + characters.length) {
      range.setStart(text, offset(first));
      begun = true;
    }
    if (begun) range.setEnd(text, offset(Math.min(end, at + characters.length)));
    at += characters.length;
    if (at >= end) break;
  }
  return begun ? range : null;
}

export function draw(ranges, shares) {
  clearDrawn();
  if (!window.CSS?.highlights) return; // the list says it too
  const largest = Math.max(...shares.filter((_, i) => ranges[i]));
  const levels = Array.from({ length: LEVELS }, () => []);
  ranges.forEach((range, i) => {
    const share = shares[i] / largest;
    if (range && share >= LEAST) levels[Math.min(LEVELS - 1, Math.floor(share * LEVELS))].push(range);
  });
  levels.forEach((found, level) => found.length && CSS.highlights.set(`share-${level + 1}`, new Highlight(...found)));
  document.body.classList.add("drawn");
}

export function clearDrawn() {
  for (let level = 1; level <= LEVELS; level++) window.CSS?.highlights?.delete(`share-${level}`);
  document.body.classList.remove("drawn");
}
