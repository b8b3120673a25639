"use strict";
// Draws the figures from the data in the page and connects the controls to them.

const data = JSON.parse(document.getElementById("data").textContent);
const figures = document.getElementById("figures");
const state = { axis: data.axes[0], norm: "norm" }; // replaced by what the controls show
const touch = matchMedia("(pointer: coarse)"), narrow = matchMedia("(max-width: 44rem)");
const escapeText = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;"); // Plotly interprets tags
for (const group of data.groups) group.name = escapeText(group.label);
const reference = data.groups[data.reference];

const CURVES = [
  { id: "norm", column: () => state.norm, log: true, height: 340, budget: true,
    title: () => "Full gradient norm" + (state.norm === "norm" ? ", minimum so far" : ", as measured") },
  { id: "batch", column: () => "batch", title: () => "Batch size", steps: true,
    yaxis: { type: "log", dtick: Math.log10(2), tickformat: "d", hoverformat: ",.5~r" } },
  { id: "rate", column: () => "rate", title: () => "Learning rate", steps: true, yaxis: { rangemode: "tozero" } },
  { id: "loss", column: () => "loss", title: () => "Empirical loss", log: true },
  { id: "accuracy", column: () => "accuracy", title: () => "Test accuracy", cutStart: true },
];

const visibleGroups = () => data.groups.filter((group) => group.visible);
const visibleOthers = () => visibleGroups().filter((group) => group !== reference);
const plotOf = (id) => document.querySelector(`#figure-${id} .plot`);

function plot(id, title, traces, { xaxis, yaxis, ...layout }, height = 270) {
  const div = plotOf(id), paper = figures.classList.contains("paper");
  div.previousElementSibling.textContent = title;
  const axis = { gridcolor: "#e6e9ec", zeroline: false, automargin: true, exponentformat: "SI" };
  const base = {
    width: Math.max(div.clientWidth, 260),
    height: paper && id !== "ratios" ? 0.75 * height : height, // a page has room for several
    margin: { l: 52, r: 14, t: 8, b: 40 },
    font: { family: 'system-ui, -apple-system, "Segoe UI", sans-serif', size: 12, color: "#5b6168" },
    hovermode: "x unified", hoversort: "value descending", hoverdistance: 100, hoverlabel: { namelength: -1 },
    showlegend: false, legend: { orientation: "h", y: -0.2 },
    dragmode: touch.matches ? false : "zoom", // a finger scrolls the page
    uirevision: state.axis, // keeps the zoom until the axis changes
    xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis },
  };
  Plotly.react(div, traces, { ...base, ...layout }, {
    displaylogo: false,
    plotlyServerURL: "", // no button may upload the chart
    modeBarButtons: [touch.matches || narrow.matches ? [download] :
      ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", download]],
  });
}

/* The plot with its title and a legend. */
function exported(div) {
  const title = { text: escapeText(div.previousElementSibling.textContent), font: { size: 14 } };
  const showlegend = div.data.some((trace) => trace.showlegend !== false);
  return { data: div.data, layout: { ...div.layout, title, showlegend, margin: { ...div.layout.margin, t: 44 } } };
}

const download = {
  name: "Download as PNG",
  icon: Plotly.Icons.camera,
  click: (div) => Plotly.downloadImage(exported(div), { format: "png", scale: 2, filename: div.parentNode.id,
    width: div.layout.width, height: div.layout.height + 80 }),
};

function drawCurves(chart) {
  const curves = visibleGroups().map((group) => {
    const { x, y } = group.curves.find((curve) => state.axis in curve.x);
    return { group, x: x[state.axis], ...y[chart.column()] };
  });
  const bands = curves.filter(({ low }) => low).map((curve) => band(chart, curve));
  const lines = curves.map(({ group, x, mean }, place) => {
    const { name, color, dash, symbol } = group;
    // equal schedules hide each other: each line is thinner than the one below it
    const width = chart.steps ? 1.4 + 4 * (1 - (place + 1) / curves.length) : 1.8;
    return { x, y: mean, name, mode: symbol ? "lines+markers" : "lines",
      // a setting applies to the steps before its row
      line: { color, dash, width, shape: chart.steps ? "vh" : "linear" },
      marker: { symbol: symbol || "circle", color, size: 9, maxdisplayed: 7 } };
  });
  const values = curves.flatMap(({ mean, low = [], high = [] }) => [mean, low, high]);
  plot(chart.id, chart.title(), [...bands, ...lines], {
    xaxis: { title: axisTitle(state.axis), range: extent(curves.flatMap(({ x }) => x)), hoverformat: ",.5~r",
      unifiedhovertitle: { text: `${state.axis} %{x}` } },
    yaxis: { hoverformat: ".3~r", ...chart.yaxis, ...(chart.log && logAxis(values.flat())),
      ...(chart.cutStart && rangeAfterStart(values)) },
    shapes: chart.budget ? [rule("x", data.budgets[state.axis])] : [],
    annotations: values.flat().some((value) => value !== null) ? [] : [note("not measured")],
  }, chart.height);
}

