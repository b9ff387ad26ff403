// Images that are selected in the gallery: to delete them, or to make their thumbnails again.

import { URL_MS, byId, plural, sleep } from "./page.js";
import { renew } from "./links.js";
import { request } from "./session.js";
import { cards } from "./lightbox.js";

const BATCH = 8; // images in one request, so that progress is shown
const MAX_NAMES = 5; // in the question before a deletion

const bar = byId("selection");
let anchor = null; // the card that was clicked last
let working = false;

const box = (card) => card.querySelector("input[type=checkbox]");
const selected = () => cards().filter((card) => box(card).checked);
const images = (count) => plural(count, "image");

// Whether the gallery must stay as it is.
export const isInUse = () => working || selected().length > 0 || byId("delete-dialog").open;

if (bar) {
  byId("gallery").addEventListener("click", (event) => {
    if (!event.target.matches(".gallery input[type=checkbox]")) return;
    const card = event.target.closest("li");
    const all = cards();
    const range = event.shiftKey ? [all.indexOf(anchor), all.indexOf(card)] : [-1];
    if (!range.includes(-1)) {
      const [from, to] = range.sort((a, b) => a - b);
      for (const each of all.slice(from, to + 1)) box(each).checked = event.target.checked;
    }
    anchor = card;
    showSelection();
  });
  bar.addEventListener("click", ({ target }) => {
    const value = target.closest("button")?.value;
    if (value === "all" || value === "none") {
      for (const card of cards()) box(card).checked = value === "all";
      showSelection();
      if (bar.hidden) byId("gallery-title").focus(); // the focused button is gone
    }
    if (value === "remake") remakeSelected();
    if (value === "delete") deleteSelected();
  });
  showSelection(); // a browser may restore checkboxes
}

function showSelection() {
  const number = selected().length;
  bar.hidden = !number;
  byId("selection-failures").hidden = true;
  byId("selection-status").textContent = `${number} selected`;
  enableButtons();
}

async function deleteSelected() {
  const chosen = selected();
  const dialog = byId("delete-dialog");
  byId("delete-title").textContent = `Delete ${images(chosen.length)}?`;
  dialog.querySelector("[value=delete]").textContent = `Delete ${images(chosen.length)}`;
  const names = chosen.slice(0, MAX_NAMES).map((card) => card.querySelector(".name").textContent);
  if (chosen.length > MAX_NAMES) names.push(`and ${chosen.length - MAX_NAMES} more`);
  byId("delete-names").replaceChildren(...names.map((name) => item(name)));
  dialog.returnValue = ""; // Esc leaves it as it is
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  if (dialog.returnValue !== "delete") return;
  const send = (some) => ({
    keys: some.map((card) => card.dataset.key),
    etags: some.map((card) => card.dataset.etag),
  });
  await run("Deleting", "deleted", "/deletions", send, (card) => card.remove());
  document.dispatchEvent(new Event("images-changed"));
}

async function remakeSelected() {
  const send = (some) => ({ keys: some.map((card) => card.dataset.key) });
  const done = [];
  await run("Making thumbnails of", "made again", "/remakes", send, (card) => {
    box(card).checked = false;
    const image = card.querySelector("img");
    if (image) done.push(image);
  });
  await sleep(URL_MS); // for an image that is on the page already, the browser does not ask again
  await renew(done).catch(() => null);
  document.dispatchEvent(new Event("images-changed"));
}

// Sends the selected cards in batches, calls onDone for each that succeeded, shows what failed.
async function run(doing, done, path, send, onDone) {
  const chosen = selected();
  const failures = [];
  const progress = byId("selection-progress");
  const status = byId("selection-status");
  Object.assign(progress, { max: chosen.length, value: 0, hidden: false });
  byId("selection-failures").hidden = true;
  working = true;
  enableButtons();
  for (let start = 0; start < chosen.length; start += BATCH) {
    status.textContent = `${doing} ${images(chosen.length)}: ${start} done`;
    const some = chosen.slice(start, start + BATCH);
    let reasons;
    try {
      reasons = (await (await request(path, send(some))).json()).failures;
    } catch (error) {
      reasons = some.map(() => error.message);
    }
    some.forEach((card, index) => {
      if (reasons[index]) failures.push([card.querySelector(".name").textContent, reasons[index]]);
      else onDone(card);
    });
    progress.value = start + some.length;
  }
  progress.hidden = true;
  working = false;
  enableButtons();
  const succeeded = chosen.length - failures.length;
  bar.hidden = false; // with the result, also where nothing is selected any more
  status.textContent = `${images(succeeded)} ${done}${failures.length ? `, ${failures.length} failed` : ""}`;
  const list = byId("selection-failures");
  list.hidden = !failures.length;
  list.replaceChildren(...failures.map(([name, reason]) => item(`${name}: ${reason}`)));
  (failures.length ? list : byId("gallery-title")).focus({ preventScroll: true });
}

function enableButtons() {
  for (const button of bar.querySelectorAll("button")) button.disabled = working;
  if (selected().length) return;
  for (const value of ["remake", "delete"]) bar.querySelector(`[value=${value}]`).disabled = true;
}

const item = (text) => Object.assign(document.createElement("li"), { textContent: text });
