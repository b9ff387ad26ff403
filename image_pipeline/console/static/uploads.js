// The uploads of this tab: sends files to S3 with presigned URLs, asks what became of them, and
// remembers after a reload what was not sent. upload-tray.js shows them.

import { BATCH_SIZE, MAX_DELAY_MS, MIN_DELAY_MS, sleep } from "./page.js";
import { request } from "./session.js";

const MAX_CONCURRENT_UPLOADS = 4;
const MAX_ATTEMPTS = 3; // per upload
const MAX_BYTES = 5 * 1024 ** 3; // of a PUT request to S3
const MAX_STALL_MS = 60_000; // without a byte sent or an answer
const RATE_MS = 20_000; // the time left follows from the bytes sent in this time
const SAVE_MS = 2000;
export const GOES_ON = "Uploads go on when it responds.";

// state → what the tray counts it as. The console's own are unknown (uploaded; there is no outcome
// yet), done, failed, superseded and gone.
export const GROUPS = {
  waiting: "waiting",
  sending: "in progress",
  unknown: "in progress",
  done: "done",
  superseded: "done",
  failed: "failed",
  gone: "failed",
  "upload-failed": "failed",
  conflict: "failed", // another file of this name is in the list
  "not-sent": "not sent", // before a reload: the browser no longer has the file
  cancelled: "cancelled",
};
export const uploads = new Map(); // id → upload, in the order in which they were added
export const sending = {
  paused: false, // by the user, or because S3 refuses everything
  notice: "", // why nothing is sent, or no outcome is known
  consoleIsDown: false,
  needsSession: false, // the console was restarted
  memoryNotice: "",
};
const byName = new Map(); // name → the upload that the object of this name comes from
let queue = []; // waiting uploads; those that are no longer waiting are skipped
let active = 0; // files being sent
let held = false; // nothing is sent until the console or S3 can be reached
let holdDelay = MIN_DELAY_MS;
let refusals = 0; // by S3, since the last file that it accepted
let batch = 0; // the progress is that of the uploads that were added since the tray was idle
let lastId = 0;
let memory = null; // key in sessionStorage
let saving = false;
let rate = []; // [time, bytes sent] of the last RATE_MS

// Is called after each change. Those who show uploads set it.
let show = () => {};
export const onChange = (callback) => { show = callback; };

function changed() {
  show();
  if (saving || memory === null) return;
  saving = true;
  setTimeout(() => { saving = false; save(); }, SAVE_MS);
}

export const isUnsent = (upload) => upload.state === "waiting" || upload.state === "sending";
export const hasUnsent = () => [...uploads.values()].some(isUnsent);
const notify = (notice, consoleIsDown = false) => Object.assign(sending, { notice, consoleIsDown });
const isPending = (upload) => isUnsent(upload) || upload.state === "unknown";

// --- adding, and what the user does with one or all ----------------------------------------------
// Adds files, each { name, file } or { name, error }, and starts sending. With `unsentOnly`, only
// files that an earlier page did not send, by name and size. Returns how many were left out.
export function addFiles(found, unsentOnly = false) {
  let omitted = 0;
  startBatch();
  for (const { name, file, error } of found) {
    if (name.split("/").some((part) => part.startsWith("."))) continue; // hidden
    const previous = byName.get(name);
    const isWanted = previous?.state === "not-sent" && previous.size === file?.size;
    const same = previous?.size === file?.size && previous?.modified === file?.lastModified;
    if ((unsentOnly && !isWanted) || (same && previous && isPending(previous))) {
      omitted += 1;
      continue;
    }
    const upload = create(name, file);
    if (previous && !same && ["waiting", "in progress", "done"].includes(GROUPS[previous.state])) {
      fail(upload, "Another file with this name is already in this list.", { state: "conflict" });
      continue;
    }
    takeName(upload, previous);
    if (previous) drop(previous);
    if (error) fail(upload, error);
    else enqueue(upload);
  }
  startUploads();
  return omitted;
}

function create(name, file) {
  const upload = {
    id: String(lastId += 1), name, batch, file, size: file?.size ?? 0, modified: file?.lastModified,
    state: "waiting", reason: "", key: null, html: null, permanent: false, replaced: false,
    sent: 0, run: 0, version: 0, rechecks: 0, abort: () => {},
  };
  uploads.set(upload.id, upload);
  return upload;
}

// The name's earlier failure, if any, is still on the dead-letter queue.
function takeName(upload, previous) {
  upload.replaced = previous?.replaced || previous?.state === "failed";
  byName.set(upload.name, upload);
}

