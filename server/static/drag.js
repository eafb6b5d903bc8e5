// Dragging with mouse, pen and finger by pointer events. A mouse drags after a few pixels; a finger drags a thumbnail at
// once and a card after it has rested on it, because a moving finger scrolls the page.

const SLACK = 6; // pixels
const REST = 260; // milliseconds

// surface: where drags begin; pick(target) -> { item, resting } or null; ghost(item) -> element that follows the pointer;
// over(x, y, item) shows where it would land, or clears it (x null); drop(x, y, item) lets go.
export function draggable(surface, { pick, ghost, over, drop }) {
  let held = null;

  surface.addEventListener("pointerdown", (event) => {
    if (held || event.button !== 0) return;
    const picked = pick(event.target);
    if (!picked) return;
    held = {
      ...picked,
      id: event.pointerId,
      touch: event.pointerType === "touch",
      x: event.clientX,
      y: event.clientY,
      ghost: null,
      timer: null,
    };
    if (held.touch && held.resting) held.timer = setTimeout(begin, REST);
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", up);
    window.addEventListener("pointercancel", end);
    window.addEventListener("keydown", escape, true);
  });
  surface.addEventListener("dragstart", (event) => event.preventDefault()); // the browser's own dragging of pictures
  surface.addEventListener("contextmenu", (event) => held?.touch && event.preventDefault());
  // a finger that drags must not scroll; only a listener that is not passive may say so
  surface.addEventListener("touchmove", (event) => held?.ghost && event.cancelable && event.preventDefault(), {
    passive: false,
  });

  function begin() {
    held.ghost = ghost(held.item);
    held.ghost.classList.add("ghost");
    document.body.append(held.ghost);
    document.body.classList.add("dragging");
    follow(held.x, held.y);
  }

  function follow(x, y) {
    held.ghost.style.setProperty("transform", `translate(${x}px, ${y}px) translate(-50%, -108%) rotate(-2deg)`);
    over(x, y, held.item);
  }

  function move(event) {
    if (event.pointerId !== held?.id) return;
    const far = Math.hypot(event.clientX - held.x, event.clientY - held.y) > SLACK;
    if (!held.ghost && far) {
      if (held.timer) return end(); // the finger moves on before it rested: it scrolls
      begin();
    }
    if (held.ghost) follow(event.clientX, event.clientY);
  }

  function up(event) {
    if (event.pointerId !== held?.id) return;
    const { ghost: dragged, item } = held;
    end();
    if (!dragged) return;
    window.addEventListener("click", swallow, { capture: true, once: true }); // the click that ends the drag
    setTimeout(() => window.removeEventListener("click", swallow, true), 50);
    drop(event.clientX, event.clientY, item);
  }

  function swallow(event) {
    event.stopPropagation();
    event.preventDefault();
  }

  function escape(event) {
    if (event.key !== "Escape" || !held?.ghost) return;
    swallow(event);
    end();
  }

  function end() {
    if (!held) return;
    clearTimeout(held.timer);
    held.ghost?.remove();
    document.body.classList.remove("dragging");
    over(null, null, held.item);
    held = null;
    window.removeEventListener("pointermove", move);
    window.removeEventListener("pointerup", up);
    window.removeEventListener("pointercancel", end);
    window.removeEventListener("keydown", escape, true);
  }
}
