// The keys of the rating page. Those that place act on the card that has the focus (or had it last).

export const HELP = [
  ["← → ↑ ↓", "go from one to the next"],
  ["1 … 9", "give it this place; 1 is the best"],
  ["+", "give it the next place"],
  ["=", "tie it with the one placed before"],
  ["0", "worst"],
  ["–", "take its place back: fine"],
  ["X", "not looked at: leave it out"],
  ["Space", "look closer, or play"],
  ["Enter", "send the answer"],
  ["S", "skip"],
  ["U", "take the last sent answer back"],
  ["Ctrl Z", "undo the last step on this page"],
];

const PLACING = {
  "+": "next",
  n: "next",
  "=": "equal",
  0: "worst",
  "-": "fine",
  "–": "fine",
  Backspace: "fine",
  Delete: "fine",
  x: "unseen",
};
const GLOBAL = { s: "skip", u: "undo" };

// grid: the list of cards; actions: { active() -> whether keys work now, rank(item, number), next, equal, worst, fine,
// unseen, look, zoom (each with an item), send, skip, undo, step }.
export function keys(grid, actions) {
  let last = null;
  grid.addEventListener("focusin", (event) => (last = event.target.closest(".card")));

  const current = () => {
    const focused = document.activeElement?.closest?.(".card");
    return focused ?? (last?.isConnected ? last : null);
  };

  function move(key) {
    const all = [...grid.children];
    const from = current();
    if (!from) return all[0];
    const box = from.getBoundingClientRect();
    const index = all.indexOf(from);
    if (key === "ArrowLeft") return all[index - 1];
    if (key === "ArrowRight") return all[index + 1];
    const rows = all.filter((card) => {
      const other = card.getBoundingClientRect();
      return (
        (key === "ArrowUp" ? other.bottom <= box.top + 1 : other.top >= box.bottom - 1) &&
        other.left < box.right &&
        other.right > box.left
      );
    });
    return key === "ArrowUp" ? rows.at(-1) : rows[0];
  }

  document.addEventListener("keydown", (event) => {
    if (!actions.active() || event.target.closest("input, textarea, select, audio, summary, a[href]")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if ((event.ctrlKey || event.metaKey) && key === "z" && !event.altKey) return take(event, () => actions.step());
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const card = current();
    const onButton = event.target.closest("button") && !event.target.closest(".look, .thumb");
    if (key.startsWith("Arrow")) return take(event, () => move(key)?.querySelector(".look").focus());
    if (key === "Enter") return onButton ? undefined : take(event, () => actions.send());
    if (key in GLOBAL) return take(event, () => actions[GLOBAL[key]]());
    if (!card) return;
    const item = card.dataset.item;
    if (key === " ") return onButton ? undefined : take(event, () => actions.look(item));
    if (key === "z") return take(event, () => actions.zoom(item));
    if (key >= "1" && key <= "9") return take(event, () => actions.rank(item, Number(key)));
    if (key in PLACING) take(event, () => actions[PLACING[key]](item));
  });

  // Space also acts when it is let go: without this a button would be clicked after the look
  grid.addEventListener(
    "keyup",
    (event) => event.key === " " && event.target.closest(".look") && event.preventDefault(),
  );

  function take(event, act) {
    event.preventDefault();
    if (!event.repeat || event.key.startsWith("Arrow")) act();
  }
}