function startBatch() {
  if (![...uploads.values()].some(isPending)) batch += 1;
}

function enqueue(upload) {
  const { file } = upload;
  upload.batch = batch;
  if (!file.size) return fail(upload, "The file is empty (0 bytes).", { permanent: true });
  if (file.size > MAX_BYTES) {
    const reason = "The file is larger than 5 GiB, which is the most that S3 accepts in one request.";
    return fail(upload, reason, { permanent: true });
  }
  set(upload, "waiting", { permanent: false });
  queue.push(upload);
}

// Sends files of uploads again or, for a conflict, instead of the other one of its name.
export function retry(...retried) {
  startBatch();
  for (const upload of retried) if (upload.file) sendAgain(upload);
  if (sending.paused && sending.notice) resume(); // it was paused because S3 refused uploads
  startUploads();
}

function sendAgain(upload) {
  const other = byName.get(upload.name);
  takeName(upload, other ?? upload);
  if (other && other !== upload) drop(other);
  enqueue(upload);
}

export function retryAll() {
  retry(...[...uploads.values()].filter(canRetry));
}

// Whether the same file may succeed if it is sent again.
export const canRetry = (upload) => Boolean(upload.file) && !upload.permanent
  && ["upload-failed", "cancelled", "failed"].includes(upload.state);

// Uploads another file under the name of an upload that failed.
export function replaceFile(upload, file) {
  Object.assign(upload, { file, size: file.size, modified: file.lastModified });
  retry(upload);
}

export function cancel(upload) {
  if (!isUnsent(upload)) return;
  stop(upload);
  set(upload, "cancelled");
}

export function cancelAll() {
  for (const upload of uploads.values()) cancel(upload);
  queue = [];
}

// Takes uploads off the list. What is in the bucket stays there.
export function remove(...removed) {
  for (const upload of removed) {
    if (byName.get(upload.name) === upload) byName.delete(upload.name);
    drop(upload);
  }
  save();
  changed();
}

function drop(upload) {
  stop(upload);
  uploads.delete(upload.id);
}

export function pause() {
  sending.paused = true;
  for (const upload of [...uploads.values()].reverse()) {
    if (upload.state === "sending") sendLater(upload); // S3 keeps no part of an aborted PUT
  }
}

export function resume() {
  sending.paused = false;
  notify("");
  held = false;
  refusals = 0;
  startUploads();
  pollOutcomes();
}

function stop(upload) {
  upload.run += 1;
  upload.sent = 0;
  upload.abort();
}

function sendLater(upload) {
  stop(upload);
  queue.unshift(upload);
  set(upload, "waiting");
}

function set(upload, state, changes = {}) {
  Object.assign(upload, { state, reason: "", html: null }, changes);
  upload.version += 1;
  changed();
}

function fail(upload, reason, { state = "upload-failed", permanent = false } = {}) {
  set(upload, state, { reason, permanent, sent: 0 });
}

// --- sending --------------------------------------------------------------------------------------
function startUploads() {
  while (!sending.paused && !held && active < MAX_CONCURRENT_UPLOADS && queue.length) {
    const upload = queue.shift();
    if (upload.state !== "waiting" || !uploads.has(upload.id)) continue;
    active += 1;
    send(upload).finally(() => {
      active -= 1;
      startUploads();
    });
  }
  changed();
}

async function send(upload) {
  const run = upload.run += 1; // only the latest run may change the upload
  set(upload, "sending", { sent: 0 });
  for (let attempt = 1; ; attempt += 1) {
    const failure = await putFile(upload, run);
    if (upload.run !== run) return; // paused, cancelled or replaced
    if (!failure) break;
    upload.sent = 0;
    if (failure.unreachable) return hold(upload, failure);
    if (failure.permanent || attempt >= MAX_ATTEMPTS) return refuse(upload, failure);
    await sleep(MIN_DELAY_MS * 2 ** attempt);
    if (upload.run !== run) return;
  }
  refusals = 0;
  holdDelay = MIN_DELAY_MS;
  notify("");
  set(upload, "unknown", {
    sent: upload.size, sentAt: Date.now(), pollAt: Date.now() + MIN_DELAY_MS, pollDelay: MIN_DELAY_MS,
  });
  pollOutcomes();
}

