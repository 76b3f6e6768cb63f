// Charts that answer: uPlot in place of the SVG that stands there without scripts, with one crosshair for all.
"use strict";

{
  const HEIGHT = 210;

  function short(value) {
    if (value == null || !Number.isFinite(value)) return "";
    for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))}${letter}`;
    }
    return value === 0 || Math.abs(value) >= 1e-4 ? String(Number(value.toPrecision(4))) : value.toExponential(1);
  }

  function clock(seconds) {
    const s = Math.round(seconds), pad = (n) => String(n).padStart(2, "0");
    if (s < 60) return `${s}s`;
    return s < 3600 ? `${Math.floor(s / 60)}m ${pad(s % 60)}s` : `${Math.floor(s / 3600)}h ${pad(Math.floor(s % 3600 / 60))}m`;
  }

  // The mean of the `width` points around each point, of fewer at the ends.
  function smooth(y, width) {
    const before = Math.floor(width / 2), after = width - before, sums = [0];
    for (const value of y) sums.push(sums.at(-1) + value);
    return y.map((_, i) => {
      const low = Math.max(0, i - before), high = Math.min(y.length, i + after);
      return (sums[high] - sums[low]) / (high - low);
    });
  }

  // The numbers of one digit between two. uPlot's own ticks begin at `low`, and never end where that is just below
  // a power of ten.
  function round(low, high) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (let digit = 1; digit < 10; digit++) found.push(Number(`${digit}e${power}`));
    }
    return found.filter((tick) => low <= tick && tick <= high);
  }

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function along(series, axis) {
    if (axis === "tokens") return series.step.map((step) => step * series.step_tokens);
    return axis === "time" ? series.seconds : series.step;
  }

  function columns(spec, axis, width) {
    const found = [];
    for (const series of spec.series) {
      const x = along(series, axis), stroke = colour(`--c${series.colour}`);
      if (series.kind === "raw") {
        const mean = smooth(series.y, Math.max(1, Math.round(series.y.length * width)));
        if (width) found.push({ x, y: series.y, label: "", stroke: `${stroke}55`, width: 1 });
        found.push({ x, y: mean, label: series.name, stroke, width: 2 });
      } else {
        const dots = series.kind === "dots";
        found.push({ x, y: series.y, label: series.name, stroke, width: dots ? 1 : 2, dots });
      }
    }
    const all = found.flatMap((column) => column.x);
    const ends = [all.reduce((a, b) => Math.min(a, b)), all.reduce((a, b) => Math.max(a, b))];
    for (const [label, value] of spec.levels) {
      if (ends[0] === ends[1]) break;
      found.push({ x: ends, y: [value, value], label, stroke: colour("--quiet"), width: 1.2, dash: [5, 4] });
    }
    return found;
  }

  function nearest(u, series, place) {
    const x = u.data[0], y = u.data[series], at = u.posToVal(u.cursor.left, "x");
    let low = place, high = place;
    while (low > 0 && y[low] == null) low--;
    while (high < y.length - 1 && y[high] == null) high++;
    if (y[low] == null) return y[high] == null ? place : high;
    return y[high] != null && Math.abs(x[high] - at) < Math.abs(x[low] - at) ? high : low;
  }

  function draw(figure, spec, state, group) {
    const host = figure.querySelector(".live") ?? make("div", { class: "live" });
    host.replaceChildren();
    figure.prepend(host);
    figure.classList.add("is-live");
    const found = columns(spec, state.axis, state.width);
    if (state.log) for (const column of found) column.y = column.y.map((value) => (value > 0 ? value : null));
    const lines = { stroke: colour("--rule"), width: 1 }, axis = { stroke: colour("--quiet"), ticks: { show: false } };
    const font = '11px system-ui, -apple-system, "Segoe UI", sans-serif';
    const told = state.axis === "time" ? clock : short;
    const around = (u, low, high) => (low == null ? [0.1, 1] : high > low * 1.1 ? [low / 1.06, high * 1.06] : [low / 3, high * 3]);
    const range = (u, low, high) => uPlot.rangeNum(spec.from_zero ? Math.min(0, low) : low, high, 0.08, true);
    host.append(make("p", { class: "chart-title" }, spec.title));
    const plot = new uPlot({
      width: figure.clientWidth,
      height: HEIGHT,
      cursor: { sync: { key: group, scales: ["x", null] }, dataIdx: nearest, y: false, points: { size: (u, place) => (found[place - 1]?.dash ? 0 : 7) } },
      scales: { x: { time: false }, y: state.log ? { distr: 3, range: around } : { range } },
      axes: [
        { ...axis, font, grid: { show: false }, size: 28, space: 70, values: (u, ticks) => ticks.map(told) },
        { ...axis, font, grid: lines, size: 46, values: (u, ticks) => ticks.map(short), ...(state.log && { splits: (u, _, low, high) => round(low, high) }) },
      ],
      series: [
        { label: state.axis, value: (u, x) => (x == null ? "" : told(x)) },
        ...found.map((column) => ({
          label: column.label,
          stroke: column.stroke,
          width: column.width,
          dash: column.dash,
          spanGaps: true,
          points: { show: Boolean(column.dots) || column.x.length === 1, size: 7, fill: column.stroke },
          value: (u, y) => (column.dash ? "" : short(y)), // a level has its value in its name
        })),
      ],
    }, uPlot.join(found.map((column) => [column.x, column.y])), host);
    // uPlot follows moves, and a tap is none.
    plot.over.addEventListener("pointerup", (event) => {
      if (event.pointerType === "mouse") return;
      const box = plot.over.getBoundingClientRect();
      plot.setCursor({ left: event.clientX - box.left, top: event.clientY - box.top }, true, true);
    });
    // The faint curve beneath a mean has no line of its own in the legend.
    plot.root.querySelectorAll(".u-series").forEach((row, place) => {
      row.hidden = place > 0 && !found[place - 1].label;
    });
    return plot;
  }

  function choice(name, values, chosen, change) {
    const set = make("fieldset");
    set.append(make("legend", {}, name));
    for (const value of values) {
      const label = make("label"), input = make("input", { type: "radio", name: `${name}-${choice.count}`, value });
      input.checked = value === chosen;
      input.addEventListener("change", () => change(value));
      label.append(input, make("span", {}, value));
      set.append(label);
    }
    choice.count++;
    return set;
  }
  choice.count = 0;

  document.querySelectorAll(".curves").forEach((box, number) => {
    const charts = [...box.querySelectorAll("figure")].filter((figure) => figure.querySelector("script")).map((figure) => (
      { figure, spec: JSON.parse(figure.querySelector("script").textContent), plot: null }
    ));
    if (!charts.length) return;
    const all = charts.flatMap((chart) => chart.spec.series);
    const state = { axis: "step", log: false, width: 1 / 40 };
    const redraw = () => {
      for (const chart of charts) {
        chart.plot?.destroy();
        chart.plot = chart.figure.clientWidth ? draw(chart.figure, chart.spec, state, `group-${number}`) : null;
      }
    };
    const tools = make("div", { class: "tools" });
    const axes = ["step", "tokens", ...(all.every((series) => series.seconds) ? ["time"] : [])];
    tools.append(choice("By", axes, "step", (axis) => { state.axis = axis; redraw(); }));
    tools.append(choice("Scale", ["linear", "log"], "linear", (scale) => { state.log = scale === "log"; redraw(); }));
    if (all.some((series) => series.kind === "raw")) {
      const label = make("label", {}, "Smoothing"), slider = make("input", { type: "range", min: 0, max: 8, value: 2 });
      // From none to a fifth of the curve; 2 is what the chart without scripts has.
      const widths = [0, 1 / 100, 1 / 40, 1 / 30, 1 / 20, 1 / 15, 1 / 10, 1 / 7, 1 / 5];
      slider.addEventListener("input", () => { state.width = widths[slider.value]; redraw(); });
      label.append(slider);
      tools.append(label);
    }
    box.prepend(tools);
    redraw();
    box.closest("details")?.addEventListener("toggle", redraw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    new ResizeObserver(() => {
      for (const { figure, plot } of charts) {
        const width = figure.clientWidth;
        if (plot && width && width !== plot.width) plot.setSize({ width, height: HEIGHT });
      }
    }).observe(box);
  });
}
