"use strict";
// A line chart in SVG: scales, ticks, bands, lines, and what is under the pointer.

const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes, parent, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function scale(low, high, from, to, log, base) {
  const at = log ? Math.log10 : (value) => value;
  if (at(high) === at(low)) high = log ? low * 1.1 : low + 1;
  const [a, b] = [at(low), at(high)];
  const map = (value) => from + ((at(value) - a) / (b - a)) * (to - from);
  map.ticks = base ? powers(low, high, base) : log ? logTicks(low, high) : evenTicks(low, high);
  return map;
}

function evenTicks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) || 10);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high * (1 + 1e-9); k++) ticks.push(k * step);
  return ticks;
}

function logTicks(low, high) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const digits = last - first > 3 ? [1] : [1, 2, 5];
  const every = Math.ceil((last - first) / 7);
  const ticks = [];
  for (let k = first; k <= last; k += every)
    for (const digit of digits) {
      const value = Number(`${digit}e${k}`);
      if (value >= low * 0.999 && value <= high * 1.001) ticks.push(value);
    }
  return ticks.length > 2 ? ticks : evenTicks(low, high);
}

function powers(low, high, base) {
  const at = (value) => Math.log(value) / Math.log(base);
  const [first, last] = [Math.ceil(at(low) - 1e-9), Math.floor(at(high) + 1e-9)];
  const every = Math.ceil((last - first + 1) / 8), ticks = [];
  for (let k = first; k <= last; k += every) ticks.push(base ** k);
  return ticks;
}

function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (Number.isInteger(value) && size < 1e4) return String(value);
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  if (size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e");
  return String(+value.toPrecision(3));
}

function extent(values, log) {
  let low = Infinity, high = -Infinity;
  for (const value of values)
    if (value !== null && (!log || value > 0)) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  return low > high ? null : [low, high];
}

function path(xs, ys, x, y, stairs) {
  let text = "", last = null;
  xs.forEach((place, k) => {
    const value = ys[k];
    if (value === null || place === null) { last = null; return; }
    const [px, py] = [x(place).toFixed(1), y(value).toFixed(1)];
    // a setting holds for the stretch before its row
    text += last === null ? `M${px} ${py}` : stairs ? `V${py}H${px}` : `L${px} ${py}`;
    last = py;
  });
  return text;
}

/* Draw spec into figure. spec: title, xLabel, yLog, yZero, height, cut, mark (a place on x),
   series [{label, colour, dash, mark, x, mean, low, high, stairs}]. */
function drawChart(figure, spec) {
  figure.querySelector("svg")?.remove();
  const width = Math.max(figure.clientWidth, 260), height = spec.height;
  const box = { left: 52, right: width - 12, top: 10, bottom: height - 40 };
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" }, figure);
  element("title", {}, svg, spec.title);
  const shown = spec.series.filter((line) => line.mean.length);
  const xs = extent(shown.flatMap((line) => line.x));
  const ys = extent(shown.flatMap((line) => heights(line, spec.cut)), spec.yLog);
  if (!xs || !ys) {
    element("text", { x: box.left, y: height / 2 }, svg, "not measured");
    return;
  }
  const room = spec.yLog ? 1 : 0.05 * (ys[1] - ys[0]);
  const low = spec.yLog ? ys[0] / 1.1 : spec.yZero ? 0 : ys[0] - room;
  const x = scale(xs[0], xs[1], box.left, box.right);
  const y = scale(low, spec.yLog ? ys[1] * 1.1 : ys[1] + room, box.bottom, box.top, spec.yLog,
    spec.yBase);
  frame(svg, box, x, y, spec);
  const clip = `clip${(drawChart.count = (drawChart.count || 0) + 1)}`;
  const hole = element("clipPath", { id: clip }, svg);
  element("rect", { x: box.left, y: box.top - 3, width: box.right - box.left,
    height: box.bottom - box.top + 6 }, hole);
  const inside = element("g", { "clip-path": `url(#${clip})` }, svg);
  for (const line of shown) band(inside, line, x, y, spec.yLog);
  shown.forEach((line, k) => {
    element("path", { d: path(line.x, positive(line.mean, spec.yLog), x, y, line.stairs), fill: "none",
      // each thinner than the one before it, so that equal schedules all show
      stroke: line.colour, "stroke-width": line.stairs ? 1.4 + (4 * (shown.length - 1 - k)) / shown.length : 1.8,
      "stroke-linejoin": "round", "stroke-dasharray": line.dash, class: "line" }, inside);
    marks(inside, line, k, x, y, spec.yLog);
  });
  follow(figure, svg, box, x, y, shown, spec);
}

