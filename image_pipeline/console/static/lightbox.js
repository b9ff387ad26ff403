// One image of the gallery in front of the page, and the ones before and after it by key.

import { byId, showFallback } from "./page.js";
import { request } from "./session.js";

const OPEN_AT = "image-pipeline-lightbox"; // in sessionStorage: which image the next page opens
const STEPS = {
  ArrowLeft: (index) => index - 1,
  ArrowRight: (index) => index + 1,
  Home: () => 0,
  End: (index, last) => last,
};
const MIN_SWIPE = 50; // pixels

const dialog = byId("lightbox");
let current = null; // the card whose image is shown

export const cards = () => [...document.querySelectorAll(".gallery li[data-key]")];

if (dialog) {
  byId("gallery").addEventListener("click", ({ target }) => {
    const button = target.closest(".gallery button.picture");
    if (button) open(button.closest("li"));
  });
  dialog.addEventListener("click", ({ target }) => {
    const value = target.closest("button")?.value;
    if (value === "previous") go(STEPS.ArrowLeft);
    if (value === "next") go(STEPS.ArrowRight);
    if (value === "close") dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    event.preventDefault(); // does not scroll
    go(step);
  });
  let touched = null;
  dialog.addEventListener("touchstart", ({ touches }) => {
    touched = touches.length === 1 ? touches[0] : null;
  }, { passive: true });
  dialog.addEventListener("touchend", ({ changedTouches }) => {
    const across = touched && changedTouches[0].clientX - touched.clientX;
    const down = touched && changedTouches[0].clientY - touched.clientY;
    if (Math.abs(across) < Math.max(MIN_SWIPE, 2 * Math.abs(down))) return;
    go(across > 0 ? STEPS.ArrowLeft : STEPS.ArrowRight);
  }, { passive: true });
  dialog.addEventListener("close", () => {
    // The gallery may have been updated since.
    const card = cards().find((each) => each.dataset.key === current.dataset.key);
    (card?.querySelector("button") ?? byId("gallery-title")).focus();
  });
  const first = sessionStorage.getItem(OPEN_AT);
  sessionStorage.removeItem(OPEN_AT);
  if (first && cards().length) open(cards().at(Number(first)));
}

function open(card) {
  dialog.showModal();
  show(card);
}

function go(step) {
  const all = cards();
  const index = all.findIndex((each) => each.dataset.key === current.dataset.key);
  const to = step(index, all.length - 1);
  if (all[to]) return show(all[to]);
  const page = pageLink(to < 0 ? "prev" : "next");
  if (!page) return undefined;
  sessionStorage.setItem(OPEN_AT, to < 0 ? "-1" : "0");
  return page.click(); // and not location.assign(): upload-frame.js may keep this page
}

function pageLink(rel) {
  return document.querySelector(`.pagination [rel=${rel}]`);
}

async function show(card) {
  current = card;
  const all = cards();
  const index = all.indexOf(card);
  byId("lightbox-title").textContent = card.querySelector(".name").textContent;
  const [previous, next] = ["previous", "next"].map((name) => dialog.querySelector(`[value=${name}]`));
  previous.disabled = !index && !pageLink("prev");
  next.disabled = index === all.length - 1 && !pageLink("next");
  // A button that is disabled keeps the focus for a moment, and then nothing in the dialog has it.
  if (dialog.querySelector(":focus:enabled, a:focus") === null) dialog.querySelector("[value=close]").focus();
  const content = byId("lightbox-content");
  const small = card.querySelector("img"); // until the large one is there
  const picture = document.createElement("div");
  picture.className = "view-picture";
  if (small) picture.append(Object.assign(new Image(), { src: small.currentSrc || small.src, alt: "" }));
  content.replaceChildren(picture);
  content.setAttribute("aria-busy", "true");
  try {
    const path = `/view?key=${encodeURIComponent(card.dataset.key)}`;
    const html = await (await request(path)).text();
    if (current !== card) return;
    const view = document.createElement("div");
    view.innerHTML = html; // of the console, which escapes names
    const large = view.querySelector("img");
    await large.decode().catch(() => null); // shows the small picture meanwhile
    if (current !== card) return;
    content.replaceChildren(...view.childNodes);
    if (!large.naturalWidth) showFallback(large);
  } catch (error) {
    if (current !== card) return;
    const text = Object.assign(document.createElement("p"), { className: "error", textContent: error.message });
    text.setAttribute("role", "alert");
    content.replaceChildren(picture, text);
  } finally {
    if (current === card) content.setAttribute("aria-busy", "false");
  }
}
