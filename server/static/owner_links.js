// Links of raters: make (shown once), copy, revoke.

import { owner } from "./api.js";
import { $, element } from "./element.js";
import { when } from "./words.js";

export class Links {
  constructor(parts, study) {
    Object.assign(this, parts, { study });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.add($("#name").value.trim(), $("#seconds").value ? Number($("#seconds").value) : null);
    });
  }

  async add(name, seconds, again = false) {
    const button = $("button", this.form);
    button.disabled = true;
    try {
      const { url } = await owner.addLink(this.study, { name, role: "rater", seconds, again });
      this.say(name, url);
      this.form.reset();
      await this.show();
    } catch (error) {
      if (error.kind === "LinkExists") this.offer(name, seconds);
      else this.refused(error);
    }
    button.disabled = false;
  }

  say(name, url) {
    const field = element("input", { readonly: true, value: url, "aria-label": `link for ${name}` });
    const copy = element(
      "button",
      {
        type: "button",
        class: "plain",
        onclick: async () => {
          field.select();
          await navigator.clipboard?.writeText(url).catch(() => {});
          copy.textContent = "Copied";
        },
      },
      "Copy",
    );
    this.made.replaceChildren(element("span", {}, `For ${name}, shown only now:`), field, copy);
    this.made.hidden = false;
    field.select();
  }

  offer(name, seconds) {
    this.made.replaceChildren(
      element("span", {}, `${name} has a link that holds. One more for the same person?`),
      element("button", { type: "button", onclick: () => this.add(name, seconds, true) }, "Make one more"),
    );
    this.made.hidden = false;
  }

  async show() {
    const { links } = await owner.links(this.study);
    if (!links.length) {
      this.box.replaceChildren(element("p", { class: "muted" }, "No links yet."));
      return;
    }
    const head = ["Name", "For", "Made", "Holds until", ""].map((text, index) =>
      element("th", { scope: "col", class: `text ${index === 1 || index === 2 ? "wide" : ""}` }, text),
    );
    const rows = [...links].reverse().map((link) => {
      const until = link.revoked
        ? `revoked ${when(link.revoked)}`
        : link.expires === null
          ? "until revoked"
          : `${link.standing ? "" : "expired "}${when(link.expires)}`;
      return element("tr", { class: link.standing ? "" : "gone" }, [
        element("th", { scope: "row", class: "text" }, link.name),
        ...[link.role, when(link.created), until].map((text, index) =>
          element("td", { class: `text ${index < 2 ? "wide" : ""}` }, text),
        ),
        element("td", {}, link.standing ? this.revoke(link) : ""),
      ]);
    });
    this.box.replaceChildren(
      element("table", {}, element("thead", {}, element("tr", {}, head)), element("tbody", {}, rows)),
    );
  }

  // Two clicks: a link that is gone cannot come back.
  revoke(link) {
    const button = element(
      "button",
      { type: "button", class: "plain danger slim", "aria-label": `Revoke the link of ${link.name}` },
      "Revoke",
    );
    button.addEventListener("click", async () => {
      if (button.textContent === "Revoke") {
        button.textContent = "Revoke now?";
        setTimeout(() => (button.textContent = "Revoke"), 5000);
        return;
      }
      button.disabled = true;
      try {
        await owner.revoke(this.study, link.id);
      } catch (error) {
        this.refused(error);
      }
      await this.show();
    });
    return button;
  }
}
