// Slates and what each rater said, newest first. Items carry the letters of this list, not those that raters saw: everybody
// sees a slate in an order of their own.

import { owner } from "./api.js";
import { element, letter } from "./element.js";
import { media } from "./media.js";
import { when } from "./words.js";

export class History {
  constructor(box, more, study) {
    Object.assign(this, { box, more, study, slates: new Map(), nodes: new Map(), after: undefined });
    more.addEventListener("click", () => this.older());
  }

  // The newest page again; older pages stay.
  async refresh() {
    const page = await owner.history(this.study);
    if (this.after === undefined) this.after = page.after;
    this.take(page.slates);
  }

  async older() {
    this.more.disabled = true;
    try {
      const page = await owner.history(this.study, this.after);
      this.after = page.after;
      this.take(page.slates);
    } finally {
      this.more.disabled = false;
    }
  }

  take(slates) {
    for (const slate of slates) {
      const text = JSON.stringify(slate);
      if (this.nodes.get(slate.query)?.text === text) continue;
      this.slates.set(slate.query, slate);
      this.nodes.set(slate.query, { text, node: row(slate) });
    }
    const order = [...this.nodes.keys()].sort((a, b) => b - a);
    this.box.replaceChildren(
      ...(order.length
        ? order.map((query) => this.nodes.get(query).node)
        : [element("p", { class: "muted" }, "No slate has been asked for yet.")]),
    );
    this.more.hidden = this.after === null || this.after === undefined;
  }

  // answers that stand, of the slates that are listed
  answers() {
    return [...this.slates.values()].flatMap((slate) => slate.answers).filter((answer) => !answer.withdrawn);
  }
}

function row(slate) {
  const names = new Map(slate.items.map((item, index) => [item.id, letter(index)]));
  const status = slate.cancelled ? "cancelled" : slate.closed ? "closed" : "open";
  const counted = slate.answers.filter((answer) => !answer.withdrawn && !answer.repeat).length;
  return element(
    "article",
    { class: `slate ${status}` },
    element(
      "h3",
      {},
      `Slate ${slate.query}`,
      element(
        "span",
        { class: "muted" },
        [
          slate.phase,
          `${counted} of ${slate.quorum} ${slate.quorum === 1 ? "answer" : "answers"}`,
          status,
          `asked ${when(slate.asked)}`,
        ]
          .filter(Boolean)
          .join(" · "),
      ),
    ),
    element(
      "ol",
      { class: `items ${slate.items[0].kind}` },
      slate.items.map((item) =>
        element(
          "li",
          { title: `trial ${item.number}: ${item.alt}` },
          media(item, { quiet: item.kind !== "audio", lazy: true }),
          element("span", {}, element("b", {}, names.get(item.id)), ` ${item.number}`),
        ),
      ),
    ),
    slate.answers.length
      ? element(
          "ul",
          { class: "answers" },
          slate.answers.map((answer) => said(answer, names, slate.closed)),
        )
      : null,
  );
}

function said(answer, names, closed) {
  const notes = [
    answer.repeat && "second look",
    answer.withdrawn && "taken back",
    !answer.applied &&
      !answer.withdrawn &&
      !answer.repeat &&
      (closed ? "late: recorded, not applied" : "waits for the others"),
    answer.elapsed_ms !== null && `${Math.max(1, Math.round(answer.elapsed_ms / 1000))} s`,
    when(answer.recorded),
  ];
  const order = answer.verdict
    ? [element("em", {}, answer.verdict)]
    : answer.groups.flatMap((group, index) => [
        index ? element("span", { class: "then", title: "better than" }, "›") : null,
        element(
          "span",
          { class: `tie${group.length > 1 ? " several" : ""}` },
          group.map((item) => element("b", {}, names.get(item))),
        ),
      ]);
  if (answer.unseen.length && !answer.verdict)
    order.push(
      element("span", { class: "muted" }, `not looked at: ${answer.unseen.map((item) => names.get(item)).join(" ")}`),
    );
  return element(
    "li",
    { class: answer.withdrawn ? "withdrawn" : "" },
    element("span", { class: "who" }, answer.rater || "–"),
    element("span", { class: "order" }, order),
    element("span", { class: "muted" }, notes.filter(Boolean).join(" · ")),
  );
}
