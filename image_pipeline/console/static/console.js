// What the pages cannot do alone: send files to S3, wait for outcomes, replay, look again.
// Names and messages become text, never markup; markup comes from the console itself, escaped.

const AT_ONCE = 4; // uploads at a time
const BATCH = 50; // keys or letters in a request
const TRIES = 3; // of an upload
const FIRST_MS = 300;
const LAST_MS = 8000; // between two looks, when nothing changes

const token = document.querySelector("meta[name=csrf-token]").content;
const byId = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

async function ask(path, body) {
  const options = { headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["X-CSRF-Token"] = token;
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The console does not answer. Is it still running?");
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let told = text;
  try {
    const { title, message } = JSON.parse(text);
    told = `${title}: ${message}`;
  } catch {
    // not JSON: the text is the message
  }
  throw Object.assign(new Error(told), { status: answer.status });
}

// --- parts that come, and come again -------------------------------------------------------------
const shown = new Map(); // part → what it shows

async function load(part) {
  part.setAttribute("aria-busy", "true");
  try {
    const html = await (await ask(part.dataset.load)).text();
    if (html === shown.get(part)) return; // whoever reads or points at it is left alone
    shown.set(part, html);
    part.innerHTML = html;
    part.dispatchEvent(new Event("loaded"));
  } catch (error) {
    if (error.message === shown.get(part)) return;
    shown.set(part, error.message);
    problem(part, error.message, () => load(part));
  } finally {
    part.setAttribute("aria-busy", "false");
  }
}

async function again(part) {
  let pause = Number(part.dataset.every) * 1000;
  const least = pause;
  for (;;) {
    const before = shown.get(part);
    if (!document.hidden) await load(part);
    pause = shown.get(part) === before ? Math.min(pause * 1.5, 10 * least) : least;
    await sleep(pause);
  }
}

function problem(place, message, retry) {
  const text = document.createElement("p");
  text.className = "problem";
  text.setAttribute("role", "alert");
  text.textContent = message;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Try again";
  button.addEventListener("click", retry);
  place.replaceChildren(text, button);
}

for (const part of document.querySelectorAll("[data-load]")) {
  if (part.dataset.every) again(part);
  else load(part);
}

// --- pictures that are not there, or that a browser cannot show ----------------------------------
function otherwise(image) {
  const text = document.createElement("span");
  text.className = "none";
  text.textContent = image.dataset.otherwise;
  image.replaceWith(text);
}

document.addEventListener("error", ({ target }) => {
  if (target.matches?.("img[data-otherwise]")) otherwise(target);
}, true);
for (const image of document.querySelectorAll("img[data-otherwise]")) {
  if (image.complete && !image.naturalWidth) otherwise(image); // failed before this script ran
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(byId(button.dataset.copy).textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(byId(button.dataset.copy));
      button.textContent = "Selected: copy it";
    }
  });
}

// --- uploads -------------------------------------------------------------------------------------
const WAITING = "Waiting for thumbnails …";
const uploads = new Map(); // name → its list item and state
const queue = [];
let sending = 0;
let looking = false;

if (byId("drop")) {
  const drop = byId("drop");
  for (const input of [byId("files"), byId("folder")]) {
    input.addEventListener("change", () => {
      add([...input.files].map((file) => [file.webkitRelativePath || file.name, file]));
      input.value = ""; // so that the same file can be chosen again
    });
  }
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.toggle("over", drop.contains(event.target));
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    // All at once: after the first pause the browser forgets what was dropped.
    const dropped = [...event.dataTransfer.items].map((item) => [
      item.webkitGetAsEntry(), item.getAsFile(),
    ]);
    const found = [];
    for (const [entry, file] of dropped) {
      if (entry) await collect(entry, found);
      else if (file) found.push([file.name, file]); // not from a file system
    }
    add(found);
  });
  addEventListener("beforeunload", (event) => {
    if (sending || queue.length) event.preventDefault(); // "Leave site?"
  });
}

async function collect(entry, found) {
  if (entry.name.startsWith(".")) return;
  try {
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      found.push([entry.fullPath.slice(1), file]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) return;
      for (const each of some) await collect(each, found);
    }
  } catch (error) {
    found.push([entry.fullPath.slice(1), null, error.message]); // the others go on
  }
}

function add(files) {
  const chosen = files.filter(([name]) => !name.split("/").some((part) => part.startsWith(".")));
  if (!chosen.length) return;
  byId("uploads").hidden = false;
  for (const [name, file, fault] of chosen) {
    const before = uploads.get(name);
    if (before && ["queued", "sending"].includes(before.state)) {
      fail(listed(name, file), "Another file of this name is on its way: one would be lost.");
      continue;
    }
    before?.element.remove(); // uploaded again: one line, the newer
    const item = listed(name, file);
    uploads.set(name, item);
    if (fault) fail(item, fault);
    else queue.push(item);
  }
  pump();
}

