// Presigned URLs expire. This renews those of elements with data-object, which says what the URL is
// of (console/links.py): before they expire, and of an image that could not be loaded, once.

import { request } from "./session.js";

const MAX_OBJECTS = 100; // in one request
const CHECK_MS = 60_000;

// Sets new URLs, and resolves once they are set.
export async function renew(elements) {
  for (let start = 0; start < elements.length; start += MAX_OBJECTS) {
    const some = elements.slice(start, start + MAX_OBJECTS);
    const objects = some.map((element) => element.dataset.object);
    const { links } = await (await request("/links", { objects })).json();
    some.forEach((element, index) => {
      element[attribute(element)] = links[index];
    });
  }
}

const attribute = (element) => (element.matches("img") ? "src" : "href");

// Whether half of the URL's time is over. An image that is loaded needs its URL no more.
function isOld(element) {
  if (element.naturalWidth) return false;
  const query = new URL(element[attribute(element)]).searchParams;
  const [, year, month, day, hour, minute, second] =
    /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(query.get("X-Amz-Date"));
  const signed = Date.UTC(year, month - 1, day, hour, minute, second);
  return Date.now() > signed + 500 * Number(query.get("X-Amz-Expires"));
}

async function renewOldLinks() {
  const old = [...document.querySelectorAll("[data-object]")].filter(isOld);
  // If the console does not respond, the next check tries again.
  await renew(old).catch(() => null);
}

setInterval(renewOldLinks, CHECK_MS);
// After a computer has slept, the timer may be late.
document.addEventListener("visibilitychange", () => document.hidden || renewOldLinks());

// --- images that could not be loaded --------------------------------------------------------------
const retries = new WeakSet();
let waiting = []; // images whose request has not been sent
let renewing = null;

// Loads an image by a new URL. Resolves to false if that has been tried before, or cannot be.
export async function retried(image) {
  if (!image.dataset.object || retries.has(image)) return false;
  retries.add(image);
  waiting.push(image);
  renewing ??= Promise.resolve().then(() => {
    const images = waiting;
    waiting = [];
    renewing = null;
    return renew(images);
  });
  return renewing.then(() => true, () => false);
}
