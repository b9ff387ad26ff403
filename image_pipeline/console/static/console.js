// What pages cannot do without a script: upload files to S3, wait for outcomes, replay, refresh.
// Names and messages are inserted as text. HTML comes only from the console, which escapes it.

import { request } from "./session.js"; // which has shown the page before this file runs

const MAX_CONCURRENT_UPLOADS = 4;
const BATCH_SIZE = 50; // keys or messages in one request
const MAX_ATTEMPTS = 3; // per upload
const MIN_DELAY_MS = 300;
const MAX_DELAY_MS = 8000; // between two polls while nothing changes

const byId = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// --- fragments: elements whose content is loaded after the page, once or repeatedly --------------
const content = new Map(); // fragment → the HTML or error that it shows

async function load(fragment) {
  fragment.setAttribute("aria-busy", "true");
  try {
    const html = await (await request(fragment.dataset.load)).text();
    if (html === content.get(fragment)) return; // keeps focus and selection
    content.set(fragment, html);
    fragment.innerHTML = html;
    fragment.dispatchEvent(new Event("loaded"));
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
function showFallback(image) {
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

// --- the focus of an image's crops ---------------------------------------------------------------
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
    Object.assign(byId("focus-status"), { textContent: status, className: "" });
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
      Object.assign(byId("focus-status"), { textContent: "Enter both numbers.", className: "error-text" });
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
  const show = (text, className = "") => Object.assign(status, { textContent: text, className });
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

const URL_MS = 1000; // a presigned URL says when it was made, in whole seconds
let loadedAt = performance.now();

// Loads the page again, and shows those of its parts that may have changed. The URLs in it must be
// new: for an image that is on the page already, the browser does not ask again.
async function refreshPage() {
  await sleep(loadedAt + URL_MS - performance.now());
  const response = await request(location.pathname + location.search, undefined, "text/html");
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  loadedAt = performance.now();
  for (const part of document.querySelectorAll("[data-refresh]")) {
    const now = page.getElementById(part.id);
    if (now) part.replaceChildren(...now.childNodes);
  }
}

// --- uploads -------------------------------------------------------------------------------------
// An upload's state is queued, uploading, upload-failed, unknown (uploaded; waiting for an outcome),
// outcome-unavailable, or an outcome of the console's: done, failed, superseded, gone.
const IN_PROGRESS = ["queued", "uploading", "unknown"];
const SUCCEEDED = ["done", "superseded"];
const WAITING = "Waiting for thumbnails…";
const uploads = new Map(); // name → upload
const queue = [];
let active = 0; // files being uploaded
let polling = false;

if (byId("dropzone")) {
  const dropzone = byId("dropzone");
  for (const input of [byId("files"), byId("folder")]) {
    input.addEventListener("change", () => {
      addFiles([...input.files].map((file) => [file.webkitRelativePath || file.name, file]));
      input.value = ""; // so that the same file can be chosen again
    });
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
      else if (file) found.push([file.name, file]); // not from a file system
    }
    addFiles(found);
  });
  addEventListener("beforeunload", (event) => {
    if (active || queue.length) event.preventDefault(); // asks "Leave site?"
  });
}

async function collectFiles(entry, found) {
  if (entry.name.startsWith(".")) return;
  try {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push([entry.fullPath.slice(1), file]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return;
      for (const each of some) await collectFiles(each, found);
    }
  } catch (error) {
    found.push([entry.fullPath.slice(1), null, error.message]); // and go on with the others
  }
}

function addFiles(found) {
  const visible = found.filter(([name]) => !name.split("/").some((part) => part.startsWith(".")));
  if (!visible.length) return;
  byId("uploads").hidden = false;
  for (const [name, file, error] of visible) {
    const previous = uploads.get(name);
    if (previous && ["queued", "uploading"].includes(previous.state)) {
      failUpload(createUpload(name, file), "A file with this name is already being uploaded.");
      continue;
    }
    previous?.element.remove(); // the newer upload replaces it
    const upload = createUpload(name, file);
    uploads.set(name, upload);
    if (error) failUpload(upload, error);
    else queue.push(upload);
  }
  startUploads();
}

// A preview is loaded when it scrolls into view: thousands of photos do not fit in memory.
const previews = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    previews.unobserve(target);
    showPreview(target, previewFiles.get(target));
  }
});
const previewFiles = new WeakMap(); // figure → file

function showPreview(figure, file) {
  const image = figure.querySelector("img");
  const url = URL.createObjectURL(file);
  const finish = (loaded) => {
    URL.revokeObjectURL(url);
    image.hidden = !loaded;
    if (loaded) figure.querySelector(".no-image").remove();
  };
  image.addEventListener("load", () => finish(true), { once: true });
  image.addEventListener("error", () => finish(false), { once: true });
  image.src = url;
}

