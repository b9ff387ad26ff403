// Keeps the uploads while the user looks at other pages. A page is a document of its own, and the
// files of an upload end with theirs. So while files are being sent, a link opens its page in a
// frame, below the tray. docs/adr/0036 says why.

import { byId } from "./page.js";
import { isFramed } from "./upload-tray.js";
import { hasUnsent } from "./uploads.js";

const ownTitle = document.title;
const ownPath = location.pathname + location.search;
const wasFramed = history.state?.framed; // before a reload
let frame = null;
let ownScroll = 0; // of the page below the frame

function open(url) {
  if (frame) { // which may show an error of the browser: then assign() would be refused
    frame.contentWindow.location.href = url;
    return;
  }
  ownScroll = scrollY;
  // A modal dialog keeps everything outside it, so also the frame, from being used.
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  frame = document.createElement("iframe");
  frame.className = "page-frame";
  frame.title = "Page";
  frame.src = url;
  frame.addEventListener("load", follow);
  document.body.prepend(frame);
  document.body.classList.add("has-frame");
}

function close() {
  frame.remove();
  frame = null;
  document.body.classList.remove("has-frame");
  byId("uploads").inert = false;
  document.title = ownTitle;
  scrollTo(0, ownScroll);
}

// Goes to a page of the console. In the frame, the browser adds to the history by itself.
function visit(url) {
  if (!frame) history.pushState({ framed: true }, "", url);
  open(url);
}

// Shows the title and the address of the page in the frame as those of the tab.
function follow() {
  const { contentDocument, contentWindow } = frame;
  if (!contentDocument) return; // an error of the browser: the console has stopped
  history.replaceState({ framed: true }, "", contentWindow.location.href);
  const showTitle = () => { document.title = frame.title = contentDocument.title; };
  new MutationObserver(showTitle).observe(contentDocument.head, { childList: true, subtree: true });
  showTitle();
  showDialogs(contentDocument);
  showHeight();
  contentWindow.focus();
  contentDocument.addEventListener("replayed", () => document.dispatchEvent(new Event("replayed")));
  contentDocument.addEventListener("click", ({ target }) => {
    const link = target.closest?.("a[href]");
    if (!link || link.target) return;
    if (link.origin !== location.origin) link.target = "_blank"; // an image in S3
    else if (!hasUnsent()) link.target = "_top";
  }, true);
}

// A dialog in the frame comes in front of the tray, as one of this page does.
function showDialogs(contentDocument) {
  const update = () => {
    const isOpen = contentDocument.querySelector("dialog[open]") !== null;
    frame?.classList.toggle("has-dialog", isOpen);
    byId("uploads").inert = isOpen;
  };
  new MutationObserver(update).observe(contentDocument, {
    attributes: true, attributeFilter: ["open"], childList: true, subtree: true,
  });
  update();
}

// Leaves room for the tray below this page and the one in the frame.
function showHeight() {
  const height = `${byId("uploads").offsetHeight}px`;
  for (const each of [document, frame?.contentDocument]) {
    each?.documentElement.style.setProperty("--tray", height);
  }
}

const isPlain = (event) => !event.defaultPrevented && event.button === 0
  && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);

if (!isFramed && byId("uploads")) {
  new ResizeObserver(showHeight).observe(byId("uploads"));
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href]");
    if (!link || link.target || !isPlain(event) || !(frame || hasUnsent())) return;
    const isHere = link.pathname + link.search === ownPath && link.hash; // the link to the content
    if (link.origin !== location.origin) link.target = "_blank";
    else if (!isHere) {
      event.preventDefault();
      visit(link.href);
    }
  });
  document.addEventListener("submit", (event) => {
    const { action, method } = event.target;
    if (event.defaultPrevented || method !== "get" || !hasUnsent()) return;
    event.preventDefault();
    const url = new URL(action);
    url.search = new URLSearchParams(new FormData(event.target));
    visit(url.href);
  });
  addEventListener("popstate", ({ state }) => {
    const isOwn = location.pathname + location.search === ownPath;
    if (frame && !state?.framed) close();
    else if (!frame && state?.framed && hasUnsent()) open(location.href);
    else if (!frame && (state?.framed || wasFramed) && !isOwn) location.reload();
  });
  // Pages in the frame learn of outcomes as this one does.
  document.addEventListener("outcomes", ({ detail }) => {
    frame?.contentDocument?.dispatchEvent(new CustomEvent("outcomes", { detail }));
  });
}
