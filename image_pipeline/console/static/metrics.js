// The page of metrics: times in the viewer's zone, and a chart's values under the pointer or, with
// the arrow keys, at the chart's cursor.

import { byId } from "./page.js";

const metrics = byId("metrics");
const MINUTE = 60_000;
const DAY = 24 * 60; // minutes
const STEPS = [5, 10, 15, 30, 60, 120, 180, 240, 360, 720, DAY, 2 * DAY]; // minutes between labels
const CHARACTER_PX = 8; // of a label, and what is between two labels
const KEYS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric" });
const moment = new Intl.DateTimeFormat(undefined, {
  weekday: "short", day: "numeric", hour: "2-digit", minute: "2-digit",
});

// What is kept when new numbers replace the page's: the time of each chart's cursor, and whether the
// table is open.
const cursors = new Map();
let tableOpen = false;

const createIn = (svg, name, attributes, text = "") => {
  const element = document.createElementNS(svg.namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
};

const chart = (plot) => {
  const texts = JSON.parse(plot.dataset.texts);
  const [start, period] = [plot.dataset.start * 1000, plot.dataset.period * 1000];
  return { texts, start, period, end: start + texts.length * period };
};

// The times from `start` to `end` that are multiples of `step` minutes since a local midnight.
function* roundTimes(start, end, step) {
  const midnight = new Date(start).setHours(0, 0, 0, 0);
  for (let number = 0; ; number += 1) {
    const time = new Date(midnight).setMinutes(number * step); // whatever summer time does
    if (time > end) return;
    if (time >= start) yield time;
  }
}

function labelTimes(plot) {
  const { start, end } = chart(plot);
  const area = plot.querySelector(".drawing");
  const times = plot.querySelector(".times");
  const minutes = (end - start) / MINUTE;
  const steps = minutes > 2 * DAY ? STEPS.filter((each) => each >= DAY) : STEPS;
  const width = CHARACTER_PX * (clock.format(start).length + 2);
  const step = steps.find((each) => area.clientWidth * each / minutes >= width) ?? steps.at(-1);
  area.querySelectorAll(".time-grid").forEach((line) => line.remove());
  times.replaceChildren();
  for (const time of roundTimes(start, end, step)) {
    const x = `${100 * (time - start) / (end - start)}%`;
    area.prepend(createIn(area, "line", { class: "grid time-grid", x1: x, x2: x, y2: "100%" }));
    // A label at the end would be wider than the page.
    if (time < end - (end - start) * 0.04) {
      const format = minutes >= DAY && new Date(time).getHours() === 0 ? day : clock;
      times.append(createIn(times, "text", { x, y: "1.2em" }, format.format(time)));
    }
  }
}

// When a period is, without the day if that is clear.
const when = (start, period) =>
  (period === MINUTE ? clock : moment).formatRange(start, start + period);

function show(plot, index) {
  const { texts, start, period } = chart(plot);
  const last = index === texts.length - 1 ? " (not complete)" : "";
  const text = `${when(start + index * period, period)}${last}: ${texts[index]}`;
  plot.setAttribute("aria-valuenow", index + 1);
  plot.setAttribute("aria-valuetext", text);
  plot.closest("figure").querySelector(".readout").textContent = text;
  const cursor = plot.querySelector(".cursor");
  const x = `${100 * (index + 0.5) / texts.length}%`;
  for (const end of ["x1", "x2"]) cursor.setAttribute(end, x);
  cursor.setAttribute("visibility", "visible");
}

// The period of a chart's cursor: the last one, unless the keyboard has moved it.
function selected(plot) {
  const { texts, start, period } = chart(plot);
  const index = cursors.has(plot.id) ? (cursors.get(plot.id) - start) / period : texts.length - 1;
  return Math.min(Math.max(index, 0), texts.length - 1);
}

function select(plot, index) {
  const { texts, start, period } = chart(plot);
  const within = Math.min(Math.max(index, 0), texts.length - 1);
  cursors.set(plot.id, start + within * period);
  show(plot, within);
}

function pointedAt(plot, { clientX }) {
  const { left, width } = plot.querySelector(".drawing").getBoundingClientRect();
  const { length } = chart(plot).texts;
  return Math.min(Math.max(Math.floor(length * (clientX - left) / width), 0), length - 1);
}

function hide(plot) {
  if (document.activeElement === plot) {
    show(plot, selected(plot));
    return;
  }
  plot.querySelector(".cursor").setAttribute("visibility", "hidden");
  plot.closest("figure").querySelector(".readout").textContent = "";
}

function prepare(plot) {
  labelTimes(plot);
  plot.setAttribute("aria-valuetext", chart(plot).texts[selected(plot)]);
  plot.addEventListener("pointermove", (event) => show(plot, pointedAt(plot, event)));
  plot.addEventListener("pointerdown", (event) => select(plot, pointedAt(plot, event)));
  plot.addEventListener("pointerleave", () => hide(plot));
  plot.addEventListener("focus", () => show(plot, selected(plot)));
  plot.addEventListener("blur", () => hide(plot));
  plot.addEventListener("keydown", (event) => {
    const index = {
      Home: 0,
      End: chart(plot).texts.length - 1,
      [event.key in KEYS ? event.key : ""]: selected(plot) + KEYS[event.key],
    }[event.key];
    if (index === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    select(plot, index);
  });
}

function prepareTable(table) {
  const period = table.dataset.period * 1000;
  for (const time of table.querySelectorAll("time")) {
    time.textContent = when(Date.parse(time.dateTime), period);
  }
  const details = table.closest("details");
  details.querySelector(".zone").textContent = moment.resolvedOptions().timeZone;
  details.open = tableOpen;
  details.addEventListener("toggle", () => {
    if (details.isConnected) tableOpen = details.open;
  });
}

const plots = () => metrics.querySelectorAll(".plot");

metrics?.addEventListener("loaded", () => {
  plots().forEach(prepare);
  metrics.querySelectorAll("table").forEach(prepareTable);
});
if (metrics) addEventListener("resize", () => plots().forEach(labelTimes));
