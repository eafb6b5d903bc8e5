// How far the study is, and the best so far, which stays folded until somebody wants it: it may hint at the one among
// the items that is the current best.

import { rater } from "./api.js";
import { $, element } from "./element.js";
import { media, strip } from "./media.js";

const percent = (share) => `${Math.round(100 * share)} %`;

export function showProgress(box, progress) {
  if (!progress) return;
  const { answers, goal, round, tie_rate: ties } = progress;
  const part = (name, ...words) => element("span", { class: name }, words);
  const parts = [
    part(
      "answers",
      element("b", {}, goal ? `${answers} of ${goal}` : String(answers)),
      answers === 1 && !goal ? " answer" : " answers",
    ),
  ];
  if (typeof round === "number") parts.unshift(part("rounds", "round ", element("b", {}, String(round))));
  if (typeof ties === "number") parts.push(part("ties", "ties ", element("b", {}, percent(ties))));
  box.replaceChildren(...parts);
  if (goal)
    box.append(
      element("progress", { max: goal, value: Math.min(answers, goal), "aria-label": `${answers} of ${goal} answers` }),
    );
}

export async function showBest(box, study) {
  let found;
  try {
    found = await rater.best(study);
  } catch {
    return; // it is only a look back
  }
  const shown = $(".shown", box);
  if (!found.best?.item) {
    shown.replaceChildren(element("p", { class: "muted" }, "Nothing yet: it shows after the first answers."));
    return;
  }
  const earlier = found.earlier ?? [];
  shown.replaceChildren(
    element("figure", { class: "now" }, media(found.best.item, { lazy: true }), element("figcaption", {}, "now")),
    earlier.length
      ? element("div", { class: "earlier" }, element("p", { class: "muted" }, "before, newest first"), strip(earlier))
      : "",
  );
}