// Resolves to null, or to a failure: its reason, and what is known about it.
async function putFile(upload, run) {
  let target;
  try {
    // Each attempt has a new URL: it is valid for an hour, or until the credentials expire.
    target = await (await request("/uploads", { name: upload.name })).json();
  } catch (error) {
    return {
      reason: error.message,
      consoleIsDown: error.status === undefined,
      unreachable: error.status === undefined || error.status === 401,
      session: error.status === 401,
      permanent: error.status < 500,
    };
  }
  if (upload.run !== run) return null;
  upload.key = target.key;
  const failure = await putObject(upload, target, run);
  if (failure?.unreachable && upload.run === run && !await isReadable(upload.file)) {
    const reason = "The file cannot be read. It was moved, changed or deleted after you chose it. Choose it again.";
    return { reason, permanent: true };
  }
  return failure;
}

function putObject(upload, { url, content_type }, run) {
  return new Promise((resolve) => {
    const put = new XMLHttpRequest(); // fetch does not report the progress of uploads
    let stalled;
    const finish = (failure) => {
      clearTimeout(stalled);
      upload.abort = () => {};
      resolve(failure);
    };
    const watch = () => {
      clearTimeout(stalled);
      stalled = setTimeout(() => {
        finish({ reason: `S3 does not respond. ${GOES_ON}`, unreachable: true });
        put.abort();
      }, MAX_STALL_MS);
    };
    put.open("PUT", url);
    put.setRequestHeader("Content-Type", content_type);
    put.upload.addEventListener("progress", (event) => {
      if (upload.run !== run) return;
      upload.sent = event.loaded;
      watch();
      changed();
    });
    put.addEventListener("load", () => {
      if (put.status < 300) return finish(null);
      const message = put.responseXML?.querySelector("Message")?.textContent ?? put.statusText;
      const denied = put.status === 403; // or the signature has expired
      finish({
        reason: `S3 returned ${put.status} ${message}.`.replace("..", ".")
          + (denied ? " Your credentials need s3:PutObject on the input bucket and, with a KMS key of your own, kms:GenerateDataKey." : ""),
        permanent: put.status < 500 && !denied,
        denied,
      });
    });
    put.addEventListener("abort", () => finish(null)); // the caller sees that the run has ended
    put.addEventListener("error", () => finish({
      reason: "Cannot reach S3 from this page. Check the network, and that the bucket's CORS "
        + `configuration allows this page (parameter UploadOrigins). ${GOES_ON}`,
      unreachable: true,
    }));
    upload.abort = () => put.abort();
    watch();
    put.send(upload.file);
  });
}

async function isReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false; // NotFoundError or NotReadableError
  }
}

// Sends nothing until the console or S3 responds, which is tried again and again. Without a session
// that is no use: the user has to open a new one.
function hold(upload, { reason, consoleIsDown, session }) {
  notify(session ? "" : reason, consoleIsDown);
  sendLater(upload);
  if (session) sending.needsSession = true;
  if (held) return;
  held = true;
  if (session) return;
  setTimeout(() => {
    if (sending.needsSession) return;
    held = false;
    startUploads();
  }, holdDelay);
  holdDelay = Math.min(holdDelay * 2, MAX_DELAY_MS);
}

// If S3 refuses one upload after the other, the rest waits: it would be refused as well.
function refuse(upload, { reason, permanent, denied }) {
  fail(upload, reason, { permanent });
  refusals = denied ? refusals + 1 : 0;
  if (refusals < MAX_CONCURRENT_UPLOADS || sending.paused || !hasUnsent()) return;
  notify(`Paused, because S3 refuses the uploads. ${reason}`);
  pause();
}

export function renewed() {
  sending.needsSession = false;
  resume();
}

// --- outcomes -------------------------------------------------------------------------------------
let polling = false;
let wake = () => {};
addEventListener("visibilitychange", () => wake()); // timers are slow in a tab in the background

const isPolled = (upload) => upload.state === "unknown" || upload.rechecks > 0;

async function pollOutcomes() {
  if (polling) return wake();
  polling = true;
  for (;;) {
    const polled = [...uploads.values()].filter(isPolled).sort((a, b) => a.pollAt - b.pollAt);
    if (!polled.length || sending.needsSession) break;
    const now = Date.now();
    const due = polled.filter((upload) => upload.pollAt <= now).slice(0, BATCH_SIZE);
    if (due.length) await updateOutcomes(due);
    const woken = new Promise((resolve) => { wake = resolve; });
    await (due.length ? sleep(MIN_DELAY_MS) : Promise.race([woken, sleep(polled[0].pollAt - now)]));
  }
  polling = false;
}

