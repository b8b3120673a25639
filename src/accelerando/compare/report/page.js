// The page: which figures there are, and what the switches do.

const data = JSON.parse(document.getElementById("data").textContent);
const figures = document.getElementById("figures");
const state = { axis: data.axes[0], norm: "norm" }; // until the switches are read

const CHARTS = [
  { id: "norm", full: true, height: 340, yLog: true,
    title: () => "Full gradient norm" + (state.norm === "norm" ? ", minimum so far" : ", as measured"),
    column: () => state.norm, mark: true },
  { id: "batch", title: () => "Batch size", column: () => "batch", yLog: true, yBase: 2, stairs: true },
  { id: "rate", title: () => "Learning rate", column: () => "rate", yZero: true, stairs: true },
  { id: "loss", title: () => "Empirical loss", column: () => "loss", yLog: true },
  { id: "accuracy", title: () => "Test accuracy", column: () => "accuracy", cut: true },
];

function shownGroups() {
  return data.groups.map((group, k) => ({ ...group, k })).filter((group) => group.shown);
}

function series(column, stairs) {
  return shownGroups().map((group) => {
    const curve = group.curves.find((one) => state.axis in one.x);
    return { label: group.label, colour: group.colour, dash: group.dash, mark: group.mark, x: curve.x[state.axis], stairs, ...curve.y[column] };
  });
}

function figure(id, full) {
  const made = document.createElement("figure");
  made.id = `figure-${id}`;
  if (full) made.className = "full";
  made.append(document.createElement("figcaption"));
  figures.append(made);
  return made;
}

function draw() {
  for (const chart of CHARTS) {
    const place = document.getElementById(`figure-${chart.id}`);
    place.querySelector("figcaption").textContent = chart.title();
    drawChart(place, { ...chart, height: onPaper(chart.height || 270), title: chart.title(), xLabel: state.axis,
      mark: chart.mark ? data.budgets[state.axis] : null, series: series(chart.column(), chart.stairs) });
  }
  drawRatios();
  drawSpeedUps();
}

/* Lower on paper, where a figure that does not fit leaves the rest of its page blank. */
function onPaper(height) {
  return figures.classList.contains("paper") ? 0.75 * height : height;
}

function others() {
  return shownGroups().filter((group) => group.k !== data.reference);
}

/* Rows with a dot for each seed, the mean as a diamond, and its interval. */
function drawRatios() {
  const place = document.getElementById("figure-ratios");
  place.hidden = data.groups.length < 2;
  place.querySelector("figcaption").textContent = `Norm at equal ${state.axis}, over that of the same seed under ${data.groups[data.reference].label}`;
  const rows = others().map((group) => ({ ...group, found: data.ratios[state.axis][group.k] }))
    .filter((row) => row.found);
  place.querySelector("svg")?.remove();
  if (!rows.length) return;
  const width = Math.max(place.clientWidth, 260), height = 44 * rows.length + 44;
  const box = { left: 12, right: width - 12, top: 4, bottom: height - 40 };
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" }, place);
  element("title", {}, svg, place.textContent);
  const [low, high] = extent(rows.flatMap(({ found }) => [...found.dots, found.low, found.high, 1]), true);
  const x = scale(low / 1.08, high * 1.08, box.left + 8, box.right - 8, true);
  const none = Object.assign(() => 0, { ticks: [] });
  frame(svg, box, x, none, { xLabel: "ratio; left of 1 is smaller", mark: 1 });
  rows.forEach((row, k) => {
    const y = box.top + 44 * k + 32, { mean, low, high, dots } = row.found;
    element("text", { x: box.left, y: y - 16, class: "strong" }, svg, row.label);
    for (const dot of dots)
      element("circle", { cx: x(dot), cy: y, r: 3.5, fill: "none", stroke: row.colour, opacity: 0.7 }, svg);
    if (low !== null)
      element("line", { x1: x(low), x2: x(high), y1: y, y2: y, stroke: row.colour, "stroke-width": 3 }, svg);
    element("rect", { x: x(mean) - 4, y: y - 4, width: 8, height: 8, fill: row.colour,
      transform: `rotate(45 ${x(mean)} ${y})`, class: "mean" }, svg);
  });
}