function createUpload(name, file) {
  const element = byId("upload-template").content.cloneNode(true).firstElementChild;
  element.querySelector("h3").textContent = name;
  element.querySelector(".size").textContent = file ? formatBytes(file.size) : "";
  element.querySelector("progress").setAttribute("aria-label", `Upload of ${name}`);
  byId("uploads-list").prepend(element);
  const upload = { name, element, file, state: "queued", attempts: 0 };
  if (file) {
    const figure = element.querySelector("figure");
    previewFiles.set(figure, file);
    previews.observe(figure);
    element.querySelector(".retry").addEventListener("click", () => {
      Object.assign(upload, { state: "queued", attempts: 0 });
      queue.push(upload);
      startUploads();
    });
  }
  showStatus(upload, "", "Queued");
  return upload;
}

function failUpload(upload, reason) {
  upload.state = "upload-failed";
  upload.element.querySelector("progress").hidden = true;
  showStatus(upload, "error-text", `Upload failed: ${reason}`);
  upload.element.querySelector(".retry").hidden = !upload.file;
}

function startUploads() {
  while (active < MAX_CONCURRENT_UPLOADS && queue.length) {
    const upload = queue.shift();
    active += 1;
    uploadFile(upload).finally(() => {
      active -= 1;
      showSummary();
      startUploads();
    });
  }
  showSummary();
}

async function uploadFile(upload) {
  const progress = upload.element.querySelector("progress");
  upload.state = "uploading";
  progress.hidden = false;
  upload.element.querySelector(".retry").hidden = true;
  showStatus(upload, "", "Uploading…");
  for (;;) {
    upload.attempts += 1;
    let failure;
    try {
      // Each attempt has a new URL: it is valid for an hour, or until the credentials expire.
      Object.assign(upload, await (await request("/uploads", { name: upload.name })).json());
      failure = await putObject(upload, (share) => { progress.value = share * 100; });
    } catch (error) {
      failure = { reason: error.message, permanent: error.status < 500 };
    }
    if (!failure) break;
    if (failure.permanent || upload.attempts >= MAX_ATTEMPTS) {
      return failUpload(upload, failure.reason);
    }
    await sleep(MIN_DELAY_MS * 2 ** upload.attempts);
  }
  progress.hidden = true;
  upload.state = "unknown";
  showStatus(upload, "", WAITING);
  pollOutcomes();
}

// PUTs the file to S3. Resolves to null, or to { reason, permanent } if that fails.
function putObject(upload, onProgress) {
  return new Promise((resolve) => {
    const put = new XMLHttpRequest(); // fetch does not report the progress of uploads
    put.open("PUT", upload.url);
    put.setRequestHeader("Content-Type", upload.content_type);
    put.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    put.addEventListener("load", () => {
      if (put.status < 300) return resolve(null);
      const reason = put.responseXML?.querySelector("Message")?.textContent ?? put.statusText;
      const permanent = put.status < 500 && put.status !== 403; // the signature may have expired
      resolve({ reason: `S3 returned ${put.status} ${reason}`, permanent });
    });
    put.addEventListener("error", () => resolve({
      reason: "Cannot reach S3 from this page. Check the network, and that the bucket's CORS "
        + "configuration allows this page (parameter UploadOrigins).",
    }));
    put.send(upload.file);
  });
}

async function pollOutcomes() {
  if (polling) return;
  polling = true;
  let delay = MIN_DELAY_MS;
  for (;;) {
    const waiting = [...uploads.values()].filter((upload) => upload.state === "unknown");
    if (!waiting.length) break;
    let changed = false;
    for (let start = 0; start < waiting.length; start += BATCH_SIZE) {
      changed = await updateOutcomes(waiting.slice(start, start + BATCH_SIZE)) || changed;
    }
    showSummary();
    delay = changed ? MIN_DELAY_MS : Math.min(delay * 1.5, MAX_DELAY_MS);
    await sleep(delay);
  }
  polling = false;
  showSummary();
}

// Shows the outcomes that are known by now. Resolves to whether there are any.
async function updateOutcomes(waiting) {
  let changed = false;
  try {
    const keys = waiting.map((upload) => upload.key);
    const { outcomes, error } = await (await request("/outcomes", { keys })).json();
    outcomes.forEach((outcome, index) => {
      const upload = waiting[index];
      if (outcome.state === "unknown") {
        showStatus(upload, error ? "warning-text" : "", error ?? WAITING);
      } else {
        upload.state = outcome.state;
        upload.element.querySelector(".outcome").innerHTML = outcome.html;
        changed = true;
      }
    });
  } catch (error) {
    const permanent = error.status >= 400 && error.status < 500; // the console was restarted
    for (const upload of waiting) {
      if (permanent) upload.state = "outcome-unavailable";
      showStatus(upload, "warning-text", permanent ? error.message : `${error.message} Retrying…`);
    }
  }
  return changed;
}