/* The area between the minimum and the maximum over seeds. */
function band({ steps, log }, { group, x, low, high }) {
  const kept = [...x.keys()].filter((k) => low[k] !== null && high[k] !== null && (!log || low[k] > 0));
  const edge = (values) => kept.flatMap((k, n) =>
    steps && n ? [[x[kept[n - 1]], values[k]], [x[k], values[k]]] : [[x[k], values[k]]]);
  const outline = [...edge(high), ...edge(low).reverse()];
  return { x: outline.map((point) => point[0]), y: outline.map((point) => point[1]), mode: "lines",
    line: { width: 0 }, fill: "toself", fillcolor: `${group.color}29`, hoverinfo: "skip", showlegend: false };
}

/* Leave out the climb of the first tenth, which would squeeze all later differences. */
function rangeAfterStart(curves) {
  const [low, high] = extent(curves.flatMap((values) => values.slice(Math.floor(values.length / 10) + 1)));
  const margin = 0.05 * (high - low) + 0.002;
  return low > high ? {} : { range: [low - margin, high + margin] };
}

function extent(values) {
  const known = values.filter((value) => value !== null);
  return [known.reduce((a, b) => Math.min(a, b), Infinity), known.reduce((a, b) => Math.max(a, b), -Infinity)];
}

/* Labels that do not overlap: 1, 2, 5, 10, ..., or even steps within a decade. */
function logAxis(values) {
  const [low, high] = extent(values.filter((value) => value > 0));
  return { type: "log", tickformat: "~g", nticks: high > 10 * low ? 3 : 6 };
}

const axisTitle = (text) => ({ text, font: { size: 12 }, standoff: 6 });
const note = (text, place = {}) => ({ text, showarrow: false, xref: "paper", yref: "paper", ...place });

/* A grey line across the plot. */
function rule(axis, at) {
  const ends = axis === "x" ? { x0: at, x1: at, yref: "paper", y0: 0, y1: 1 }
    : { y0: at, y1: at, xref: "paper", x0: 0, x1: 1 };
  return { type: "line", layer: "below", line: { color: "#9aa1a8", width: 1.5 }, ...ends };
}

function errorBar(values, lows, highs, color, thickness) {
  const distances = (ends) => ends.map((end, k) => (end === null ? 0 : Math.abs(end - values[k])));
  return { type: "data", symmetric: false, array: distances(highs), arrayminus: distances(lows),
    color, thickness, width: 0 };
}

/* A row for each group: a circle for each seed, a diamond for the mean, a bar for its interval. */
function drawRatios() {
  const rows = visibleOthers().filter((group) => group.ratios[state.axis]);
  const traces = rows.flatMap(({ ratios, color }, row) => {
    const { mean, low, high, seeds } = ratios[state.axis];
    const interval = low === null ? "" : `, interval ${low} to ${high}`;
    return [
      { x: seeds, y: seeds.map(() => row), mode: "markers", showlegend: false,
        marker: { symbol: "circle-open", color, size: 7, opacity: 0.7 },
        hovertemplate: "%{x:.4~r}<extra>one seed</extra>" },
      { x: [mean], y: [row], mode: "markers", showlegend: false, marker: { symbol: "diamond", color, size: 11 },
        error_x: errorBar([mean], [low], [high], color, 3), hovertemplate: `%{x:.4~r}${interval}<extra>mean</extra>` },
    ];
  });
  const ends = rows.flatMap(({ ratios }) => [ratios[state.axis].low, ratios[state.axis].high, 1]);
  const label = ({ name }, row) => note(name,
    { yref: "y", y: row, yshift: 15, x: 0, xanchor: "left", font: { color: "#1c1e21" } });
  plot("ratios", `Norm at equal ${state.axis}, relative to the same seed under ${reference.label}`, traces, {
    hovermode: "closest", margin: { l: 14, r: 14, t: 8, b: 40 },
    xaxis: { ...logAxis(ends), title: axisTitle("ratio (below 1 is better)") },
    yaxis: { visible: false, range: [rows.length - 0.4, -0.9] },
    shapes: [rule("x", 1)],
    annotations: rows.length ? rows.map(label) : [note("no ratio: no seed in common with the reference, or runs failed")],
  }, 44 * Math.max(rows.length, 1) + 56);
}

