// The rating page: fetches slates, keeps the draft, sends answers, and wires cards, bins, dragging, keys and zoom together.

import * as answer from "./answer.js";
import { rater, session, sleep } from "./api.js";
import { bins, showTarget, target } from "./bins.js";
import { cards, mark, watch } from "./cards.js";
import { Clock } from "./clock.js";
import { Drafts } from "./draft.js";
import { draggable } from "./drag.js";
import { $, element, letter } from "./element.js";
import { fit } from "./fit.js";
import { Notice } from "./insist.js";
import { HELP, keys } from "./keys.js";
import { nouns, ready, thumbnail, unseenWords } from "./media.js";
import { showBest, showProgress } from "./progress.js";
import { Zoom } from "./zoom.js";

const study = document.body.dataset.study;
const [grid, dock, best] = [$("#cards"), $("#dock"), $("#best")];
const notice = new Notice($("#notice"));
const clock = new Clock();
let drafts = null;
let slate = null; // the one on the page
let names = new Map(); // item id -> letter
let state = answer.empty();
let steps = []; // states before, for Ctrl Z
let busy = true; // a request decides what comes next: nothing can be placed or sent
let tying = false;
let unwatch = () => {};
let turn = 0; // grows with every slate shown, so that what waited for an older one stops

const REFUSED = {
  Conflict: "This slate was answered in another window; that answer stands.",
  Depends: "Too late to change this one: the search has gone on from it.",
  SlateGone: "This slate is gone, because an earlier answer was taken back.",
  UnknownSlate: "The server no longer has this slate.",
  NothingToUndo: "There is no answer of yours to take back.",
};

// ---- what is on the page

function view(name) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== name;
  dock.hidden = name !== "slate";
  best.hidden = name === "start" || name === "lost";
  document.body.dataset.view = name;
}

function draw() {
  mark([...grid.children], slate.items, state);
  bins(dock, slate.items, names, state, find);
  const unseen = slate.items.filter((item) => answer.placeOf(state, item.id).bin === "unseen").length;
  $("#unseen").textContent = unseen ? unseenWords(slate.items, unseen) : "";
  $("#send").disabled = busy || !answer.ready(state);
  for (const button of document.querySelectorAll("#verdicts button, #undo")) button.disabled = busy;
  $("#tie").setAttribute("aria-pressed", String(tying));
  fit(grid, dock, slate.items[0].kind);
}

function find(item) {
  const card = [...grid.children].find((one) => one.dataset.item === item);
  card?.querySelector(".look").focus({ preventScroll: true });
  card?.scrollIntoView({
    block: "nearest",
    behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth",
  });
}

const announce = (text) => ($("#live").textContent = text);

// ---- placing

function change(next, item = null) {
  if (busy || next === state || (item && !names.has(item))) return; // one may still be dragged when its slate is gone
  steps.push(state);
  set(next);
  if (item) announce(`${names.get(item)}: ${answer.words(answer.placeOf(state, item), state.best.length)}`);
}

function set(next) {
  state = next;
  keep();
  draw();
}

const keep = () => slate && drafts.put(slate.id, { state, elapsed: clock.elapsed });

const seen = (item) => slate && answer.see(state, item) !== state && set(answer.see(state, item));

const place = {
  next: (item) => change(answer.append(state, item), item),
  rank: (item, number) => change(answer.rank(state, item, number), item),
  equal: (item) => change(answer.equal(state, item), item),
  worst: (item) =>
    change(
      answer.placeOf(state, item).bin === "worst" ? answer.toFine(state, item) : answer.toWorst(state, item),
      item,
    ),
  fine: (item) => change(answer.toFine(state, item), item),
  unseen: (item) => change(answer.toUnseen(state, item), item),
  click(item, event) {
    const { bin } = answer.placeOf(state, item);
    if (bin === "best" || bin === "worst") place.fine(item);
    else if (tying || event.shiftKey) place.equal(item);
    else place.next(item);
  },
};

const zoom = new Zoom($("#zoom"), {
  state: () => state,
  seen,
  place: (bin, item) => (typeof bin === "number" ? place.rank(item, bin) : place[bin](item)),
});

