// The current best with its rendering and parameters, and the winners before it.

import { owner } from "./api.js";
import { element } from "./element.js";
import { media, strip } from "./media.js";
import { number } from "./words.js";

function value(of) {
  if (!Array.isArray(of)) return number(of);
  const shown = of.flat(Infinity);
  return shown.length > 6
    ? `${shown.slice(0, 6).map(number).join(", ")} … (${shown.length})`
    : shown.map(number).join(", ");
}

function table(rows) {
  return element(
    "table",
    { class: "params" },
    element(
      "tbody",
      {},
      rows.map(([name, of]) =>
        element("tr", {}, element("th", { scope: "row", class: "text" }, name), element("td", {}, value(of))),
      ),
    ),
  );
}

let shown = null;

export async function showBest(box, study) {
  const { best, earlier } = await owner.best(study);
  if (!best || shown === best.item.id + earlier.length) return;
  shown = best.item.id + earlier.length;
  const params = best.item.kind === "table" ? [] : Object.entries(best.params ?? {}); // a table shows them itself
  const values = Object.entries(best.values ?? {});
  box.replaceChildren(
    element("figure", {}, media(best.item), element("figcaption", { class: "muted" }, `trial ${best.number}`)),
    element(
      "div",
      { class: "facts" },
      table([...values, ...params].slice(0, 40)),
      params.length > 40 ? element("p", { class: "muted" }, `and ${params.length - 40} more, in the export`) : null,
    ),
    earlier.length
      ? element(
          "div",
          { class: "earlier" },
          element("p", { class: "muted" }, "Before it, newest first"),
          strip(earlier),
        )
      : "",
  );
}
