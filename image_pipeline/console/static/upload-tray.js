// The tray of uploads: chooses files, and shows one progress of all, failures first. Of thousands of
// uploads only some have elements: those that need the user, and the latest of the others.

import { byId, number, plural } from "./page.js";
import { openSession } from "./session.js";
import * as model from "./uploads.js";

const RENDER_MS = 100;
const ANNOUNCE_MS = 10_000; // between two announcements of the progress to screen readers
const PAGE_SIZE = 50; // uploads that "Show more" adds
const LONG_WAIT_MS = 300_000; // AWS retries after 1 and 2 minutes
// How many of each group the overview shows.
const OVERVIEW = {
  failed: PAGE_SIZE, "not sent": 5, "in progress": 6, waiting: 3, cancelled: 3, done: 5,
};
const FAILURES = ["failed", "not sent"];
const COLLAPSED = "image-pipeline-tray-collapsed"; // in sessionStorage: the next page collapses it too

// A page in a frame (upload-frame.js) leaves the uploads to the page around it, which lives on.
export const isFramed = window !== top;
const tray = byId("uploads");
const list = byId("uploads-list");
const rows = new Map(); // id → { element, version }
let choosing = null; // the upload that another file is being chosen for
let onlyFailures = false;
let limit = 0; // uploads in the list, or 0 for the overview
let reading = 0; // files that were found so far in dropped folders, while these are read
let omitted = ""; // what was left out of the files that were chosen again
let rendering = false;
let wasPending = false;
let announcedAt = 0;

// --- choosing files -------------------------------------------------------------------------------
const namedFiles = (input) => {
  const found = [...input.files].map((file) => ({ name: file.webkitRelativePath || file.name, file }));
  input.value = ""; // so that the same file can be chosen again
  return found;
};

// The message clones the files, so that they outlive a page in a frame.
function add(found) {
  if (isFramed) top.postMessage({ files: found }, location.origin);
  else addFiles(found);
}

function addFiles(found) {
  omitted = "";
  model.addFiles(found);
  expand(true);
  showNow();
}

if (byId("dropzone")) {
  const dropzone = byId("dropzone");
  for (const input of [byId("files"), byId("folder")]) {
    input.addEventListener("change", () => add(namedFiles(input)));
  }
  addEventListener("dragover", (event) => {
    event.preventDefault();
    dropzone.classList.toggle("dragover", dropzone.contains(event.target));
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) dropzone.classList.remove("dragover");
  });
  addEventListener("drop", async (event) => {
    event.preventDefault();
    dropzone.classList.remove("dragover");
    // Read all items before the first await: afterwards the browser empties the list.
    const items = [...event.dataTransfer.items].map((item) => [
      item.webkitGetAsEntry(), item.getAsFile(),
    ]);
    const found = [];
    for (const [entry, file] of items) {
      if (entry) await collectFiles(entry, found);
      else if (file) found.push({ name: file.name, file }); // not from a file system
    }
    reading = 0;
    add(found);
  });
}

async function collectFiles(entry, found) {
  if (entry.name.startsWith(".")) return;
  try {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push({ name: entry.fullPath.slice(1), file });
      reading = found.length;
      if (!isFramed) render();
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return;
      for (const each of some) await collectFiles(each, found);
    }
  } catch (error) {
    found.push({ name: entry.fullPath.slice(1), error: error.message }); // and go on with the others
  }
}

// --- what the user does ---------------------------------------------------------------------------
const ACTIONS = {
  pause: model.pause,
  resume: model.resume,
  cancel: model.cancelAll,
  retry: model.retryAll,
  failures: () => {
    onlyFailures = !onlyFailures;
    limit = onlyFailures ? PAGE_SIZE : 0;
  },
  more: () => { limit += PAGE_SIZE; },
  forget: () => model.remove(...inGroup("not sent")),
};
const ACTIONS_OF_ONE = {
  retry: model.retry,
  choose: (upload) => {
    choosing = upload;
    byId("other-file").click();
  },
  cancel: model.cancel,
  remove: (upload) => model.remove(upload),
};

