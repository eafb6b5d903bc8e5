// Who ranks how: answers, ties, circular triads, second looks, what an answer tells and how long it takes; and how far each
// two raters agree on the slates that both ranked.

import { owner } from "./api.js";
import { element } from "./element.js";
import { eff } from "./info.js";
import { number, percent } from "./words.js";

const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);

function table(head, rows) {
  return element(
    "div",
    { class: "scroll" },
    element(
      "table",
      {},
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          head.map(([text, title], index) => element("th", { scope: "col", title, class: index ? "" : "text" }, text)),
        ),
      ),
      element(
        "tbody",
        {},
        rows.map((cells) =>
          element(
            "tr",
            {},
            cells.map((cell, index) =>
              index ? element("td", {}, cell) : element("th", { scope: "row", class: "text" }, cell),
            ),
          ),
        ),
      ),
    ),
  );
}

export async function showAgreement(box, study, history) {
  const { pairs, w, raters } = await owner.agreement(study);
  if (!raters.length) {
    box.replaceChildren(element("p", { class: "muted" }, "Nobody has answered yet."));
    return;
  }
  const listed = history.answers();
  const rows = raters.map((rater) => {
    const answers = listed.filter((answer) => answer.rater === rater.rater);
    const worth = mean(answers.map((answer) => (answer.verdict ? 0 : eff(answer.groups.map((group) => group.length)))));
    const seconds = mean(
      answers.filter((answer) => answer.elapsed_ms !== null).map((answer) => answer.elapsed_ms / 1000),
    );
    const again = rater.repeats
      ? `${rater.repeats.tau === null ? "–" : number(rater.repeats.tau)} (${rater.repeats.slates})`
      : "–";
    return [
      rater.rater || "–",
      String(rater.answers),
      percent(rater.tie_rate),
      `${rater.circular_triads ?? "–"} (${rater.zeta === null ? "–" : number(rater.zeta)})`,
      again,
      number(worth),
      seconds === null ? "–" : `${number(Number(seconds.toPrecision(2)))} s`,
    ];
  });
  const head = [
    ["Rater", ""],
    ["Answers", ""],
    ["Ties", "share of judged pairs that were tied"],
    ["Circles (ζ)", "circular triads, and Kendall's coefficient of consistency: 1 without any"],
    ["Second looks τ", "agreement with the rater's own first look, and on how many slates"],
    ["Worth", "what an answer tells on average, in exact directional derivatives; of the slates listed below"],
    ["Time", "average for an answer; of the slates listed below"],
  ];
  const children = [table(head, rows)];
  if (pairs.length) {
    children.push(
      element("h3", {}, "Kendall's τ on shared slates"),
      table(
        [
          ["Raters", ""],
          ["Slates", ""],
          ["τ", "1: the same order, 0: unrelated, −1: reversed"],
        ],
        pairs.map((pair) => [
          pair.raters.join(" and "),
          String(pair.slates),
          pair.tau === null ? "–" : number(pair.tau),
        ]),
      ),
    );
    if (w !== null)
      children.push(element("p", { class: "muted" }, `Kendall's W over all: ${number(w)} (1: all agree).`));
  }
  box.replaceChildren(...children);
}