// A preview is read when it comes into view: thousands of photos are not to be in memory.
const previews = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting) continue;
    previews.unobserve(target);
    preview(target, files.get(target));
  }
});
const files = new WeakMap(); // figure → its file

function preview(figure, file) {
  const image = figure.querySelector("img");
  const url = URL.createObjectURL(file);
  const end = (worked) => {
    URL.revokeObjectURL(url);
    image.hidden = !worked;
    if (worked) figure.querySelector(".none").remove();
  };
  image.addEventListener("load", () => end(true), { once: true });
  image.addEventListener("error", () => end(false), { once: true });
  image.src = url;
}

function listed(name, file) {
  const element = byId("upload-template").content.cloneNode(true).firstElementChild;
  element.querySelector("h3").textContent = name;
  element.querySelector(".size").textContent = file ? bytes(file.size) : "";
  element.querySelector("progress").setAttribute("aria-label", `Upload of ${name}`);
  byId("uploads-list").prepend(element);
  const item = { name, element, file, state: "queued", tries: 0 };
  if (file) {
    const figure = element.querySelector("figure");
    files.set(figure, file);
    previews.observe(figure);
    element.querySelector(".retry").addEventListener("click", () => {
      Object.assign(item, { state: "queued", tries: 0 });
      queue.push(item);
      pump();
    });
  }
  state(item, "", "Waiting to be sent …");
  return item;
}

function fail(item, why) {
  item.state = "unsent";
  item.element.querySelector("progress").hidden = true;
  state(item, "bad", `Not uploaded: ${why}`);
  item.element.querySelector(".retry").hidden = !item.file;
}

function pump() {
  while (sending < AT_ONCE && queue.length) {
    const item = queue.shift();
    sending += 1;
    send(item).finally(() => {
      sending -= 1;
      summary();
      pump();
    });
  }
  summary();
}

async function send(item) {
  const bar = item.element.querySelector("progress");
  item.state = "sending";
  bar.hidden = false;
  item.element.querySelector(".retry").hidden = true;
  state(item, "", "Sending …");
  for (;;) {
    item.tries += 1;
    let refusal;
    try {
      // Signed only now: a signature lasts an hour, or as long as the credentials.
      Object.assign(item, await (await ask("/uploads", { name: item.name })).json());
      refusal = await put(item, (share) => { bar.value = share * 100; });
    } catch (error) {
      refusal = { why: error.message, final: error.status < 500 };
    }
    if (!refusal) break;
    if (refusal.final || item.tries >= TRIES) return fail(item, refusal.why);
    await sleep(FIRST_MS * 2 ** item.tries);
  }
  bar.hidden = true;
  item.state = "unknown";
  state(item, "", WAITING);
  look();
}

function put(item, progress) {
  return new Promise((settle) => {
    const request = new XMLHttpRequest(); // fetch tells no progress of what it sends
    request.open("PUT", item.url);
    request.setRequestHeader("Content-Type", item.content_type);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) progress(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      if (request.status < 300) return settle(null);
      const why = request.responseXML?.querySelector("Message")?.textContent ?? request.statusText;
      const final = request.status < 500 && request.status !== 403; // that may be its signature
      settle({ why: `S3 answered ${request.status} ${why}`, final });
    });
    request.addEventListener("error", () => settle({
      why: "S3 cannot be reached from this page. Is the network up, and does the bucket's CORS "
        + "configuration allow this page (parameter UploadOrigins)?",
    }));
    request.send(item.file);
  });
}

async function look() {
  if (looking) return;
  looking = true;
  let pause = FIRST_MS;
  for (;;) {
    const waiting = [...uploads.values()].filter((item) => item.state === "unknown");
    if (!waiting.length) break;
    let changed = false;
    for (let start = 0; start < waiting.length; start += BATCH) {
      changed = await ask_about(waiting.slice(start, start + BATCH)) || changed;
    }
    summary();
    pause = changed ? FIRST_MS : Math.min(pause * 1.5, LAST_MS);
    await sleep(pause);
  }
  looking = false;
  summary();
}

async function ask_about(items) {
  let changed = false;
  try {
    const told = await (await ask("/outcomes", { keys: items.map((item) => item.key) })).json();
    told.outcomes.forEach((outcome, index) => {
      const item = items[index];
      if (outcome.state === "unknown") {
        state(item, told.problem ? "warn" : "", told.problem ?? WAITING);
      } else {
        item.state = outcome.state;
        item.element.querySelector(".outcome").innerHTML = outcome.html;
        changed = true;
      }
    });
  } catch (error) {
    const final = error.status >= 400 && error.status < 500; // of an earlier console: no use
    for (const item of items) {
      if (final) item.state = "untold";
      state(item, "warn", final ? error.message : `${error.message} Trying again …`);
    }
  }
  return changed;
}

