// The focus of an image's crops: chosen in the picture, by keyboard or as numbers.

import { MAX_DELAY_MS, MIN_DELAY_MS, byId, refreshPage, setStatus, sleep } from "./page.js";
import { request } from "./session.js";

const MAX_CROPS_MS = 120_000; // to wait for new crops
const FOCUS_STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

if (byId("focus-form")) {
  const form = byId("focus-form");
  const inputs = [byId("focus-left"), byId("focus-top")];
  const marker = byId("focus-marker");
  const place = () => inputs.map((input) => Math.min(Math.max(Number(input.value), 0), 100));
  const showMarker = (status = "") => {
    const [left, top] = place();
    marker.style.left = `${left}%`;
    marker.style.top = `${top}%`;
    marker.setAttribute("aria-valuenow", left);
    marker.setAttribute("aria-valuetext", `${left}% from the left, ${top}% from the top`);
    if (form.querySelector("[value=save]").disabled) return; // the status is of the save
    setStatus(byId("focus-status"), status);
  };
  const move = (percentages) => {
    for (const [index, input] of inputs.entries()) {
      input.value = Math.round(Math.min(Math.max(percentages[index], 0), 100) * 10) / 10;
    }
    showMarker("Not saved yet.");
  };
  byId("focus-picture").addEventListener("click", (event) => {
    const box = byId("focus-picture").querySelector("img")?.getBoundingClientRect();
    if (!box) return; // the browser cannot show the picture
    const { clientX, clientY } = event;
    move([100 * (clientX - box.left) / box.width, 100 * (clientY - box.top) / box.height]);
    marker.focus({ preventScroll: true }); // for the arrow keys
  });
  marker.addEventListener("keydown", (event) => {
    const step = FOCUS_STEPS[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault(); // does not scroll
    move(place().map((now, axis) => now + step[axis] * (event.shiftKey ? 10 : 1)));
  });
  for (const input of inputs) {
    input.addEventListener("input", () => showMarker("Not saved yet."));
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const removes = event.submitter?.value === "remove";
    if (!removes && inputs.some((input) => input.value === "")) {
      setStatus(byId("focus-status"), "Enter both numbers.", "error-text");
      return;
    }
    saveFocus(form, removes ? null : place().map((each) => each / 100));
  });
  showMarker();
}

// Saves the focus, two fractions, or removes it with null. Then waits for the crops and shows them.
async function saveFocus(form, focus) {
  const status = byId("focus-status");
  const [save, remove] = form.querySelectorAll("button");
  const { key, etag } = form.dataset;
  let isSet = !remove.disabled;
  const show = (...shown) => setStatus(status, ...shown);
  for (const button of [save, remove]) button.disabled = true;
  show("Saving…");
  status.focus(); // the focused button has been disabled
  try {
    const body = { key, etag, focus: focus && focus.map((each) => each.toFixed(3)).join() };
    form.dataset.etag = (await (await request("/focus", body)).json()).etag;
    isSet = focus !== null;
    show("Saved. Waiting for the crops…");
    const state = await cropsState(key);
    await refreshPage();
    show(...CROPS_STATES[state]);
  } catch (error) {
    show(error.message, "error-text");
  }
  remove.disabled = !isSet;
  save.disabled = false;
}

const CROPS_STATES = {
  done: ["The crops are up to date.", "success-text"],
  failed: ["Saved, but the crops could not be made. See Thumbnails.", "error-text"],
  superseded: ["Saved, but a newer upload has the same thumbnail keys.", "warning-text"],
  gone: ["The image has been deleted.", "error-text"],
  unknown: ["Saved, but the crops are not made yet. Reload the page later.", "warning-text"],
};

async function cropsState(key) {
  const end = Date.now() + MAX_CROPS_MS;
  for (let delay = MIN_DELAY_MS; ; delay = Math.min(delay * 1.5, MAX_DELAY_MS)) {
    const { outcomes } = await (await request("/outcomes", { keys: [key] })).json();
    if (outcomes[0].state !== "unknown" || Date.now() > end) return outcomes[0].state;
    await sleep(delay);
  }
}
