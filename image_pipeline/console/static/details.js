// The page of one image: the way back to its place in the gallery, the images beside it, and a
// command that uploads another file under its name.

import { byId, setStatus } from "./page.js";
import { request } from "./session.js";
import { PLACE } from "./gallery.js";

if (byId("back")) {
  const place = JSON.parse(sessionStorage.getItem(PLACE));
  const key = new URLSearchParams(location.search).get("key");
  const index = place?.keys.indexOf(key) ?? -1;
  if (index >= 0) {
    byId("back").href = `/${place.query}`;
    byId("back").addEventListener("click", () => {
      sessionStorage.setItem(PLACE, JSON.stringify({ ...place, returning: true }));
    });
    showLink(byId("previous-image"), place.keys[index - 1]);
    showLink(byId("next-image"), place.keys[index + 1]);
  }
}

function showLink(link, key) {
  if (!key) return;
  link.href = `/image?key=${encodeURIComponent(key)}`;
  link.hidden = false;
}

byId("create-command")?.addEventListener("click", async ({ target }) => {
  const status = byId("command-status");
  try {
    const { name } = target.dataset;
    const { url, content_type: type } = await (await request("/uploads", { name })).json();
    const file = name.split("/").at(-1);
    byId("command").textContent = [
      // Without --globoff, curl expands brackets and braces.
      `curl --fail --globoff --upload-file ${quoted(`./${file}`)}`,
      `--header ${quoted(`Content-Type: ${type}`)}`,
      quoted(url),
    ].join(" \\\n  ");
    byId("command-content").hidden = false;
    const seconds = Number(new URL(url).searchParams.get("X-Amz-Expires"));
    const end = new Date(Date.now() + seconds * 1000);
    const time = end.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    setStatus(status, `Works until ${time} (${Math.round(seconds / 60)} minutes), or until the console's credentials `
      + "expire, if that is sooner. Whoever has it can replace this image until then.");
  } catch (error) {
    setStatus(status, error.message, "error-text");
  }
});

// Quotes a text for a POSIX shell.
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
