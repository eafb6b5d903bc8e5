// Milliseconds that a slate was in front of somebody: it stands still while the page is hidden.

export class Clock {
  constructor() {
    this.before = 0;
    this.since = null;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.pause() : this.go()));
    this.running = false;
  }

  start(milliseconds = 0) {
    this.before = milliseconds;
    this.running = true;
    this.since = document.hidden ? null : performance.now();
  }

  get elapsed() {
    return Math.round(this.before + (this.since === null ? 0 : performance.now() - this.since));
  }

  pause() {
    this.before = this.elapsed;
    this.since = null;
  }

  go() {
    if (this.running && this.since === null) this.since = performance.now();
  }

  stop() {
    this.pause();
    this.running = false;
    return this.before;
  }
}