function look(item) {
  const sound = [...grid.children].find((card) => card.dataset.item === item)?.querySelector("audio");
  if (!sound) return zoom.show([item]);
  for (const other of document.querySelectorAll("audio")) if (other !== sound) other.pause();
  if (sound.paused) sound.play().catch(() => notice.say("The sound cannot be played here."));
  else sound.pause();
}

// ---- slates and answers

async function show(next, own = drafts.get(next.id)) {
  const now = ++turn;
  unwatch();
  slate = { ...next, lease: Date.parse(next.lease_expires) - Date.now() }; // milliseconds
  names = new Map(next.items.map((item, index) => [item.id, letter(index)]));
  state =
    own?.state ??
    (next.draft
      ? answer.fromGroups(
          next.draft,
          next.items.map((item) => item.id),
        )
      : answer.empty());
  steps = [];
  const made = cards(next.items, {
    click: place.click,
    equal: place.equal,
    worst: place.worst,
    look: (item) => zoom.show([item]),
  });
  const [one, many] = nouns(next.items);
  for (const word of document.querySelectorAll("[data-noun]"))
    word.textContent = word.dataset.noun === "many" ? many : one;
  const hold = element("div");
  hold.append(...made);
  await ready(hold);
  if (now !== turn) return;
  grid.replaceChildren(...made);
  zoom.set(next.items, names);
  busy = false;
  if (!drafts.started) return start();
  begin(own);
}

function start() {
  view("start");
  $("#go").focus({ preventScroll: true });
}

function begin(own = drafts.get(slate.id)) {
  view("slate");
  draw();
  window.scrollTo(0, 0);
  clock.start(own?.elapsed ?? 0);
  unwatch = watch([...grid.children], dock.offsetHeight, seen);
  grid.querySelector(".look").focus({ preventScroll: true });
  announce(`New slate: ${slate.items.length} ${nouns(slate.items)[1]}.`);
}

async function next() {
  const now = ++turn;
  for (;;) {
    const got = await attempt(() => rater.next(study)).catch((error) => lost(error.message));
    if (!got || now !== turn) return;
    showProgress($("#progress"), got.progress);
    if (got.slate) return show(got.slate);
    leave(got.why);
    if (got.why === "finished") return;
    await sleep(1000 * (got.retry_seconds ?? 2) * (document.hidden ? 5 : 1));
    if (now !== turn) return;
  }
}

function leave(why) {
  slate = null;
  busy = false;
  unwatch();
  if (why === "finished") {
    view("end");
    best.open = true;
    refreshBest();
    return;
  }
  view("wait");
  $("#wait .back").hidden = why !== "waiting";
  $("#why").textContent =
    why === "paused"
      ? "The study is paused by its owner. This page goes on by itself as soon as it does."
      : "Your answer is in. The next slate depends on others who still rank; this page goes on by itself.";
}

// A request that is repeated until the server answers; null without a valid link, which is then said on the page.
async function attempt(ask, kept = "") {
  try {
    return await notice.insist(ask, kept);
  } catch (error) {
    if (error.status !== 401 && error.status !== 403) throw error;
    lost(
      "Your link is no longer valid, or this browser never opened it. Ask for a new link; " +
        "what you ranked is kept on this device until then.",
    );
    return null;
  }
}

function lost(text) {
  turn += 1;
  clock.stop();
  view("lost");
  $("#lost p").textContent = text;
}

async function send(verdict = null) {
  if (busy || !slate || (verdict === null && !answer.ready(state))) return;
  const { groups, unseen } = answer.groupsOf(
    state,
    slate.items.map((item) => item.id),
  );
  if (verdict === null && groups.length < 2 && unseen.length)
    return notice.say("Alone this says nothing: look at the others too, or press “Skip”.");
  busy = true;
  const elapsed = clock.stop();
  keep();
  drafts.pending = {
    slate: slate.id,
    body: {
      groups: verdict ? [] : groups,
      unseen: verdict ? [] : unseen,
      verdict,
      revision: slate.revision + 1,
      elapsed_ms: elapsed,
    },
  };
  draw();
  $("#send").textContent = "Sending…";
  await deliver();
}