/* Levels from easy to hard; a hollow triangle marks a factor known from one side. */
function drawSpeedUps() {
  const place = document.getElementById("figure-speed");
  place.hidden = data.groups.length < 2 || !data.levels.length;
  place.querySelector("figcaption").textContent = `Times fewer ${state.axis} than ${data.groups[data.reference].label} to reach a norm`;
  place.querySelector("svg")?.remove();
  const rows = others().map((group) => ({ ...group,
    found: data.speedUps[state.axis][group.k] }));
  const values = rows.flatMap(({ found }) => found.flatMap((one) => [one.factor, one.low, one.high]));
  if (place.hidden || !values.length) return;
  const width = Math.max(place.clientWidth, 260), height = onPaper(300);
  const box = { left: 44, right: width - 20, top: 10, bottom: height - 40 };
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" }, place);
  element("title", {}, svg, place.textContent);
  const [low, high] = extent([...values, 1], true);
  const step = (box.right - box.left) / data.levels.length;
  const x = Object.assign((k) => box.left + step * (k + 0.5), { ticks: [] });
  const y = scale(low / 1.1, high * 1.1, box.bottom, box.top, true);
  frame(svg, box, x, y, { xLabel: "full gradient norm to reach" });
  data.levels.forEach((level, k) =>
    element("text", { x: x(k), y: box.bottom + 16, "text-anchor": "middle" }, svg, short(level)));
  element("line", { x1: box.left, x2: box.right, y1: y(1), y2: y(1), stroke: "#9aa1a8", "stroke-width": 1.5 }, svg);
  rows.forEach((row, number) => {
    const shift = (number - (rows.length - 1) / 2) * Math.min(9, (step * 0.7) / rows.length);
    const points = row.found.map((one) => ({ ...one, px: x(data.levels.indexOf(one.level)) + shift }));
    const exact = points.filter((p) => p.bound === "exact");
    element("path", { d: exact.map((p, k) => `${k ? "L" : "M"}${p.px} ${y(p.factor)}`).join(""),
      fill: "none", stroke: row.colour, "stroke-width": 1.2, "stroke-dasharray": row.dash, class: "line" }, svg);
    // pale, so that what is known from one side is seen to be the group's and not its factor
    element("path", { d: points.map((p, k) => `${k ? "L" : "M"}${p.px} ${y(p.factor)}`).join(""),
      fill: "none", stroke: row.colour, "stroke-width": 0.8, opacity: 0.4 }, svg);
    for (const point of points) speedPoint(svg, point, y, row);
  });
}

function speedPoint(svg, point, y, row) {
  const colour = row.colour;
  const [py, low, high] = [point.factor, point.low ?? point.factor, point.high ?? point.factor].map(y);
  element("line", { x1: point.px, x2: point.px, y1: low, y2: high, stroke: colour, "stroke-width": 2 }, svg);
  const up = point.bound === "at least" ? -1 : 1;
  if (point.bound === "exact" && row.mark) mark(svg, row, point.px, py);
  else if (point.bound === "exact") element("circle", { cx: point.px, cy: py, r: 4, fill: colour }, svg);
  else element("path", { d: `M${point.px - 5} ${py}h10l-5 ${8 * up}Z`, fill: "#fff", stroke: colour, "stroke-width": 1.5,
    class: "bound" }, svg);
}

function legend() {
  const place = document.getElementById("legend");
  data.groups.forEach((group) => {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.checked = group.shown;
    box.style.setProperty("--c", group.colour);
    box.addEventListener("change", () => { group.shown = box.checked; draw(); });
    label.append(box, chip(group), group.label);
    place.append(label);
  });
}

/* A short piece of the group's line. */
function chip(group) {
  const made = element("svg", { viewBox: "0 0 30 12", class: "chip" });
  element("path", { d: "M0 6H30", stroke: group.colour, "stroke-width": 2.4,
    "stroke-dasharray": group.dash }, made);
  if (group.mark) mark(made, group, 15, 6);
  return made;
}

function switched() {
  for (const part of document.querySelectorAll("[data-axis]")) part.hidden = part.dataset.axis !== state.axis;
  draw();
}

for (const chart of CHARTS) figure(chart.id, chart.full);
for (const id of ["ratios", "speed"]) figure(id, true);
legend();
for (const name of ["axis", "norm"])
  for (const input of document.querySelectorAll(`input[name=${name}]`)) {
    if (input.checked) state[name] = input.value; // a browser may keep the choice when it reloads
    input.addEventListener("change", () => { state[name] = input.value; switched(); });
  }
// paper has a width of its own: drawn for a wide window, text would shrink with the figures
addEventListener("beforeprint", () => { figures.classList.add("paper"); draw(); });
addEventListener("afterprint", () => { figures.classList.remove("paper"); draw(); });
let drawnAt = 0;
new ResizeObserver(() => {
  if (figures.classList.contains("paper")) return;
  if (figures.clientWidth !== drawnAt) { drawnAt = figures.clientWidth; draw(); }
}).observe(figures);
switched();
