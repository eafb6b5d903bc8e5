// A closer look: one item as large as the window allows, or several side by side. The row of letters says which.

import { placeOf, words } from "./answer.js";
import { $, element } from "./element.js";
import { framed, media } from "./media.js";

export class Zoom {
  // dialog: a <dialog> with .panes and .letters; changed(): after an item was placed from here
  constructor(dialog, { place, state, seen }) {
    this.dialog = dialog;
    Object.assign(this, { place, state, seen, items: [], names: new Map(), shown: [] });
    $(".close", dialog).addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => {
      $(".panes", dialog).replaceChildren(); // sounds stop
      this.origin?.focus();
    });
    dialog.addEventListener("keydown", (event) => this.key(event));
  }

  get open() {
    return this.dialog.open;
  }

  set(items, names) {
    Object.assign(this, { items, names });
  }

  show(ids) {
    // where the focus goes back to; on a card to its face, where Enter sends
    this.origin = document.activeElement?.closest(".card")?.querySelector(".look") ?? document.activeElement;
    this.shown = ids;
    this.draw();
    if (!this.dialog.open) this.dialog.showModal();
    $(".letters [aria-pressed=true]", this.dialog)?.focus();
  }

  draw() {
    const { shown, names, dialog } = this;
    const chosen = this.items
      .filter((item) => shown.includes(item.id))
      .sort((a, b) => shown.indexOf(a.id) - shown.indexOf(b.id));
    const panes = $(".panes", dialog);
    const old = new Map([...panes.children].map((pane) => [pane.dataset.item, pane]));
    panes.replaceChildren(...chosen.map((item) => old.get(item.id) ?? this.pane(item))); // a sound that plays goes on
    panes.dataset.count = chosen.length;
    for (const item of chosen) this.seen(item.id);
    $(".letters", dialog).replaceChildren(
      ...this.items.map((item) => {
        const name = names.get(item.id);
        const pressed = shown.includes(item.id);
        return element(
          "button",
          {
            type: "button",
            class: "chip",
            "aria-pressed": String(pressed),
            "aria-label": `show ${name}`,
            "data-item": item.id,
            onclick: () => this.toggle(item.id),
          },
          name,
        );
      }),
    );
    this.mark();
  }

  pane(item) {
    const name = this.names.get(item.id);
    const act = (bin) => () => {
      this.place(bin, item.id);
      this.mark();
    };
    return element(
      "figure",
      { class: `pane ${item.kind}${framed(item) ? " framed" : ""}`, "data-item": item.id },
      media(item),
      element(
        "figcaption",
        {},
        element("b", { class: "letter" }, name),
        element("span", { class: "place" }),
        element("button", { type: "button", class: "plain", onclick: act("next") }, "Next place"),
        element("button", { type: "button", class: "plain", onclick: act("equal") }, "Tie"),
        element("button", { type: "button", class: "plain", onclick: act("worst") }, "Worst"),
      ),
    );
  }

  mark() {
    for (const pane of this.dialog.querySelectorAll(".pane")) {
      const place = placeOf(this.state(), pane.dataset.item);
      pane.dataset.bin = place.bin;
      $(".place", pane).textContent = words(place).split(",")[0];
    }
  }

  toggle(id) {
    const shown = this.shown.includes(id) ? this.shown.filter((other) => other !== id) : [...this.shown, id];
    if (!shown.length) return;
    this.shown = shown;
    this.draw();
    $(`.letters [data-item="${CSS.escape(id)}"]`, this.dialog).focus();
  }

  // arrows: the last one shown gives way to its neighbour
  key(event) {
    if (event.target.closest("audio")) return;
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      const ids = this.items.map((item) => item.id);
      const free = ids.filter((id) => !this.shown.slice(0, -1).includes(id));
      const next = free[(free.indexOf(this.shown.at(-1)) + step + free.length) % free.length];
      this.shown = [...this.shown.slice(0, -1), next];
      this.draw();
      $(`.letters [data-item="${CSS.escape(next)}"]`, this.dialog).focus();
    } else if (event.key === "z" || (event.key === " " && event.target.closest(".chip"))) {
      event.preventDefault();
      this.dialog.close();
    } else if ((event.key >= "1" && event.key <= "9") || event.key === "0" || event.key === "=" || event.key === "+") {
      event.preventDefault();
      this.place({ 0: "worst", "=": "equal", "+": "next" }[event.key] ?? Number(event.key), this.shown.at(-1));
      this.mark();
    }
  }
}
