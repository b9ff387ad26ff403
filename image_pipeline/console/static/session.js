// Opens the session, and loads the page of the address in the shell that the console sent.
// The session's token is in sessionStorage, which belongs to this tab and to the console's port.

const TOKEN = "image-pipeline-token";
const SECRET = "#secret="; // as in console/session.py

// Requests JSON or, with accept, a page. Throws an error with the reason and, if there is a
// response, its status.
export async function request(path, body, accept = "application/json") {
  const headers = { Accept: accept, Authorization: `Bearer ${sessionStorage.getItem(TOKEN)}` };
  const options = { headers };
  if (body !== undefined) {
    options.method = "POST";
    headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The console does not respond. Is it still running?");
  }
  const isPage = response.headers.get("Content-Type")?.startsWith("text/html");
  if (response.ok || isPage) return response; // an error as a page says what is wrong
  let text = await response.text();
  try {
    const { title, message } = JSON.parse(text);
    text = `${title}: ${message}`;
  } catch {
    // A refusal of the console's guard is plain text.
  }
  throw Object.assign(new Error(text), { status: response.status });
}

// Exchanges the secret of an address's fragment for a session.
export async function openSession(fragment) {
  const secret = fragment.slice(SECRET.length);
  const { token } = await (await request("/session", { secret })).json();
  sessionStorage.setItem(TOKEN, token);
}

async function showPage() {
  const response = await request(location.pathname + location.search, undefined, "text/html");
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  document.title = page.title;
  document.body.replaceWith(page.body);
  scrollTo(0, history.state?.scroll ?? 0);
  if (!history.state) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

function showRefusal(message) {
  const refusal = document.getElementById("refusal").content.cloneNode(true);
  refusal.querySelector("[role=alert]").textContent = message;
  document.title = `${refusal.querySelector("h1").textContent} · Image pipeline`;
  document.getElementById("main").replaceChildren(refusal);
}

// The browser restores the scroll position of the shell, which is empty: so this does it.
history.scrollRestoration = "manual";
addEventListener("pagehide", () => history.replaceState({ ...history.state, scroll: scrollY }, ""));

// An address that is pasted into a tab of the console changes only the fragment.
addEventListener("hashchange", () => {
  if (location.hash.startsWith(SECRET)) location.reload();
});

document.getElementById("loading").hidden = false;
try {
  const fragment = location.hash;
  if (fragment.startsWith(SECRET)) {
    history.replaceState(null, "", "/"); // the secret leaves the address bar and the history
    await openSession(fragment);
  }
  await showPage();
} catch (error) {
  showRefusal(error.message);
}