if (isFramed) {
  tray?.remove();
  document.body.classList.add("under-tray");
} else if (tray) {
  model.onChange(render);
  addEventListener("message", ({ data, origin }) => {
    if (origin === location.origin && data?.files) addFiles(data.files);
  });
  addEventListener("beforeunload", (event) => {
    if (model.hasUnsent() || reading) event.preventDefault(); // asks "Leave site?"
  });
  tray.addEventListener("click", ({ target }) => {
    const { all, one } = target.closest("button")?.dataset ?? {};
    if (all) ACTIONS[all]();
    if (one) ACTIONS_OF_ONE[one](model.uploads.get(target.closest("li").dataset.id));
    if (all || one) showNow();
  });
  byId("uploads-toggle").addEventListener("click", () => expand(!isExpanded()));
  byId("uploads-close").addEventListener("click", () => {
    model.remove(...model.uploads.values());
    expand(true);
    (document.querySelector(".page-frame") ?? byId("main")).focus({ preventScroll: true });
  });
  byId("other-file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    target.value = "";
    if (file && model.uploads.has(choosing.id)) model.replaceFile(choosing, file);
    showNow();
  });
  for (const input of [byId("unsent-files"), byId("unsent-folder")]) {
    input.addEventListener("change", () => {
      const count = model.addFiles(namedFiles(input), true);
      omitted = count ? ` ${plural(count, "other file was", "other files were")} left out.` : "";
      byId("uploads-unsent-text").focus();
    });
  }
  byId("uploads-session").addEventListener("submit", async (event) => {
    event.preventDefault();
    const input = byId("uploads-address");
    try {
      const address = new URL(input.value.trim());
      if (address.origin !== location.origin) throw new Error(`The address must begin with ${location.origin}.`);
      await openSession(address.hash);
      input.value = "";
      model.renewed();
      byId("uploads-toggle").focus();
    } catch (error) {
      model.sending.notice = error.message;
      render();
    }
  });
  tray.querySelector(".command").textContent = command();
  if (sessionStorage.getItem(COLLAPSED)) expand(false);
  model.remember(tray.dataset.memory);
}

function command() {
  return `${tray.dataset.command} --port ${location.port}`;
}

const isExpanded = () => byId("uploads-toggle").getAttribute("aria-expanded") === "true";

function expand(expanded) {
  byId("uploads-toggle").setAttribute("aria-expanded", expanded);
  byId("uploads-body").hidden = !expanded;
  if (expanded) sessionStorage.removeItem(COLLAPSED);
  else sessionStorage.setItem(COLLAPSED, "true");
}

// --- showing it -----------------------------------------------------------------------------------
function render() {
  if (rendering) return;
  rendering = true;
  setTimeout(showNow, RENDER_MS);
}

function showNow() {
  rendering = false;
  tray.hidden = !model.uploads.size && !reading;
  const totals = model.totals();
  showProgress(totals);
  showButtons(totals.counts);
  showUnsent(totals.counts["not sent"]);
  showRows(totals.counts);
}

function showProgress({ counts, bytes, sent, seconds }) {
  const { paused, notice, consoleIsDown, memoryNotice, needsSession } = model.sending;
  const pending = counts.waiting + counts["in progress"];
  const optional = ["not sent", "cancelled"].filter((group) => counts[group]);
  const shown = ["done", "failed", ...optional, "in progress", ...(counts.waiting ? ["waiting"] : [])];
  const summary = !model.uploads.size ? "" : shown.map((group) => `${number(counts[group])} ${group}`).join(", ");
  setText(byId("uploads-summary"), summary);
  const unsent = model.hasUnsent();
  const percent = Math.floor(bytes ? 100 * sent / bytes : 100);
  const detail = reading ? `Reading the folder: ${plural(reading, "file")} so far`
    : unsent ? [
      paused ? "Paused" : null, `${percent}%`, `${formatBytes(sent)} of ${formatBytes(bytes)}`,
      seconds === null ? null : `about ${formatSeconds(seconds)} left`,
    ].filter(Boolean).join(" · ")
      : pending ? "All files are sent. Waiting for thumbnails…"
        : "";
  setText(byId("uploads-detail"), detail);
  const progress = byId("uploads-progress");
  progress.hidden = !pending;
  progress.value = percent;
  setText(byId("uploads-notice"), [
    notice,
    consoleIsDown ? `${model.GOES_ON} If it has stopped, run ${command()}` : "",
    memoryNotice,
  ].filter(Boolean).join(" "));
  byId("uploads-session").hidden = !needsSession;
  announce(summary, detail, pending > 0);
}

// Tells screen readers the progress now and then, and each end and pause at once.
function announce(summary, detail, isPending) {
  const ended = wasPending && !isPending;
  const text = ended ? `Uploads finished: ${summary}` : `${detail}. ${summary}`;
  if (!ended && (!isPending || Date.now() - announcedAt < ANNOUNCE_MS)) return;
  wasPending = isPending;
  announcedAt = Date.now();
  setText(byId("uploads-announcement"), text);
}

