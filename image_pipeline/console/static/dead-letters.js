// The failed uploads: chooses messages, replays or discards them, and shows how that ended.
// `chosen` is the body of a request: {messages: [id, …]}, {messages: null} for all, or {matching}.

import {
  MAX_DELAY_MS, MIN_DELAY_MS, byId, content, load, number, plural, setStatus, sleep,
} from "./page.js";
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
  const selectAll = byId("select-all");
  const more = byId("select-matching"); // offers the messages of other pages
  const [replaySelected, discardSelected] = form.querySelectorAll("button[value=selected]");
  const matching = { chosen: { matching: form.dataset.matching } };
  let everyPage = false; // whether the messages of other pages are selected too

  function selection() {
    const ids = [...new Set(boxes.filter((box) => box.checked).map((box) => box.value))];
    if (!everyPage) return { chosen: { messages: ids }, count: ids.length };
    return { ...matching, count: Number(form.dataset.count) };
  }

  function showSelection() {
    const { count } = selection();
    const onPage = boxes.filter((box) => box.checked).length;
    const whole = onPage === boxes.length && count > 0;
    if (selectAll) {
      selectAll.checked = whole;
      selectAll.indeterminate = count > 0 && !whole;
    }
    for (const [button, verb, end] of [[replaySelected, "Replay", ""], [discardSelected, "Discard", "…"]]) {
      button.disabled = !count;
      button.textContent = count ? `${verb} ${number(count)} selected${end}` : `${verb} selected${end}`;
    }
    if (!more) return;
    more.hidden = !whole;
    more.querySelector("span").textContent = everyPage
      ? `All ${number(count)} are selected, on every page.`
      : `The ${onPage} on this page are selected.`;
    more.querySelector("button").hidden = everyPage;
  }

  form.addEventListener("change", ({ target }) => {
    everyPage = false;
    if (target.id === "select-all") for (const box of boxes) box.checked = target.checked;
    // A message that names several uploads has several rows.
    else for (const box of boxes) if (box.value === target.value) box.checked = target.checked;
    showSelection();
  });
  more?.querySelector("button").addEventListener("click", () => {
    everyPage = true;
    showSelection();
    replaySelected.focus();
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const { name, value, dataset } = event.submitter;
    let what = { chosen: { messages: [value] }, count: 1 }; // the value is the id of a message
    if (name === "group") {
      const query = new URLSearchParams(form.dataset.matching);
      query.set("group", value);
      what = { chosen: { matching: String(query) }, count: Number(dataset.count) };
    } else if (value === "selected") what = selection();
    else if (value === "matching") what = matching;
    else if (value === "all") what = { chosen: { messages: null } };
    if (!("discard" in dataset)) replay(form, what.chosen);
    else askToDiscard(what.chosen, everyPage && value === "selected" ? Number(form.dataset.discardable) : what.count);
  });
});

function busy(form, text) {
  const status = byId("replay-status");
  for (const control of document.querySelectorAll("#dead-letters :is(button, input, select)")) control.disabled = true;
  setStatus(status, text);
  status.focus({ preventScroll: true }); // the focused button is about to be replaced
}

async function reload() {
  content.delete(byId("dead-letters"));
  await load(byId("dead-letters")); // in place, so that the page does not scroll
}

// --- replay -------------------------------------------------------------------------------------
async function replay(form, chosen) {
  const status = byId("replay-status");
  const rows = [...form.querySelectorAll("tr[data-message]")];
  busy(form, "Replaying…");
  for (const row of rows) {
    if (chosen.messages?.includes(row.dataset.message)) row.querySelector(".result").textContent = "Replaying…";
  }
  const results = new Map(); // message → text of its outcome
  try {
    const counts = await follow(chosen, rows, results);
    status.textContent = `Replay finished: ${formatCounts(counts)}.`;
    await sleep(MIN_DELAY_MS * 4); // so that the outcome of each row can be read
  } catch (error) {
    setStatus(status, error.message, "error");
  }
  document.dispatchEvent(new Event("replayed"));
  await reload();
  for (const row of byId("dead-letters").querySelectorAll("tr[data-message]")) {
    row.querySelector(".result").textContent = results.get(row.dataset.message) ?? "";
  }
}

// Starts a replay, and resolves to its counts once it has ended.
async function follow(chosen, rows, results) {
  const status = byId("replay-status");
  let progress = await (await request("/replays", chosen)).json();
  let delay = MIN_DELAY_MS;
  for (;;) {
    for (const row of rows) {
      const outcome = progress.outcomes[row.dataset.message];
      if (!outcome) continue;
      const text = `${REPLAY_OUTCOMES[outcome.outcome].text} ${outcome.why}`.trim();
      row.querySelector(".result").textContent = text;
      results.set(row.dataset.message, text);
    }
    if (progress.error) throw new Error(progress.error);
    if (progress.ended) return progress.counts;
    const waiting = progress.waiting === null ? "" : `; ${progress.waiting} on the queue`;
    status.textContent = `Replaying ${progress.total}: ${formatCounts(progress.counts)}${waiting}…`;
    await sleep(delay);
    delay = Math.min(delay * 1.2, MAX_DELAY_MS / 4);
    progress = await (await request(`/replays/${progress.number}`)).json();
  }
}

function formatCounts(counts) {
  const parts = Object.entries(REPLAY_OUTCOMES)
    .filter(([name]) => counts[name])
    .map(([name, { count }]) => `${counts[name]} ${count}`);
  return parts.join(", ") || "0 done";
}

// --- discard ------------------------------------------------------------------------------------
function askToDiscard(chosen, count) {
  const dialog = byId("discard-dialog");
  const status = byId("discard-status");
  byId("discard-title").textContent =
    `Discard ${plural(count, "dead-letter message")}?`;
  status.textContent = "";
  dialog.onclick = async ({ target }) => {
    const action = target.closest("button")?.value;
    if (action === "cancel") dialog.close();
    if (action === "export") {
      try {
        setStatus(status, `Saved as ${await download(chosen)}.`);
      } catch (error) {
        setStatus(status, error.message, "error");
      }
    }
    if (action === "discard") {
      dialog.close();
      await discard(chosen);
    }
  };
  dialog.showModal();
}

// Saves the messages as a file of the browser, and resolves to its name.
async function download(chosen) {
  const lines = await (await request("/dead-letters/export", chosen)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(lines);
  link.download = `dead-letters-${new Date().toISOString().replace(/[-:]|\..*/g, "")}.jsonl`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), MAX_DELAY_MS);
  return link.download;
}

async function discard(chosen) {
  const status = byId("replay-status");
  busy(byId("replay-form"), "Discarding…");
  try {
    const { deleted, kept } = await (await request("/discards", chosen)).json();
    const others = kept ? ` ${kept} stayed: another reader has them, or they are gone.` : "";
    status.textContent = `${deleted} discarded.${others}`;
  } catch (error) {
    setStatus(status, error.message, "error");
  }
  await reload();
}
