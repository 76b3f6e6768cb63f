// The map of tokens: search one, or point at one, and see its nearest neighbours, there and by name.
"use strict";

for (const figure of document.querySelectorAll(".map")) {
  const svg = figure.querySelector("svg");
  const circles = [...svg.querySelectorAll(".cloud")];
  const { names, near } = JSON.parse(figure.querySelector("script").textContent);
  const places = circles.map((circle) => [circle.cx.baseVal.value, circle.cy.baseVal.value]);
  const marks = svg.appendChild(document.createElementNS(svg.namespaceURI, "g"));
  const tools = make("div", { class: "tools" });
  const label = make("label", {}, "Find a token"), input = make("input", { type: "search", autocomplete: "off" });
  const said = make("p", { class: "near", role: "status" });
  label.append(input);
  tools.append(label);
  const scroller = figure.closest(".scroll");
  scroller.before(tools, said);
  const hint = "Choose a point, or find a token, to see its nearest neighbours.";
  said.textContent = hint;

  // Names stand where they cover no other of them, and nowhere where there is no such place.
  const SPOTS = [[8, 4, ""], [-8, 4, "end"], [0, -10, "middle"], [0, 18, "middle"]];
  function mark(place, kind) {
    const [x, y] = places[place], text = document.createElementNS(svg.namespaceURI, "text");
    const dot = circles[place].cloneNode();
    dot.classList.replace("cloud", kind);
    dot.setAttribute("r", kind === "chosen" ? 6 : 4);
    text.textContent = names[place];
    const taken = [...marks.querySelectorAll("text")].map((other) => other.getBBox());
    marks.append(dot, text);
    const fits = SPOTS.some(([right, down, anchor]) => {
      text.setAttribute("x", x + right);
      text.setAttribute("y", y + down);
      text.setAttribute("class", `name ${kind} ${anchor}`);
      const box = text.getBBox(), last = box.x + box.width;
      return box.x >= 0 && last <= svg.viewBox.baseVal.width && !taken.some((other) => (
        box.x < other.x + other.width && other.x < last && box.y < other.y + other.height && other.y < box.y + box.height
      ));
    });
    if (!fits) text.remove();
  }

  function clear() {
    marks.replaceChildren();
    svg.classList.remove("dimmed");
  }

  function choose(place) {
    clear();
    svg.classList.add("dimmed");
    said.replaceChildren(make("strong", {}, names[place]), " is nearest to ");
    mark(place, "chosen");
    for (const [other, cosine] of near[place]) {
      const word = `${names[other]} ${cosine.toFixed(2)}`;
      if (other < circles.length) {
        mark(other, "neighbour");
        const button = make("button", { type: "button" }, word);
        button.addEventListener("click", () => choose(other));
        said.append(button, " ");
      } else {
        said.append(make("span", {}, word), " ");
      }
    }
    const scale = svg.clientWidth / svg.viewBox.baseVal.width;
    scroller.scrollLeft = places[place][0] * scale - scroller.clientWidth / 2;
  }

  svg.addEventListener("click", (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const far = places.map(([x, y]) => Math.hypot(x - point.x, y - point.y));
    const place = far.reduce((best, distance, i) => (distance < far[best] ? i : best), 0);
    if (far[place] < 25) choose(place);
  });

  input.addEventListener("input", () => {
    const asked = input.value.trim().toLowerCase();
    const plain = names.slice(0, circles.length).map((name) => name.replace(/^␣/, "").toLowerCase());
    const typed = names.indexOf(input.value.trim());
    const exact = typed >= 0 && typed < circles.length ? typed : plain.indexOf(asked);
    const found = plain.flatMap((name, i) => (asked && name.startsWith(asked) ? [i] : []));
    if (asked && exact >= 0) return choose(exact);
    clear();
    said.textContent = !asked ? hint : found.length ? `${found.length} begin so` : "None on the map begins so.";
    if (found.length) {
      svg.classList.add("dimmed");
      for (const place of found.slice(0, 30)) mark(place, "neighbour");
    }
  });
  input.addEventListener("keydown", (event) => {
    const asked = input.value.trim().toLowerCase();
    const place = names.slice(0, circles.length).findIndex((name) => name.replace(/^␣/, "").toLowerCase().startsWith(asked));
    if (event.key === "Enter" && asked && place >= 0) choose(place);
  });
}
