// Items as elements: pictures (SVG too) as <img>, sounds as <audio>, everything else in a sandboxed frame, which runs no
// scripts and reaches nothing of this page.

import { element } from "./element.js";

const NOUNS = {
  image: ["picture", "pictures"],
  audio: ["sound", "sounds"],
  text: ["text", "texts"],
  html: ["page", "pages"],
  table: ["design", "designs"],
};

// ["picture", "pictures"] for a slate of pictures; "item" where kinds are mixed.
export function nouns(items) {
  const kinds = new Set(items.map((item) => item.kind));
  return (kinds.size === 1 && NOUNS[[...kinds][0]]) || ["item", "items"];
}

// What is said about `count` items that were not looked at.
export function unseenWords(items, count) {
  const [one, many] = nouns(items);
  const how = items[0].kind === "audio" ? "not played" : "not looked at";
  return count === 1
    ? `1 ${one} ${how} yet: sent as such, it counts neither for nor against.`
    : `${count} ${many} ${how} yet: sent as such, they count neither for nor against.`;
}

export const framed = (item) => item.kind !== "image" && item.kind !== "audio";

// The item at its full size; `quiet`: for a place where it cannot be used by itself (no tab stop, no controls).
export function media(item, { quiet = false, lazy = false } = {}) {
  if (item.kind === "image")
    return element("img", {
      src: item.url,
      alt: item.alt,
      draggable: "false",
      decoding: "async",
      loading: lazy ? "lazy" : null,
    });
  if (item.kind === "audio")
    return element("audio", { src: item.url, controls: !quiet, preload: "metadata", "aria-label": item.alt });
  return element("iframe", {
    src: item.url,
    sandbox: "",
    title: item.alt,
    tabindex: quiet ? "-1" : null,
    loading: lazy ? "lazy" : null,
  });
}

// Earlier winners in a row.
export const strip = (items) =>
  element(
    "div",
    { class: `strip ${items[0].kind}` },
    items.map((item) => media(item, { quiet: item.kind !== "audio", lazy: true })),
  );

// A small picture of the item for lists: the picture itself, or its letter.
export function thumbnail(item, name) {
  const small = element("span", { class: `thumbnail ${item.kind}` });
  if (item.kind === "image") small.append(element("img", { src: item.url, alt: "", draggable: "false" }));
  if (name) small.append(element("b", {}, name));
  return small;
}

// Resolves when every picture of the slate can be painted, at the latest after `limit` milliseconds.
export function ready(container, limit = 5000) {
  const painted = [...container.querySelectorAll("img")].map((image) => image.decode().catch(() => {}));
  return Promise.race([Promise.all(painted), new Promise((resolve) => setTimeout(resolve, limit))]);
}
