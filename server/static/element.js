// DOM elements from plain data. Text always becomes a text node, so nothing that a server or a person wrote is ever markup.

// element("p", { class: "muted", onclick: f, hidden: true }, "text", child): a key that begins with "on" is a listener,
// true makes an attribute without a value, null and false leave it out.
export function element(tag, attributes = {}, ...children) {
  const made =
    tag === "svg" || tag === "use"
      ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

// A sign from /static/signs.svg; hidden from screen readers, so the button around it needs a label.
export function sign(name) {
  return element(
    "svg",
    { class: "sign", "aria-hidden": "true" },
    element("use", { href: `/static/signs.svg#${name}` }),
  );
}

export const $ = (selector, within = document) => within.querySelector(selector);

export const letter = (position) =>
  position < 26
    ? String.fromCharCode(65 + position)
    : `${letter(Math.floor(position / 26) - 1)}${letter(position % 26)}`;