function showStatus(upload, className, text) {
  const status = upload.element.querySelector(".outcome .status");
  status.className = `status ${className}`;
  status.textContent = text;
}

function showSummary() {
  const states = [...uploads.values()].map((upload) => upload.state);
  const inProgress = states.filter((state) => IN_PROGRESS.includes(state)).length;
  const succeeded = states.filter((state) => SUCCEEDED.includes(state)).length;
  const failed = states.length - inProgress - succeeded;
  byId("uploads-summary").textContent =
    `${succeeded} done, ${failed} failed, ${inProgress} in progress`;
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

// --- failed uploads ------------------------------------------------------------------------------
const REPLAY_OUTCOMES = {
  done: { count: "done", text: "Done: the thumbnails are up to date." },
  failed_again: { count: "failed again", text: "Failed again." },
  left: { count: "not replayed", text: "Not replayed. The message stays on the queue." },
  unreadable: { count: "unreadable", text: "Unreadable. The message stays on the queue." },
  gone: { count: "not found", text: "No longer on the queue." },
};

byId("dead-letters")?.addEventListener("loaded", () => {
  const form = byId("replay-form");
  if (!form) return;
  const boxes = [...form.querySelectorAll("input[name=message]")];
  const replaySelected = form.querySelector("button[value=selected]");
  form.addEventListener("change", ({ target }) => {
    if (target.id === "select-all") for (const box of boxes) box.checked = target.checked;
    const count = boxes.filter((box) => box.checked).length;
    byId("select-all").checked = count === boxes.length;
    byId("select-all").indeterminate = count > 0 && count < boxes.length;
    replaySelected.disabled = !count;
    replaySelected.textContent = count ? `Replay ${count} selected` : "Replay selected";
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const what = event.submitter.value; // "all", "selected", or the id of a message
    const selected = boxes.filter((box) => box.checked).map((box) => box.value);
    replay(form, what === "all" ? null : what === "selected" ? [...new Set(selected)] : [what]);
  });
});

// Replays messages by id, or all with null, and then loads the list again.
async function replay(form, messages) {
  const status = byId("replay-status");
  const rows = [...form.querySelectorAll("tr[data-message]")];
  for (const control of form.querySelectorAll("button, input")) control.disabled = true;
  const replayed = rows.filter((row) => !messages || messages.includes(row.dataset.message));
  for (const row of replayed) row.querySelector(".result").textContent = "Replaying…";
  status.className = "";
  status.textContent = "Replaying…";
  status.focus(); // the focused button is about to be replaced
  const results = new Map(); // message → text of its outcome
  try {
    const batches = messages ? [] : [null];
    for (let start = 0; start < (messages ?? []).length; start += BATCH_SIZE) {
      batches.push(messages.slice(start, start + BATCH_SIZE));
    }
    let counts = {};
    for (const batch of batches) counts = await replayBatch(batch, rows, counts, results);
    status.textContent = `Replay finished: ${formatCounts(counts)}.`;
    await sleep(MIN_DELAY_MS * 4); // so that the outcome of each row can be read
  } catch (error) {
    status.className = "error";
    status.textContent = error.message;
  }
  content.delete(byId("dead-letters"));
  await load(byId("dead-letters"));
  for (const row of byId("dead-letters").querySelectorAll("tr[data-message]")) {
    row.querySelector(".result").textContent = results.get(row.dataset.message) ?? "";
  }
}

// Resolves to the counts of this batch added to `earlier`, once the replay has ended.
async function replayBatch(messages, rows, earlier, results) {
  const status = byId("replay-status");
  let progress = await (await request("/replays", { messages })).json();
  let delay = MIN_DELAY_MS;
  for (;;) {
    for (const row of rows) {
      const outcome = progress.outcomes[row.dataset.message];
      if (!outcome) continue;
      const text = `${REPLAY_OUTCOMES[outcome.outcome].text} ${outcome.why}`.trim();
      row.querySelector(".result").textContent = text;
      results.set(row.dataset.message, text);
    }
    const counts = addCounts(earlier, progress.counts);
    if (progress.error) throw new Error(progress.error);
    if (progress.ended) return counts;
    const waiting = progress.waiting === null ? "" : `; ${progress.waiting} on the queue`;
    status.textContent = `Replaying ${progress.total}: ${formatCounts(counts)}${waiting}…`;
    await sleep(delay);
    delay = Math.min(delay * 1.2, MAX_DELAY_MS / 4);
    progress = await (await request(`/replays/${progress.number}`)).json();
  }
}

function addCounts(one, other) {
  const sum = { ...one };
  for (const [name, count] of Object.entries(other)) sum[name] = (sum[name] ?? 0) + count;
  return sum;
}

function formatCounts(counts) {
  const parts = Object.entries(REPLAY_OUTCOMES)
    .filter(([name]) => counts[name])
    .map(([name, { count }]) => `${counts[name]} ${count}`);
  return parts.join(", ") || "0 done";
}