// Sends the answer on its way, and goes on.
async function deliver() {
  const { slate: id, body } = drafts.pending;
  try {
    const receipt = await attempt(() => rater.answer(id, body), "Your answer is kept on this device and will be sent.");
    if (!receipt) return;
    drafts.pending = null;
    showProgress($("#progress"), receipt.progress);
    announce("Saved.");
  } catch (error) {
    drafts.pending = null; // the server has another answer, or does not take this one: it would refuse it again
    notice.say(REFUSED[error.kind] ?? `Not taken: ${error.message}`, "warning");
  } finally {
    $("#send").textContent = "Send";
  }
  if (best.open) refreshBest();
  await next();
}

async function undo() {
  if (busy) return;
  busy = true;
  if (slate) draw();
  try {
    const got = await attempt(() => rater.undo(study));
    if (!got) return;
    announce("Your last answer is taken back.");
    await show(got.slate);
    notice.say("Taken back: change it and send it again.");
  } catch (error) {
    busy = false;
    if (slate) draw();
    notice.say(REFUSED[error.kind] ?? error.message, "warning");
  }
}

const refreshBest = () => showBest(best, study);

// ---- wiring

draggable(document.body, {
  pick(under) {
    if (busy) return null;
    const thumb = under.closest(".thumb");
    if (thumb) return { item: thumb.dataset.item, resting: false };
    const card = under.closest(".look")?.closest(".card");
    return card ? { item: card.dataset.item, resting: true } : null;
  },
  ghost(item) {
    const dragged = slate.items.find((one) => one.id === item);
    return thumbnail(dragged, names.get(item));
  },
  over: (x, y, item) => showTarget(dock, x === null ? null : target(dock, x, y, item)),
  drop(x, y, item) {
    const at = target(dock, x, y, item);
    if (!at) return;
    if (at.join) change(answer.join(state, item, at.join), item);
    else if (at.bin === "best") change(answer.insert(state, item, at.index), item);
    else if (at.bin === "worst") change(answer.toWorst(state, item), item);
    else place[at.bin](item);
  },
});

keys(grid, {
  ...place,
  active: () => !zoom.open && !$("#help").open && document.body.dataset.view === "slate" && !busy,
  look,
  zoom: (item) => zoom.show([item]),
  send: () =>
    answer.ready(state)
      ? send()
      : notice.say("Place at least one first: click it, or press 1. If you see no difference, press “Cannot tell”."),
  skip: () => send("skip"),
  undo,
  step() {
    if (steps.length) set({ ...steps.pop(), seen: state.seen });
  },
});

$("#go").addEventListener("click", () => {
  drafts.started = true;
  begin();
});
$("#send").addEventListener("click", () => send());
$("#undo").addEventListener("click", undo);
for (const button of document.querySelectorAll(".back")) button.addEventListener("click", undo);
$("#tie").addEventListener("click", () => {
  tying = !tying;
  draw();
});
for (const button of document.querySelectorAll("[data-verdict]"))
  button.addEventListener("click", () => send(button.dataset.verdict));
$("#ask").addEventListener("click", () => $("#help").showModal());
$("#help .close").addEventListener("click", () => $("#help").close());
for (const list of document.querySelectorAll("dl.keys"))
  list.append(...HELP.flatMap(([key, does]) => [element("dt", {}, key), element("dd", {}, does)]));
best.addEventListener("toggle", () => best.open && refreshBest());
window.addEventListener("resize", () => document.body.dataset.view === "slate" && fit(grid, dock, slate.items[0].kind));
window.addEventListener("pagehide", () => slate && !busy && keep());
setInterval(() => {
  if (!slate || busy || document.hidden) return;
  const left = Date.parse(slate.lease_expires) - Date.now();
  if (left < slate.lease / 2)
    rater
      .heartbeat(slate.id)
      .then((lease) => slate && (slate.lease_expires = lease.lease_expires))
      .catch(() => {});
}, 20_000);

const who = await attempt(() => session.get("rater", study));
if (who) {
  drafts = new Drafts(study, who.name);
  if (drafts.pending) {
    view("wait");
    $("#why").textContent = "Sending the answer that was on its way …";
    await deliver();
  } else await next();
}
