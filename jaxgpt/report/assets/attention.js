// One large attention matrix: the small ones beside it choose the head, and each cell tells who looks at whom.
"use strict";

for (const box of document.querySelectorAll(".attention")) {
  const { names, heads } = JSON.parse(box.querySelector("script").textContent);
  const large = box.querySelector(".large"), picks = [...box.querySelectorAll(".heads figure")];
  const CELL = 26, LEFT = 84, TOP = 74, size = names.length * CELL;
  const draw = (tag, attributes, text = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  };
  const cut = (name) => (name.length > 12 ? `${name.slice(0, 11)}…` : name);

  const svg = draw("svg", { viewBox: `0 0 ${LEFT + size + 40} ${TOP + size + 6}`, role: "img" });
  names.forEach((name, i) => {
    const middle = (i + 0.5) * CELL;
    svg.append(draw("text", { class: "end label", x: LEFT - 8, y: TOP + middle + 4 }, cut(name)));
    const turned = `translate(${LEFT + middle + 3} ${TOP - 8}) rotate(-52)`;
    svg.append(draw("text", { class: "label", transform: turned }, cut(name)));
  });
  const cells = names.map((_, t) => names.slice(0, t + 1).map((_, s) => {
    const place = { x: LEFT + s * CELL, y: TOP + t * CELL, width: CELL - 1.5, height: CELL - 1.5, rx: 2 };
    const ground = draw("rect", { ...place, class: "ground" }), cell = draw("rect", { ...place, class: "f0" });
    cell.dataset.t = t;
    cell.dataset.s = s;
    svg.append(ground, cell);
    return cell;
  }));
  const title = make("p", { class: "chart-title" }), said = make("figcaption", { role: "status" });
  large.replaceChildren(title, svg, said);
  let head = 0;

  function show(chosen) {
    head = chosen;
    picks.forEach((pick, place) => pick.setAttribute("aria-pressed", place === chosen));
    title.textContent = `${heads[chosen].name}: ${heads[chosen].habit}`;
    svg.setAttribute("aria-label", title.textContent);
    heads[chosen].weights.forEach((row, t) => row.forEach((weight, s) => {
      cells[t][s].setAttribute("fill-opacity", weight);
    }));
    said.textContent = "Point at a cell to read it.";
  }
  function tellCell(event) {
    const { t, s } = event.target.dataset;
    if (t === undefined) return;
    const weight = heads[head].weights[t][s];
    said.textContent = t === s
      ? `“${names[t]}” (${Number(t) + 1}) gives ${Math.round(100 * weight)}% to itself`
      : `“${names[t]}” (${Number(t) + 1}) takes ${Math.round(100 * weight)}% from “${names[s]}” (${Number(s) + 1})`;
  }
  svg.addEventListener("pointerover", tellCell);
  svg.addEventListener("click", tellCell);
  picks.forEach((pick, place) => {
    pick.tabIndex = 0;
    pick.setAttribute("role", "button");
    pick.addEventListener("click", () => show(place));
    pick.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      show(place);
    });
  });
  show(Number(large.dataset.head));
}
