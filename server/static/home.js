// The owner's list of studies.

import { owner, session } from "./api.js";
import { $, element } from "./element.js";
import { Notice } from "./insist.js";

const notice = new Notice($("#notice"));

$("#leave").addEventListener("click", async () => {
  await notice.insist(() => session.end("owner")).catch(() => {});
  location.replace("/");
});

function table(studies) {
  const head = ["Study", "Answers are", "Strategy", "Answers", "Trials", ""].map((text, index) =>
    element(
      "th",
      { scope: "col", class: `${index > 2 && index < 5 ? "" : "text"} ${index === 1 || index === 2 ? "wide" : ""}` },
      text,
    ),
  );
  const rows = studies.map((study) =>
    element(
      "tr",
      {},
      element(
        "th",
        { scope: "row", class: "text" },
        element("a", { href: `/studies/${encodeURIComponent(study.name)}` }, study.name),
      ),
      element("td", { class: "text wide" }, study.feedback === "ranking" ? "rankings" : "values"),
      element("td", { class: "text wide" }, study.strategy),
      element("td", {}, String(study.answers)),
      element("td", {}, String(study.trials)),
      element("td", { class: "text" }, study.paused ? element("span", { class: "state paused" }, "paused") : ""),
    ),
  );
  return element(
    "div",
    { class: "scroll" },
    element("table", {}, element("thead", {}, element("tr", {}, head)), element("tbody", {}, rows)),
  );
}

try {
  const { studies } = await notice.insist(() => owner.studies());
  $("#studies").replaceChildren(
    studies.length
      ? table(studies)
      : element(
          "p",
          {},
          "There is no study in this store yet. Make one with ",
          element("code", {}, "bbopt create"),
          ", or by the interface (",
          element("a", { href: "/openapi.json" }, "POST /v1/studies"),
          ").",
        ),
  );
} catch (error) {
  notice.show(error.message);
}