/* Thresholds from easy to hard; a hollow triangle is a bound on the speed-up. */
function drawSpeedups() {
  const groups = visibleOthers();
  const traces = groups.flatMap(({ name, color, dash, symbol, speedups }, place) => {
    const shift = (place - (groups.length - 1) / 2) * Math.min(0.06, 0.7 / groups.length);
    const trace = (points, more) => {
      const pick = (key) => points.map((point) => point[key]);
      return { name, x: points.map((point) => data.thresholds.indexOf(point.threshold) + shift), y: pick("factor"),
        error_y: errorBar(pick("factor"), pick("low"), pick("high"), color, 2), text: points.map(describe),
        hovertemplate: "%{text}", ...more };
    };
    const points = speedups[state.axis], bounds = points.filter(({ bound }) => bound !== "exact");
    return [
      // pale: it joins bounds, which are not the group's speed-up
      trace(points, { mode: "lines", line: { color, width: 0.8 }, opacity: 0.4, error_y: {}, hovertemplate: "",
        hoverinfo: "skip", showlegend: false }),
      trace(points.filter(({ bound }) => bound === "exact"), { mode: "lines+markers",
        line: { color, dash, width: 1.2 }, marker: { symbol: symbol || "circle", color, size: 8 } }),
      trace(bounds, { mode: "markers", marker: { size: 10, color: "#fff", line: { color, width: 1.5 },
        symbol: bounds.map(({ bound }) => (bound === "at least" ? "triangle-up" : "triangle-down")) },
        showlegend: false }),
    ];
  });
  const ends = groups.flatMap(({ speedups }) => speedups[state.axis].flatMap(({ low, high }) => [low, high, 1]));
  plot("speedups", `Times fewer ${state.axis} than ${reference.label} to reach a norm`, traces, {
    hovermode: "closest",
    xaxis: { title: axisTitle("full gradient norm to reach"), tickvals: [...data.thresholds.keys()],
      ticktext: data.thresholds.map(String), range: [-0.5, data.thresholds.length - 0.5], showgrid: false },
    yaxis: logAxis(ends),
    shapes: [rule("y", 1)],
  }, 300);
}

function describe({ threshold, factor, low, high, bound }) {
  const interval = bound === "exact" && low !== null ? `, interval ${low} to ${high}` : "";
  return `norm ${threshold}: ${bound === "exact" ? "" : `${bound} `}${factor} times fewer${interval}`;
}

function draw() {
  CURVES.forEach(drawCurves);
  if (plotOf("ratios")) drawRatios();
  if (plotOf("speedups")) drawSpeedups();
}

function readControls() {
  for (const name of ["axis", "norm"]) state[name] = document.querySelector(`input[name=${name}]:checked`).value;
  for (const box of document.querySelectorAll("#groups input")) data.groups[box.value].visible = box.checked;
  for (const part of document.querySelectorAll("[data-axis]")) part.hidden = part.dataset.axis !== state.axis;
  draw();
}

function drawForPaper(paper) {
  figures.classList.toggle("paper", paper);
  draw();
}

document.querySelector(".controls").addEventListener("change", readControls);
// paper has its own width: a figure drawn for a wide window would be scaled down with its text
addEventListener("beforeprint", () => drawForPaper(true));
addEventListener("afterprint", () => drawForPaper(false));
let drawnWidth = figures.clientWidth;
new ResizeObserver(() => {
  if (figures.classList.contains("paper") || figures.clientWidth === drawnWidth) return;
  drawnWidth = figures.clientWidth;
  draw();
}).observe(figures);
readControls();