function state(item, kind, text) {
  const place = item.element.querySelector(".outcome .state");
  place.className = `state ${kind}`;
  place.textContent = text;
}

function summary() {
  const counts = { done: 0, failed: 0, waiting: 0 };
  for (const { state: now } of uploads.values()) {
    if (now === "done" || now === "superseded") counts.done += 1;
    else if (["failed", "unsent", "gone", "untold"].includes(now)) counts.failed += 1;
    else counts.waiting += 1;
  }
  byId("uploads-summary").textContent = `${counts.done} done, ${counts.failed} failed, `
    + `${counts.waiting} under way`;
}

function bytes(size) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit ? size.toPrecision(3) : size} ${units[unit]}`;
}

// --- dead letters --------------------------------------------------------------------------------
const OUTCOMES = {
  done: "Done: its thumbnails are right now",
  failed_again: "Failed again: there is a new letter",
  left: "Left as it is",
  unreadable: "None of our messages: left as it is",
  gone: "Not found on the queue",
};

byId("letters")?.addEventListener("loaded", () => {
  const form = byId("replay-form");
  if (!form) return;
  const boxes = [...form.querySelectorAll("input[name=message]")];
  const selected = form.querySelector("button[value=selected]");
  form.addEventListener("change", ({ target }) => {
    if (target.id === "select-all") for (const box of boxes) box.checked = target.checked;
    const count = boxes.filter((box) => box.checked).length;
    byId("select-all").checked = count === boxes.length;
    byId("select-all").indeterminate = count > 0 && count < boxes.length;
    selected.disabled = !count;
    selected.textContent = count ? `Replay ${count} selected` : "Replay selected";
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const what = event.submitter.value;
    const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
    replay(form, what === "all" ? null : what === "selected" ? [...new Set(chosen)] : [what]);
  });
});

async function replay(form, messages) {
  const status = byId("replay-status");
  const rows = [...form.querySelectorAll("tr[data-message]")];
  for (const control of form.querySelectorAll("button, input")) control.disabled = true;
  const chosen = rows.filter((row) => !messages || messages.includes(row.dataset.message));
  for (const row of chosen) row.querySelector(".result").textContent = "Replaying …";
  status.className = "";
  status.textContent = "Replaying …";
  status.focus(); // the button that had it will be another one
  const results = new Map(); // message → why it is still there
  try {
    const parts = messages ? [] : [null];
    for (let start = 0; start < (messages ?? []).length; start += BATCH) {
      parts.push(messages.slice(start, start + BATCH));
    }
    let counts = {};
    for (const part of parts) counts = await follow(part, rows, counts, results);
    status.textContent = `Replayed: ${told(counts)}.`;
    await sleep(FIRST_MS * 4); // long enough to see what became of each
  } catch (error) {
    status.className = "problem";
    status.textContent = error.message;
  }
  shown.delete(byId("letters"));
  await load(byId("letters"));
  for (const row of byId("letters").querySelectorAll("tr[data-message]")) {
    row.querySelector(".result").textContent = results.get(row.dataset.message) ?? "";
  }
}

async function follow(messages, rows, before, results) {
  const status = byId("replay-status");
  let now = await (await ask("/replays", { messages })).json();
  let pause = FIRST_MS;
  for (;;) {
    for (const row of rows) {
      const outcome = now.outcomes[row.dataset.message];
      if (!outcome) continue;
      const text = `${OUTCOMES[outcome.outcome]}. ${outcome.why}`;
      row.querySelector(".result").textContent = text;
      results.set(row.dataset.message, text);
    }
    const counts = added(before, now.counts);
    if (now.error) throw new Error(now.error);
    if (now.ended) return counts;
    const left = now.waiting === null ? "" : `; ${now.waiting} on the queue`;
    status.textContent = `Replaying ${now.total}: ${told(counts)}${left} …`;
    await sleep(pause);
    pause = Math.min(pause * 1.2, LAST_MS / 4);
    now = await (await ask(`/replays/${now.number}`)).json();
  }
}

function added(one, other) {
  const sum = { ...one };
  for (const [name, count] of Object.entries(other)) sum[name] = (sum[name] ?? 0) + count;
  return sum;
}

function told(counts) {
  const words = { done: "done", failed_again: "failed again", left: "left", unreadable: "unreadable", gone: "gone" };
  const some = Object.entries(words).filter(([name]) => counts[name]);
  return some.map(([name, word]) => `${counts[name]} ${word}`).join(", ") || "none yet";
}