/* A few marks along a line, not where those of its neighbours are. */
function marks(parent, line, number, x, y, log) {
  if (!line.mark) return;
  const apart = Math.max(1, Math.floor(line.x.length / 7));
  for (let k = Math.floor((number * apart) / 3) % apart; k < line.x.length; k += apart)
    if (line.mean[k] !== null && (!log || line.mean[k] > 0))
      mark(parent, line, x(line.x[k]), y(line.mean[k]));
}

function mark(parent, line, x, y) {
  element("path", { d: line.mark, fill: line.colour, transform: `translate(${x} ${y})` }, parent);
}

function positive(values, log) {
  return log ? values.map((value) => (value > 0 ? value : null)) : values;
}

function heights(line, cut) {
  const from = cut ? Math.floor(line.x.length / 10) + 1 : 0;
  const both = line.low ? [...line.low.slice(from), ...line.high.slice(from)] : line.mean.slice(from);
  return both.length ? both : line.mean;
}

function frame(svg, box, x, y, spec) {
  const grid = element("g", { stroke: "#e6e9ec" }, svg);
  for (const tick of y.ticks) {
    element("line", { x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }, grid);
    element("text", { x: box.left - 6, y: y(tick) + 4, "text-anchor": "end" }, svg, short(tick));
  }
  const room = Math.max(1, Math.ceil((x.ticks.length * 46) / (box.right - box.left)));
  x.ticks.forEach((tick, k) => {
    element("line", { x1: x(tick), x2: x(tick), y1: box.top, y2: box.bottom }, grid);
    if (k % room === 0)
      element("text", { x: x(tick), y: box.bottom + 16, "text-anchor": "middle" }, svg, short(tick));
  });
  if (spec.mark !== undefined && spec.mark !== null)
    element("line", { x1: x(spec.mark), x2: x(spec.mark), y1: box.top, y2: box.bottom,
      stroke: "#9aa1a8", "stroke-width": 1.5 }, svg);
  element("text", { x: (box.left + box.right) / 2, y: box.bottom + 34, "text-anchor": "middle" }, svg,
    spec.xLabel);
}

function band(parent, line, x, y, log) {
  if (!line.low) return;
  const places = line.x.map((_, k) => k).filter((k) =>
    line.low[k] !== null && line.high[k] !== null && (!log || line.low[k] > 0));
  if (!places.length) return;
  const up = places.map((k) => `${x(line.x[k]).toFixed(1)} ${y(line.high[k]).toFixed(1)}`);
  const down = places.reverse().map((k) => `${x(line.x[k]).toFixed(1)} ${y(line.low[k]).toFixed(1)}`);
  element("path", { d: `M${[...up, ...down].join("L")}Z`, fill: line.colour, opacity: 0.16 }, parent);
}

function nearest(xs, x, place) {
  let best = -1;
  xs.forEach((value, k) => {
    if (best < 0 || Math.abs(x(value) - place) < Math.abs(x(xs[best]) - place)) best = k;
  });
  return best;
}

/* What is under the pointer: the nearest value of each line that goes so far, the smallest first. */
function follow(figure, svg, box, x, y, series, spec) {
  const rule = element("line", { y1: box.top, y2: box.bottom, stroke: "#5b6168", hidden: "" }, svg);
  const leave = () => { figure.querySelector(".tip")?.remove(); rule.setAttribute("hidden", ""); };
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("pointermove", (event) => {
    const place = (event.offsetX * svg.viewBox.baseVal.width) / svg.clientWidth;
    if (place < box.left || place > box.right) return leave();
    rule.removeAttribute("hidden");
    rule.setAttribute("x1", place); rule.setAttribute("x2", place);
    const rows = series.map((line) => ({ line, k: nearest(line.x, x, place) }))
      .filter(({ line, k }) => k >= 0 && line.mean[k] !== null && place <= x(line.x.at(-1)) + 8)
      .sort((a, b) => a.line.mean[a.k] - b.line.mean[b.k]).slice(0, 12);
    if (!rows.length) return leave();
    let tip = figure.querySelector(".tip");
    if (!tip) { tip = document.createElement("div"); tip.className = "tip"; figure.append(tip); }
    tip.replaceChildren(...[`${spec.xLabel} ${short(rows[0].line.x[rows[0].k])}`, ...rows].map((row) => {
      const made = document.createElement("div");
      if (typeof row === "string") { made.textContent = row; return made; }
      made.textContent = `${short(row.line.mean[row.k])}  ${row.line.label}`;
      made.style.borderLeft = `4px solid ${row.line.colour}`; made.style.paddingLeft = "5px";
      return made;
    }));
    const left = place > (box.left + box.right) / 2;
    tip.style.left = left ? "auto" : `${place + 14}px`;
    tip.style.right = left ? `${figure.clientWidth - place + 14}px` : "auto";
    tip.style.top = `${svg.offsetTop + 24}px`;
  });
}
