// The slate as a grid of cards that stay where they are; a card's badge says where its item stands. A click on the media
// places the item next, or takes it back; below it are buttons for a tie, for "worst" and for a closer look.

import { placeOf, words } from "./answer.js";
import { element, letter, sign } from "./element.js";
import { framed, media } from "./media.js";

// actions: { click(item, event), equal(item), worst(item), look(item) }, each given an item's id.
export function cards(items, actions) {
  return items.map((item, position) => {
    const name = letter(position);
    const look = element("button", {
      class: "look",
      type: "button",
      onclick: (event) => actions.click(item.id, event),
    });
    const button = (symbol, label, act) => {
      const clicked = (event) => {
        if (event.detail) look.focus({ preventScroll: true }); // by mouse or finger: Enter then sends, and not this again
        act(item.id);
      };
      return element(
        "button",
        { class: `small ${symbol}`, type: "button", title: label, "aria-label": `${name}: ${label}`, onclick: clicked },
        sign(symbol),
      );
    };
    const foot = element(
      "div",
      { class: "foot" },
      element("b", { class: "letter", "aria-hidden": "true" }, name),
      element("span", { class: "place", "aria-hidden": "true" }),
      button("tie", "tie with the one placed before", actions.equal),
      button("worst", "worst", actions.worst),
      button("zoom", "look closer", actions.look),
    );
    const shown = media(item, { quiet: item.kind !== "audio" });
    const body = element("div", { class: "body" });
    if (item.kind === "audio")
      body.append(look, shown); // controls must stay within reach
    else if (framed(item))
      body.append(shown, look); // the button lies over the frame, which would swallow clicks
    else (body.append(look), look.append(shown));
    look.append(element("span", { class: "badge", "aria-hidden": "true" }));
    return element("li", { class: `card ${item.kind}`, "data-item": item.id, "data-name": name }, body, foot);
  });
}

// Brings the cards up to date with the state.
export function mark(list, items, state) {
  for (const card of list) {
    const place = placeOf(state, card.dataset.item);
    const unseen = card.classList.contains("audio") ? "not played" : "not looked at";
    const item = items.find((one) => one.id === card.dataset.item);
    card.dataset.bin = place.bin;
    card.toggleAttribute("data-tied", Boolean(place.tied));
    card.querySelector(".badge").textContent = place.bin === "best" ? `${place.rank}${place.tied ? "=" : ""}` : "";
    card.querySelector(".place").textContent =
      place.bin === "best" ? (place.tied ? "tied" : "") : words(place, 0, unseen).split(",")[0];
    card
      .querySelector(".look")
      .setAttribute("aria-label", `${card.dataset.name}, ${item.alt}: ${words(place, state.best.length, unseen)}`);
    card.querySelector(".small.worst").setAttribute("aria-pressed", String(place.bin === "worst"));
  }
}

// Calls `seen(id)` when an item has been on the screen for a moment (half of it, or half a screen of it; a sound: played).
// `bottom`: pixels at the bottom of the window that something else covers. Returns a function that stops watching.
export function watch(list, bottom, seen) {
  const waiting = new Map();
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, intersectionRatio, intersectionRect, rootBounds } of entries) {
        const enough = intersectionRatio >= 0.5 || intersectionRect.height >= 0.5 * (rootBounds?.height ?? Infinity);
        if (!enough) (clearTimeout(waiting.get(target)), waiting.delete(target));
        else if (!waiting.has(target))
          waiting.set(
            target,
            setTimeout(() => finish(target), 300),
          );
      }
    },
    { threshold: [0, 0.25, 0.5, 0.75], rootMargin: `0px 0px -${Math.round(bottom)}px 0px` },
  );
  const heard = (event) =>
    event.target.currentTime >= Math.min(0.5, event.target.duration / 2) &&
    seen(event.target.closest(".card").dataset.item);
  function finish(body) {
    observer.unobserve(body);
    seen(body.closest(".card").dataset.item);
  }
  for (const card of list) {
    const audio = card.querySelector("audio");
    if (audio) for (const kind of ["timeupdate", "ended"]) audio.addEventListener(kind, heard);
    else observer.observe(card.querySelector(".body"));
  }
  return () => {
    observer.disconnect();
    for (const timer of waiting.values()) clearTimeout(timer);
  };
}
