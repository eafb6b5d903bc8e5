// Asking the server until it answers: with pauses of 1, 2, 4 ... 30 seconds, at once when the connection comes back or
// the person asks. What is sent again is the same message, so that the server can tell a repetition from a new answer.

import { Refused, sleep } from "./api.js";
import { $ } from "./element.js";

const LONGEST = 30; // seconds

export class Notice {
  constructor(box) {
    this.box = box;
    this.wakeup = new EventTarget();
    $("button", box).addEventListener("click", () => this.wakeup.dispatchEvent(new Event("wake")));
    window.addEventListener("online", () => this.wakeup.dispatchEvent(new Event("wake")));
  }

  show(text, { retry = false, kind = "warning" } = {}) {
    clearTimeout(this.timer);
    $("p", this.box).textContent = text;
    $("button", this.box).hidden = !retry;
    this.box.dataset.kind = kind;
    this.box.hidden = false;
  }

  // for a few seconds
  say(text, kind = "info") {
    this.show(text, { kind });
    this.timer = setTimeout(() => this.hide(), 6000);
  }

  hide() {
    clearTimeout(this.timer);
    this.box.hidden = true;
  }

  // kept: what the person would otherwise fear for, as a sentence.
  async insist(ask, kept = "") {
    for (let attempt = 0, troubled = false; ; attempt += 1) {
      try {
        const answer = await ask();
        if (troubled) this.hide();
        return answer;
      } catch (error) {
        if (!(error instanceof Refused) || !error.passing) {
          if (troubled) this.hide();
          throw error;
        }
        troubled = true;
        const seconds = error.retryAfter ?? Math.min(LONGEST, 2 ** attempt);
        const trouble =
          error.status === 0
            ? "No connection to the server."
            : error.status === 429
              ? "The server is busy."
              : "The server has a problem.";
        this.show(`${trouble} ${kept} Trying again in ${Math.ceil(seconds)} s.`.replace("  ", " "), { retry: true });
        await sleep(seconds * 1000, this.wakeup);
      }
    }
  }
}
