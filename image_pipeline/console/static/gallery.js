// The gallery: shows new uploads without a reload, and remembers its place.

import { MIN_DELAY_MS, byId, plural, sleep } from "./page.js";
import { request } from "./session.js";
import { cards } from "./lightbox.js";
import { isInUse } from "./selection.js";

const MIN_POLL_MS = 4000;
const MAX_POLL_MS = 60_000; // between two looks at the bucket while nothing changes
const YOUNG_MS = 600_000; // an image without thumbnails that was uploaded since may get some

// In sessionStorage: the page of the gallery that was shown last, for the page of an image.
export const PLACE = "image-pipeline-gallery";

const gallery = byId("gallery");
let pending = null; // newer content, which is not shown
let newest = 0; // when the newest image was uploaded that has been shown
let isOwn = false; // whether this page has changed images since it looked last
let endPause = () => null; // ends the pause between two looks

if (gallery) {
  const place = JSON.parse(sessionStorage.getItem(PLACE));
  if (place?.returning && place.query === location.search) scrollTo(0, place.scroll);
  addEventListener("pagehide", rememberPlace);
  // A link may open its page in a frame, and then this page is not left (upload-frame.js).
  document.addEventListener("click", ({ target }) => target.closest("a[href]") && rememberPlace(), true);
  byId("new-images").addEventListener("click", () => {
    const { added } = pending;
    showContent();
    scrollTo(0, byId("gallery-title").getBoundingClientRect().top + scrollY);
    cards().find((card) => added.has(card.dataset.key))?.querySelector("button").focus({ preventScroll: true });
  });
  // What this page has changed itself is shown at once.
  document.addEventListener("images-changed", () => {
    isOwn = true;
    endPause();
  });
  document.addEventListener("outcomes", () => endPause());
  document.addEventListener("visibilitychange", () => document.hidden || endPause());
  newest = newestOf(cards());
  if (gallery.hasAttribute("data-live")) poll();
}

function rememberPlace() {
  if (document.body.classList.contains("has-frame")) return; // another page is in front of this one
  const keys = cards().map((card) => card.dataset.key);
  sessionStorage.setItem(PLACE, JSON.stringify({ query: location.search, scroll: scrollY, keys }));
}

async function poll() {
  for (let delay = MIN_POLL_MS; ;) {
    const pause = new Promise((resolve) => { endPause = resolve; });
    if (!isOwn || document.hidden) await Promise.race([sleep(delay), pause]);
    if (document.hidden) continue;
    let changed = isOwn;
    try {
      changed = await update() || changed;
    } catch (error) {
      byId("gallery-status").textContent = `The gallery is not updated: ${error.message}`;
    }
    delay = changed ? MIN_POLL_MS : Math.min(delay * 1.5, MAX_POLL_MS);
    await sleep(MIN_DELAY_MS); // not more often, whatever ends the pause
  }
}

const version = (card) => `${card.dataset.etag} ${card.dataset.modified} ${card.dataset.key}`;
const cardsIn = (content) => new Map(
  [...content.querySelectorAll("li[data-key]")].map((card) => [version(card), card]),
);

function newestOf(some) {
  return Math.max(0, ...some.map(uploadedAt));
}

function uploadedAt(card) {
  return Date.parse(card.dataset.modified);
}

const linksIn = (content) => [...content.querySelectorAll(".folders a, .pagination a")]
  .map((link) => link.getAttribute("href")).join("\n");

// Looks for changes, and shows them unless that would move what one looks at. Resolves to whether
// there are any, or may be some soon.
async function update() {
  const isShownAtOnce = isOwn;
  isOwn = false;
  const response = await request(location.pathname + location.search, undefined, "text/html");
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const fresh = page.getElementById("gallery-content");
  const content = byId("gallery-content");
  if (!fresh) throw new Error(page.querySelector("[role=alert]")?.textContent ?? page.title);
  if (byId("gallery-status").textContent.startsWith("The gallery")) byId("gallery-status").textContent = "";
  const [before, after] = [cardsIn(content), cardsIn(fresh)];
  const waiting = loadMissingThumbnails(before, after);
  const same = [...before.keys()].join("\n") === [...after.keys()].join("\n");
  if (same && linksIn(content) === linksIn(fresh) && !isShownAtOnce) {
    pending = null;
    showButton();
    return waiting;
  }
  const ids = [...after.keys()].join("\n");
  const changed = ids !== pending?.ids;
  // Others have moved up from the next page.
  const isNew = ([id, card]) => !before.has(id) && uploadedAt(card) >= newest;
  const added = new Set([...after].filter(isNew).map(([, card]) => card.dataset.key));
  pending = { fresh, added, ids };
  const isAtTop = content.getBoundingClientRect().top >= 0;
  if ((isAtTop || isShownAtOnce) && !isInUse() && !byId("lightbox").open) showContent();
  else showButton();
  return changed || waiting;
}

function showContent() {
  const { fresh, added } = pending;
  const content = byId("gallery-content");
  const before = cardsIn(content);
  for (const [id, card] of cardsIn(fresh)) {
    const shown = before.get(id);
    if (!shown) continue;
    shown.querySelector("time").textContent = card.querySelector("time").textContent;
    card.replaceWith(shown); // with its loaded image
  }
  const focused = document.activeElement;
  content.replaceChildren(...fresh.childNodes);
  if (content.contains(focused)) focused.focus({ preventScroll: true });
  if (added.size) byId("gallery-status").textContent = newImages(added.size);
  newest = Math.max(newest, newestOf(cards()));
  pending = null;
  showButton();
}

function showButton() {
  const number = pending?.added.size ?? 0;
  byId("new-images").hidden = !number;
  const text = `${newImages(number)}: show`;
  const button = byId("new-images").firstElementChild;
  if (button.textContent !== text) button.textContent = text;
}

const newImages = (count) => plural(count, "new image");

// Loads thumbnails that were not there when their card was shown. Resolves to whether there are
// cards that may get one.
function loadMissingThumbnails(before, after) {
  let waiting = false;
  for (const [id, card] of before) {
    const missing = card.querySelector(".no-image");
    if (!missing || Date.now() - Date.parse(card.dataset.modified) > YOUNG_MS) continue;
    waiting = true;
    const source = after.get(id)?.querySelector("img");
    if (!source) continue;
    const image = document.importNode(source);
    image.loading = "eager"; // it is not in the page yet
    image.addEventListener("load", () => missing.isConnected && missing.replaceWith(image));
    image.src = source.src; // starts again as a part of this document
  }
  return waiting;
}