const failuresOf = (counts) => FAILURES.reduce((sum, group) => sum + counts[group], 0);

function showButtons(counts) {
  const unsent = model.hasUnsent();
  const retried = [...model.uploads.values()].filter(model.canRetry).length;
  const failures = failuresOf(counts);
  if (!failures) onlyFailures = false;
  const shown = {
    pause: unsent && !model.sending.paused,
    resume: unsent && model.sending.paused,
    cancel: unsent,
    retry: retried > 1,
    failures: failures && model.uploads.size > failures,
  };
  for (const [name, isShown] of Object.entries(shown)) if (isShown) button(name).hidden = false;
  for (const [name, isShown] of Object.entries(shown)) if (!isShown) hide(button(name));
  setText(button("retry"), `Retry all ${number(retried)}`);
  button("failures").setAttribute("aria-pressed", onlyFailures);
  byId("uploads-close").hidden = counts.waiting + counts["in progress"] > 0;
}

const button = (name) => tray.querySelector(`[data-all=${name}]`);

// Hides a control, and moves the focus on if it has it.
function hide(control) {
  const hadFocus = control === document.activeElement;
  control.hidden = true;
  if (hadFocus) (focusable(control.parentElement) ?? byId("uploads-toggle")).focus();
}

const focusable = (element) => element?.querySelector("button:not([hidden]), a[href]");

function showUnsent(count) {
  const names = inGroup("not sent").map((upload) => upload.name);
  byId("uploads-unsent").hidden = !count;
  byId("unsent-files").parentElement.hidden = names.every((name) => name.includes("/"));
  byId("unsent-folder").parentElement.hidden = !names.some((name) => name.includes("/"));
  setText(
    byId("uploads-unsent-text"),
    `${plural(count, "file was", "files were")} not sent before the page was closed or loaded again. Choose ${count === 1 ? "it" : "them"} again to continue.${omitted}`,
  );
}

function inGroup(group) {
  return [...model.uploads.values()].filter((upload) => model.GROUPS[upload.state] === group);
}

// The uploads to show: failures first, then those in progress, then the latest of the others.
function shownUploads() {
  const groups = Object.fromEntries(Object.keys(OVERVIEW).map((group) => [group, []]));
  for (const upload of model.uploads.values()) groups[model.GROUPS[upload.state]].push(upload);
  groups["in progress"].sort((a, b) => (a.state === "unknown") - (b.state === "unknown"));
  groups.done.sort((a, b) => b.settledAt - a.settledAt);
  const chosen = onlyFailures ? FAILURES : Object.keys(OVERVIEW);
  if (limit) return chosen.flatMap((group) => groups[group]).slice(0, limit);
  return chosen.flatMap((group) => groups[group].slice(0, OVERVIEW[group]));
}

function showRows(counts) {
  const shown = shownUploads();
  const total = onlyFailures ? failuresOf(counts) : model.uploads.size;
  const rest = total - shown.length;
  byId("uploads-rest").hidden = rest <= 0;
  setText(byId("uploads-rest").querySelector("span"), `${number(shown.length)} of ${number(total)} files are shown.`);
  setText(button("more"), limit ? "Show more" : "Show all");

  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const focusedIndex = focused ? [...list.children].indexOf(focused.closest("li")) : -1;
  const ids = new Set(shown.map((upload) => upload.id));
  for (const [id, { element }] of rows) {
    if (ids.has(id)) continue;
    element.remove();
    rows.delete(id);
  }
  let next = list.firstElementChild;
  for (const upload of shown) {
    const element = row(upload);
    if (element === next) next = next.nextElementSibling;
    else list.insertBefore(element, next);
  }
  if (!focused || focused === list || focused === document.activeElement && !focused.hidden) return;
  const stays = focused.isConnected && !focused.hidden;
  const neighbour = list.children[Math.min(focusedIndex, list.children.length - 1)];
  (stays ? focused : focusable(neighbour) ?? list).focus({ preventScroll: stays });
}

