// The failed uploads: chooses messages, replays them, and shows how each replay ended.

import { BATCH_SIZE, MAX_DELAY_MS, MIN_DELAY_MS, byId, content, load, sleep } from "./page.js";
import { request } from "./session.js";

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
