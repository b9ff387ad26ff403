// Uploads files to S3 with presigned URLs, and shows what becomes of them.

import { BATCH_SIZE, MAX_DELAY_MS, MIN_DELAY_MS, byId, sleep } from "./page.js";
import { request } from "./session.js";

const MAX_CONCURRENT_UPLOADS = 4;
const MAX_ATTEMPTS = 3; // per upload

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
