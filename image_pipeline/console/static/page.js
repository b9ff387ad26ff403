// What every page uses: fragments that are loaded after the page, fallbacks of images, copy buttons.
// Names and messages are inserted as text. HTML comes only from the console, which escapes it.

import { retried } from "./links.js";
import { request } from "./session.js"; // which has shown the page before this file runs

export const BATCH_SIZE = 50; // keys or messages in one request
export const MIN_DELAY_MS = 300;
export const MAX_DELAY_MS = 8000; // between two polls while nothing changes

export const byId = (id) => document.getElementById(id);
// Shows a text of a status; a class says what kind it is.
export const setStatus = (element, textContent, className = "") => Object.assign(element, { textContent, className });
export const number = (count) => count.toLocaleString("en");
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// --- fragments: elements whose content is loaded after the page, once or repeatedly --------------
export const content = new Map(); // fragment → the HTML or error that it shows

export async function load(fragment) {
  fragment.setAttribute("aria-busy", "true");
  try {
    const html = await (await request(fragment.dataset.load)).text();
    if (html === content.get(fragment)) return; // keeps focus and selection
    content.set(fragment, html);
    const focused = fragment.contains(document.activeElement) && document.activeElement.id;
    fragment.innerHTML = html;
    fragment.dispatchEvent(new Event("loaded"));
    if (focused) byId(focused)?.focus();
  } catch (error) {
    if (error.message === content.get(fragment)) return;
    content.set(fragment, error.message);
    showError(fragment, error.message, () => load(fragment));
  } finally {
    fragment.setAttribute("aria-busy", "false");
  }
}

async function poll(fragment) {
  const minDelay = Number(fragment.dataset.every) * 1000;
  let delay = minDelay;
  for (;;) {
    const before = content.get(fragment);
    if (!document.hidden) await load(fragment);
    const changed = content.get(fragment) !== before;
    delay = changed ? minDelay : Math.min(delay * 1.5, 10 * minDelay);
    await sleep(delay);
  }
}

function showError(element, message, retry) {
  const text = document.createElement("p");
  text.className = "error";
  text.setAttribute("role", "alert");
  text.textContent = message;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Try again";
  button.addEventListener("click", retry);
  element.replaceChildren(text, button);
}

for (const fragment of document.querySelectorAll("[data-load]")) {
  if (fragment.dataset.every) poll(fragment);
  else load(fragment);
}

// --- images that do not exist, or that the browser cannot show ----------------------------------
export async function showFallback(image) {
  if (await retried(image)) return;
  const text = document.createElement("span");
  text.className = "no-image";
  text.textContent = image.dataset.fallback;
  image.replaceWith(text);
}

document.addEventListener("error", ({ target }) => {
  if (target.matches?.("img[data-fallback]")) showFallback(target);
}, true);
for (const image of document.querySelectorAll("img[data-fallback]")) {
  if (image.complete && !image.naturalWidth) showFallback(image); // failed before this script ran
}

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-copy]"); // a refresh of the page replaces buttons
  if (!button) return;
  try {
    await navigator.clipboard.writeText(byId(button.dataset.copy).textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(byId(button.dataset.copy));
    button.textContent = "Press Ctrl+C or ⌘C to copy";
  }
});

// --- a page that is loaded again ------------------------------------------------------------------
export const URL_MS = 1000; // a presigned URL says when it was made, in whole seconds
let loadedAt = performance.now();

// Loads the page again, and shows those of its parts that may have changed. The URLs in it must be
// new: for an image that is on the page already, the browser does not ask again.
export async function refreshPage() {
  await sleep(loadedAt + URL_MS - performance.now());
  const response = await request(location.pathname + location.search, undefined, "text/html");
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  loadedAt = performance.now();
  for (const part of document.querySelectorAll("[data-refresh]")) {
    const now = page.getElementById(part.id);
    if (now) part.replaceChildren(...now.childNodes);
  }
}