// The element of an upload, which says how it is now.
function row(upload) {
  if (!rows.has(upload.id)) rows.set(upload.id, { element: createRow(upload), version: -1 });
  const shown = rows.get(upload.id);
  const { element } = shown;
  if (upload.state === "sending") {
    const share = upload.size ? upload.sent / upload.size : 1;
    element.querySelector("progress").value = 100 * share;
    setText(element.querySelector(".status"), `Uploading… ${Math.floor(100 * Math.min(share, 1))}%`);
  }
  const isLate = upload.state === "unknown" && Date.now() - upload.sentAt > LONG_WAIT_MS;
  const version = `${upload.version} ${isLate}`;
  if (shown.version === version) return element;
  shown.version = version;
  setText(element.querySelector(".size"), upload.size ? formatBytes(upload.size) : "");
  element.querySelector("progress").hidden = upload.state !== "sending";
  showOutcome(element.querySelector(".outcome"), upload, isLate);
  const isFailure = FAILURES.includes(model.GROUPS[upload.state]);
  const actions = {
    retry: model.canRetry(upload) || (upload.state === "conflict" && upload.file),
    choose: isFailure && upload.state !== "conflict",
    cancel: model.isUnsent(upload),
    remove: isFailure || upload.state === "cancelled",
  };
  for (const [name, isShown] of Object.entries(actions)) {
    element.querySelector(`[data-one=${name}]`).hidden = !isShown;
  }
  setLabel(element, "retry", upload.state === "conflict" ? "Upload this one instead" : "Retry", upload);
  setLabel(element, "choose", upload.state === "not-sent" ? "Choose the file" : "Choose another file", upload);
  if (upload.file) showPreviewOf(element.querySelector("figure"), upload.file);
  return element;
}

function createRow(upload) {
  const element = byId("upload-template").content.cloneNode(true).firstElementChild;
  element.dataset.id = upload.id;
  element.querySelector("h3").textContent = upload.name;
  element.querySelector("progress").setAttribute("aria-label", `Upload of ${upload.name}`);
  setLabel(element, "cancel", "Cancel", upload);
  setLabel(element, "remove", "Remove", upload);
  return element;
}

function setLabel(element, name, text, upload) {
  const found = element.querySelector(`[data-one=${name}]`);
  setText(found, text);
  found.setAttribute("aria-label", `${text}: ${upload.name}`);
}

const TEXTS = {
  waiting: ["Waiting", ""],
  sending: ["Uploading…", ""],
  unknown: ["Waiting for thumbnails…", ""],
  cancelled: ["Cancelled", "warning-text"],
  "not-sent": ["Not sent", "warning-text"],
  conflict: ["Not uploaded", "error-text"],
  "upload-failed": ["Upload failed", "error-text"],
  failed: ["Failed", "error-text"],
};

function showOutcome(outcome, upload, isLate) {
  if (upload.html !== null) {
    outcome.innerHTML = upload.html;
    if (upload.replaced && upload.state === "done") {
      outcome.append(byId("replaced-note").content.cloneNode(true));
    }
    return;
  }
  const [text, className] = TEXTS[upload.state];
  const status = document.createElement("p");
  status.className = `status ${className}`;
  status.textContent = isLate ? "No thumbnails after five minutes. They may still come: the command image-pipeline status shows whether the function works."
    : upload.reason ? `${text}: ${upload.reason}` : text;
  outcome.replaceChildren(status);
}

// A preview is loaded when it scrolls into view: thousands of photos do not fit in memory.
const previews = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    previews.unobserve(target);
    loadPreview(target, previewFiles.get(target));
  }
});
const previewFiles = new WeakMap(); // figure → file

function showPreviewOf(figure, file) {
  if (previewFiles.get(figure) === file) return;
  previewFiles.set(figure, file);
  previews.observe(figure);
}

function loadPreview(figure, file) {
  const image = figure.querySelector("img");
  const url = URL.createObjectURL(file);
  const finish = (loaded) => {
    URL.revokeObjectURL(url);
    if (previewFiles.get(figure) !== file) return; // another one has been chosen
    image.hidden = !loaded;
    figure.querySelector(".no-image").hidden = loaded;
  };
  image.addEventListener("load", () => finish(true), { once: true });
  image.addEventListener("error", () => finish(false), { once: true });
  image.src = url;
}

// --- words ----------------------------------------------------------------------------------------
// Changes nothing if nothing has changed: a screen reader may announce each change.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function formatBytes(size) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit ? size.toPrecision(3) : size} ${units[unit]}`;
}

function formatSeconds(seconds) {
  if (seconds < 60) return plural(Math.max(Math.ceil(seconds), 1), "second");
  if (seconds < 3600) return plural(Math.round(seconds / 60), "minute");
  return plural(Math.round(seconds / 3600), "hour");
}
