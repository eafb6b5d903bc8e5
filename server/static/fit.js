// How many columns make the cards largest with all of them on the screen; where that would make them too small, the page
// scrolls.

const FOOT = 46; // height of a card below its media, in pixels, with its borders
const GAP = 14;

// width, height: room for the grid; aspect: width of the media over its height; least: smallest useful width of a card.
export function columns(count, width, height, aspect, least) {
  const most = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
  let best = null;
  for (let k = 1; k <= Math.min(most, count); k += 1) {
    const rows = Math.ceil(count / k);
    const wide = (width - GAP * (k - 1)) / k;
    const room = (height - GAP * (rows - 1)) / rows - FOOT;
    const card = Math.min(wide, room * aspect);
    if (card >= least && (best === null || card > best.card)) best = { columns: k, card };
  }
  if (best) return best;
  const k = Math.ceil(count / Math.ceil(count / most)); // as many rows as it takes, evenly filled
  return { columns: k, card: (width - GAP * (k - 1)) / k };
}

const LEAST = { audio: 260, text: 280, html: 280, table: 250 }; // pixels of width

// Sets the columns of the grid for what the window has left above the dock.
export function fit(grid, dock, kind) {
  const picture = grid.querySelector("img");
  const natural = picture?.naturalHeight ? picture.naturalWidth / picture.naturalHeight : 4 / 3;
  const aspect = kind === "audio" ? 3 : natural;
  const least = kind === "image" ? Math.round(165 * Math.sqrt(aspect)) : (LEAST[kind] ?? 240);
  const height = window.innerHeight - grid.getBoundingClientRect().top - window.scrollY - dock.offsetHeight - 16;
  const phone = grid.clientWidth < 560;
  const pairs = phone && kind === "image" && grid.children.length > 1; // a telephone scrolls anyway: two in a row
  const found = columns(grid.children.length, grid.clientWidth, height, aspect, least);
  grid.style.setProperty("--aspect", aspect);
  grid.style.setProperty("--columns", pairs ? 2 : found.columns);
  grid.style.setProperty("--card", phone ? "1fr" : `${Math.floor(Math.max(found.card, least))}px`);
  document.documentElement.style.setProperty("--dock", `${dock.offsetHeight}px`);
}