async function updateOutcomes(due) {
  const runs = due.map((upload) => upload.run);
  const postpone = (upload, delay) => {
    // Without an outcome for long, as where the function is broken, it is asked for ever less often.
    upload.pollDelay = Math.min(delay, Math.max(MAX_DELAY_MS, (Date.now() - upload.sentAt) / 10 || 0));
    upload.pollAt = Date.now() + upload.pollDelay;
  };
  try {
    const keys = due.map((upload) => upload.key);
    const { outcomes, error } = await (await request("/outcomes", { keys })).json();
    if (error || sending.consoleIsDown || !(held || sending.paused)) notify(error ?? "");
    const settled = [];
    outcomes.forEach((outcome, index) => {
      const upload = due[index];
      if (upload.run !== runs[index] || !uploads.has(upload.id)) return; // replaced in the meantime
      upload.rechecks -= 1;
      if (outcome.state === "unknown") return postpone(upload, upload.pollDelay * 1.5);
      const { state, html, reason, permanent } = outcome;
      set(upload, state, { html, reason, permanent, settledAt: Date.now(), rechecks: 0 });
      settled.push(outcome);
    });
    if (settled.length) document.dispatchEvent(new CustomEvent("outcomes", { detail: settled }));
  } catch (error) {
    if (error.status === 401) sending.needsSession = true;
    notify(sending.needsSession ? "" : error.message, error.status === undefined);
    for (const upload of due) postpone(upload, Math.max(upload.pollDelay * 1.5, MAX_DELAY_MS / 4));
  }
  changed();
}

// --- progress of all ------------------------------------------------------------------------------
// Counts by group, the bytes of those that are or will be sent, and the seconds left, if known.
export function totals() {
  const counts = { done: 0, failed: 0, "not sent": 0, cancelled: 0, "in progress": 0, waiting: 0 };
  let bytes = 0;
  let sent = 0;
  for (const upload of uploads.values()) {
    counts[GROUPS[upload.state]] += 1;
    const isCounted = isUnsent(upload) || upload.sent;
    if (upload.batch !== batch || !isCounted) continue;
    bytes += upload.size;
    sent += Math.min(upload.sent, upload.size); // the browser counts no less than the body
  }
  return { counts, bytes, sent, seconds: secondsLeft(bytes - sent, sent) };
}

function secondsLeft(left, sent) {
  const now = performance.now();
  if (sending.paused || held || !left || sent < rate.at(-1)?.[1]) rate = [];
  if (!left || sending.paused || held) return null;
  rate = rate.filter(([time]) => time > now - RATE_MS);
  if (!rate.length || now - rate.at(-1)[0] > MIN_DELAY_MS) rate.push([now, sent]);
  const [time, bytes] = rate[0];
  const speed = (sent - bytes) / (now - time); // bytes per millisecond
  return now - time > 2000 && speed > 0 ? left / speed / 1000 : null;
}

// --- memory ---------------------------------------------------------------------------------------
// Remembers under `key` of sessionStorage, which belongs to this tab, and restores what it has.
export function remember(key) {
  memory = key;
  for (const old of JSON.parse(sessionStorage.getItem(key) ?? "[]")) {
    const upload = Object.assign(create(old.name, null), old);
    byName.set(upload.name, upload);
    if (upload.key) Object.assign(upload, { pollAt: 0, pollDelay: MIN_DELAY_MS, sent: upload.size });
  }
  addEventListener("pagehide", save);
  document.addEventListener("replayed", recheckFailed);
  recheckFailed();
  changed();
}

// A failed upload may have been replayed. If there is no message any more, it stays as it was.
function recheckFailed() {
  for (const upload of uploads.values()) {
    if (upload.state !== "failed") continue;
    Object.assign(upload, { rechecks: 3, pollAt: 0, pollDelay: MIN_DELAY_MS });
  }
  pollOutcomes();
}

// What is done or cancelled needs no memory. The bytes of a file cannot be kept.
function save() {
  const kept = [];
  for (const { name, size, modified, key, state, reason, permanent, replaced, sentAt } of uploads.values()) {
    const base = { name, size, modified, permanent, replaced };
    if (state === "unknown" || state === "failed") kept.push({ ...base, key, state, reason, sentAt });
    else if (["waiting", "sending", "not-sent", "upload-failed", "conflict"].includes(state)) {
      kept.push({ ...base, state: "not-sent", reason });
    }
  }
  sending.memoryNotice = "";
  try {
    if (kept.length) sessionStorage.setItem(memory, JSON.stringify(kept));
    else sessionStorage.removeItem(memory);
  } catch { // QuotaExceededError
    sessionStorage.removeItem(memory);
    sending.memoryNotice = "This list is too long for the browser to remember. Do not reload the page before all files are sent.";
  }
}
