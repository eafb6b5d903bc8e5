// What must survive a reload, in the browser's local storage: the draft of a slate, and an answer on its way until its
// receipt is here. Keys carry the study; old slates are forgotten. Where storage is refused (private windows), drafts
// live as long as the page.

const KEPT = 12;

function storage() {
  try {
    localStorage.setItem("bbopt", "1");
    return localStorage;
  } catch {
    const held = new Map();
    return {
      getItem: (key) => held.get(key) ?? null,
      setItem: (key, value) => held.set(key, value),
      removeItem: (key) => held.delete(key),
    };
  }
}

export class Drafts {
  constructor(study, who) {
    this.key = `bbopt:${who}:${study}`;
    this.storage = storage();
  }

  read() {
    try {
      return JSON.parse(this.storage.getItem(this.key)) ?? {};
    } catch {
      return {};
    }
  }

  write(change) {
    const all = { ...this.read(), ...change };
    try {
      this.storage.setItem(this.key, JSON.stringify(all));
    } catch {
      // full: the answer is still on the page
    }
  }

  get(slate) {
    return this.read().slates?.[slate] ?? null;
  }

  // value: { state, elapsed }
  put(slate, value) {
    const slates = Object.entries(this.read().slates ?? {}).filter(([key]) => key !== slate);
    this.write({ slates: Object.fromEntries([...slates, [slate, value]].slice(-KEPT)) });
  }

  // An answer on its way: { slate, body }, or null.
  get pending() {
    return this.read().pending ?? null;
  }

  set pending(value) {
    this.write({ pending: value });
  }

  get started() {
    return this.read().started === true;
  }

  set started(value) {
    this.write({ started: value });
  }
}
