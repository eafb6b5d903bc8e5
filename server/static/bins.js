// The order so far, at the foot of the window: Best (in order, ties joined), Fine, Worst, and what was not looked at.
// Every thumbnail can be dragged, and clicked to bring its card into view.

import { placeOf } from "./answer.js";
import { element } from "./element.js";
import { thumbnail } from "./media.js";

const HINTS = { best: "Click from best to worst, or drag here", fine: "what is left", worst: "drag here", unseen: "" };

export function bins(dock, items, names, state, find) {
  const thumb = (id) => {
    const item = items.find((one) => one.id === id);
    const label = `${names.get(id)}: ${item.alt}`;
    return element(
      "button",
      {
        class: "thumb",
        type: "button",
        "data-item": id,
        "aria-label": label,
        title: label,
        tabindex: "-1",
        onclick: () => find(id),
      },
      thumbnail(item, names.get(id)),
    );
  };
  dock.classList.toggle("many", items.length > 6);
  const fill = (bin, content) => {
    const box = dock.querySelector(`[data-bin=${bin}] .thumbs`);
    box.previousElementSibling.dataset.count = content.length; // all that a narrow window has room for
    box.replaceChildren(...(content.length ? content : [element("span", { class: "hint" }, HINTS[bin])]));
  };
  fill(
    "best",
    state.best.map((group, index) =>
      element(
        "span",
        { class: `group${group.length > 1 ? " tied" : ""}`, "data-index": index },
        element("i", {}, String(index + 1)),
        ...group.map(thumb),
      ),
    ),
  );
  const within = (bin) => items.map((item) => item.id).filter((id) => placeOf(state, id).bin === bin);
  fill("fine", within("fine").map(thumb));
  fill("worst", state.worst.map(thumb));
  const unseen = within("unseen");
  fill("unseen", unseen.map(thumb));
  const last = dock.querySelector("[data-bin=unseen]");
  last.classList.toggle("none", unseen.length === 0);
  last.querySelector("h3").textContent = items[0].kind === "audio" ? "Not played" : "Not looked at";
}

// Where something let go at (x, y) would land: { bin, index } or { bin: "best", join: item }, or null.
export function target(dock, x, y, moving) {
  const under = document.elementFromPoint(x, y);
  const bin = under?.closest?.("[data-bin]");
  if (!bin || !dock.contains(bin)) return null;
  if (bin.dataset.bin !== "best") return { bin: bin.dataset.bin, element: bin };
  const groups = [...bin.querySelectorAll(".group")];
  for (const thumb of bin.querySelectorAll(".thumb")) {
    const box = thumb.getBoundingClientRect();
    const inside =
      x >= box.left + box.width * 0.25 && x <= box.right - box.width * 0.25 && y >= box.top && y <= box.bottom;
    if (inside && thumb.dataset.item !== moving) return { bin: "best", join: thumb.dataset.item, element: thumb };
  }
  const before = groups.filter((group) => {
    const box = group.getBoundingClientRect();
    return y > box.bottom || (y >= box.top && x > box.left + box.width / 2);
  });
  return {
    bin: "best",
    index: before.length,
    element: groups[before.length] ?? groups.at(-1) ?? bin,
    after: before.length >= groups.length && groups.length > 0,
  };
}

// Marks where it would land; null: nowhere.
export function showTarget(dock, at) {
  for (const marked of dock.querySelectorAll(".over, .joins, .before, .after"))
    marked.classList.remove("over", "joins", "before", "after");
  if (!at) return;
  at.element.closest("[data-bin]").classList.add("over");
  if (at.join) at.element.classList.add("joins");
  else if (at.element.classList.contains("group")) at.element.classList.add(at.after ? "after" : "before");
}
