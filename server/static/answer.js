// What a rater has said about a slate so far, as plain data, and every step as a function from one state to the next.
//
// state = { best: [[item, ...], ...], worst: [item, ...], out: [item, ...], seen: [item, ...], last: item | null }
// best: ordered groups, best first; a group of several is a tie. worst: one group below everything. out: "not looked
// at" by the rater's own word. What is in none of them is "fine" (one group between best and worst) once it was seen on
// the screen, and "not looked at" before. last: the item that was placed most recently.

export const empty = () => ({ best: [], worst: [], out: [], seen: [], last: null });

const without = (state, item) => ({
  ...state,
  best: state.best.map((group) => group.filter((other) => other !== item)).filter((group) => group.length),
  worst: state.worst.filter((other) => other !== item),
  out: state.out.filter((other) => other !== item),
});

const see = (state, item) => (state.seen.includes(item) ? state : { ...state, seen: [...state.seen, item] });
export { see };

// Where an item stands: { bin: "best" | "fine" | "worst" | "unseen", rank, tied }; rank from 1, only for best.
export function placeOf(state, item) {
  const index = state.best.findIndex((group) => group.includes(item));
  if (index >= 0) return { bin: "best", rank: index + 1, tied: state.best[index].length > 1 };
  if (state.worst.includes(item)) return { bin: "worst" };
  return { bin: !state.out.includes(item) && state.seen.includes(item) ? "fine" : "unseen" };
}

// A rank of its own at `index` (0: first) of the groups as they are now; what stood there and below moves down.
export function insert(state, item, index) {
  const alone = state.best.findIndex((group) => group.length === 1 && group[0] === item);
  const cleared = see(without(state, item), item);
  const at = Math.min(alone >= 0 && alone < index ? index - 1 : index, cleared.best.length);
  return { ...cleared, best: [...cleared.best.slice(0, at), [item], ...cleared.best.slice(at)], last: item };
}

export const append = (state, item) => insert(state, item, state.best.length);

// A digit: that rank (1: best), or the next free one where the digit is larger.
export function rank(state, item, number) {
  const cleared = without(state, item);
  return insert(cleared, item, Math.min(number - 1, cleared.best.length));
}

// Tied with another item, wherever that stands.
export function join(state, item, other) {
  if (item === other) return state;
  const cleared = see(without(state, item), item);
  if (cleared.worst.includes(other)) return { ...cleared, worst: [...cleared.worst, item], last: item };
  if (!cleared.best.some((group) => group.includes(other))) return { ...cleared, last: item };
  return {
    ...cleared,
    best: cleared.best.map((group) => (group.includes(other) ? [...group, item] : group)),
    last: item,
  };
}

// The key "=": ties an item with the one placed before it; for one that stands in the order already, with the rank above.
export function equal(state, item) {
  const { bin, rank: place } = placeOf(state, item);
  if (bin === "best") return place > 1 ? join(state, item, state.best[place - 2][0]) : state;
  const ranked = (other) =>
    other !== null && other !== item && (placeOf(state, other).bin === "best" || placeOf(state, other).bin === "worst");
  if (ranked(state.last)) return join(state, item, state.last);
  return state.best.length ? join(state, item, state.best.at(-1)[0]) : append(state, item);
}

export const toWorst = (state, item) => {
  const cleared = see(without(state, item), item);
  return { ...cleared, worst: [...cleared.worst, item], last: item };
};

export const toFine = (state, item) => see(without(state, item), item);

export const toUnseen = (state, item) => {
  const cleared = without(state, item);
  return { ...cleared, out: [...cleared.out, item] };
};

// Something was placed, so there is an answer to send.
export const ready = (state) => state.best.length + state.worst.length > 0;

// The answer as the server takes it: groups best first, and what was not looked at.
export function groupsOf(state, items) {
  const fine = items.filter((item) => placeOf(state, item).bin === "fine");
  const groups = [...state.best, fine, state.worst].filter((group) => group.length);
  return { groups, unseen: items.filter((item) => placeOf(state, item).bin === "unseen") };
}

// The state that gives such groups: where several readings do, a large group is "fine" and one group below it "worst".
export function fromGroups(groups, items) {
  const known = groups.map((group) => group.filter((item) => items.includes(item))).filter((group) => group.length);
  const shown = known.flat();
  const large = known.findIndex((group, index) => group.length > 1 && index >= Math.max(1, known.length - 2));
  const tail = large >= 0 ? large : known.length;
  return {
    best: known.slice(0, tail),
    worst: known.slice(tail + 1).flat(),
    out: items.filter((item) => !shown.includes(item)),
    seen: shown,
    last: null,
  };
}

// What a screen reader says after a step, and what stands on the card.
export function words(place, total = 0, unseen = "not looked at") {
  if (place.bin === "best") return `${place.tied ? "tied for " : ""}place ${place.rank}${total ? ` of ${total}` : ""}`;
  return { fine: "fine, in between", worst: "worst", unseen }[place.bin];
}
