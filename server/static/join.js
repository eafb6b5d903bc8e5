// Turns the token in the link's fragment into a session. The fragment never reaches a server by itself, and it leaves the
// address bar and the history before anything else happens.

import { session } from "./api.js";
import { $ } from "./element.js";

const said = $("#said");
const form = $("#form");
const again = $("#again");

function refused(head, text, { retry = false } = {}) {
  $("#head").textContent = head;
  said.textContent = text;
  form.hidden = false;
  again.hidden = !retry;
}

async function join(token) {
  again.hidden = true;
  again.onclick = () => join(token);
  said.textContent = "";
  let who;
  try {
    who = await session.begin(token);
  } catch (error) {
    if (error.passing)
      return refused(
        "No answer",
        error.status === 429
          ? "The server is busy; wait a moment."
          : "The server cannot be reached. The link may still be good: try again.",
        { retry: true },
      );
    return refused(
      "This link does not work",
      "It may have expired or been taken back, or part of it is missing. Ask for a new one.",
    );
  }
  location.replace(who.role === "rater" ? `/rate/${encodeURIComponent(who.study)}` : "/");
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("#token").value.trim();
  join(text.slice(text.indexOf("#") + 1));
});

const token = decodeURIComponent(location.hash.slice(1));
history.replaceState(null, "", location.pathname);
if (token) await join(token);
else refused("Join a study", "Open the link that you were given, or paste it here.");
// a link that is opened while this page is already there changes the fragment alone
window.addEventListener("hashchange", () => {
  const other = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
  if (other) join(other);
});
