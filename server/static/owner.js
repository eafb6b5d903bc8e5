// The owner's page of one study: what changes is fetched every few seconds while somebody looks.

import { owner, sleep } from "./api.js";
import { $, element } from "./element.js";
import { Notice } from "./insist.js";
import { showAgreement } from "./owner_agreement.js";
import { showBest } from "./owner_best.js";
import { History } from "./owner_history.js";
import { Links } from "./owner_links.js";
import { percent } from "./words.js";

const EVERY = 3000; // milliseconds

const study = document.body.dataset.study;
const notice = new Notice($("#notice"));
const refused = (error) => notice.show(error.message);
const history = new History($("#history"), $("#more"), study);
const links = new Links({ form: $("#add"), made: $("#made"), box: $("#links"), refused }, study);
let paused = false;

function numbers(facts) {
  const { progress, statuses } = facts;
  const rows = [
    ["answers", String(progress.answers_all)],
    ["round", String(progress.round)],
    ["raters", String(progress.raters)],
    ["slates open", String(progress.open_slates)],
    ["ties", percent(progress.tie_rate)],
    ["trials", facts.budget ? `${facts.trials} of ${facts.budget}` : String(facts.trials)],
  ];
  if (facts.feedback === "ranking" && progress.goal) rows.splice(1, 0, ["asked of each", String(progress.goal)]);
  if (facts.feedback !== "ranking")
    rows.splice(
      0,
      5,
      ...["ok", "open", "lost", "impossible"]
        .filter((status) => statuses[status])
        .map((status) => [status, String(statuses[status])]),
    );
  $("#numbers").replaceChildren(
    ...rows.map(([word, value]) => element("div", {}, element("dt", {}, word), element("dd", {}, value))),
  );
}

function about(facts) {
  const objectives = facts.task.objectives.map((objective) => objective.name).join(", ");
  const quorum = facts.quorum > 1 ? ` Each slate takes ${facts.quorum} raters.` : "";
  const how = facts.feedback === "ranking" ? "Ranked by people" : "Told values";
  const reason = facts.reason ? ` (${facts.reason})` : "";
  $("#about").textContent = `${how}: ${objectives}. Strategy ${facts.strategy}${reason}.${quorum}`;
  document.body.classList.toggle("values", facts.feedback !== "ranking");
}

function state(facts) {
  paused = facts.paused;
  $("#state").textContent = paused ? "paused" : "running";
  $("#state").classList.toggle("paused", paused);
  $("#pause").textContent = paused ? "Go on" : "Pause";
  $("#pause").hidden = false;
}

$("#pause").addEventListener("click", async () => {
  $("#pause").disabled = true;
  try {
    await owner.pause(study, !paused);
    state({ paused: !paused });
  } catch (error) {
    refused(error);
  }
  $("#pause").disabled = false;
});
$("#csv").href = owner.exportAt(study, "csv");
$("#json").href = owner.exportAt(study, "json");

let seen = "";
for (let first = true; ; first = false) {
  try {
    const facts = await notice.insist(() => owner.study(study));
    numbers(facts);
    state(facts);
    if (first) {
      about(facts);
      if (facts.feedback === "ranking") links.show();
    }
    const now = JSON.stringify([facts.progress, facts.trials, facts.statuses]);
    if (now !== seen) {
      await showBest($("#best"), study);
      if (facts.feedback === "ranking") {
        await history.refresh();
        await showAgreement($("#agreement"), study, history);
      }
      seen = now;
    }
  } catch (error) {
    refused(error);
    if ([401, 403, 404].includes(error.status)) break;
  }
  await sleep(EVERY * (document.hidden ? 10 : 1));
}
