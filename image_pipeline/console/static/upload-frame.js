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

function open(url) {
  if (frame) return frame.contentWindow.location.assign(url);
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
  document.title = ownTitle;
}

// Goes to a page of the console. In the frame, the browser adds to the history by itself.
function visit(url) {
  if (!frame) history.pushState({ framed: true }, "", url);
  open(url);
}

// Shows the title and the address of the page in the frame as those of the tab.
function follow() {
  const { contentDocument, contentWindow } = frame;
  history.replaceState({ framed: true }, "", contentWindow.location.href);
  const showTitle = () => { document.title = frame.title = contentDocument.title; };
  new MutationObserver(showTitle).observe(contentDocument.head, { childList: true, subtree: true });
  showTitle();
  contentWindow.focus();
  contentDocument.addEventListener("click", ({ target }) => {
    const link = target.closest?.("a[href]");
    if (!link || link.target) return;
    if (link.origin !== location.origin) link.target = "_blank"; // an image in S3
    else if (!hasUnsent()) link.target = "_top";
  }, true);
}

const isPlain = (event) => !event.defaultPrevented && event.button === 0
  && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);

if (!isFramed && byId("uploads")) {
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
