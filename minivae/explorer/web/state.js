// What is to be seen, as one object, and as text in the address, so that a view can be sent to somebody.

const round = (x) => Math.round(x * 1000) / 1000;
const number = { write: (x) => String(round(x)), read: (text) => (text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : undefined) };
const flag = { write: (x) => (x ? "1" : "0"), read: (text) => text === "1" };
const whole = { write: String, read: (text) => (/^\d{1,9}$/.test(text) ? Number(text) : undefined) };
const list = {
  write: (z) => Array.from(z, round).join(","),
  read(text) {
    const z = text.split(",").map(number.read);
    return z.includes(undefined) ? undefined : z;
  },
};
const FIELDS = {
  run: whole, z: list, image: whole, label: whole, x: whole, y: whole, principal: flag, tiles: flag, ellipses: flag,
  a: whole, b: whole, t: number, arc: flag, temperature: number, seed: whole,
};

/** {z: [0.5, -1], image: 3} -> "z=0.5,-1&image=3" */
export function write(state) {
  return Object.keys(FIELDS).filter((name) => state[name] !== undefined && state[name] !== null)
    .map((name) => `${name}=${FIELDS[name].write(state[name])}`).join("&");
}

/** The inverse; what is no such field, or has no such value, is left out. */
export function read(text) {
  const found = {};
  for (const part of text.replace(/^#/, "").split("&")) {
    const [name, value] = part.split("=");
    if (!Object.hasOwn(FIELDS, name) || value === undefined) continue;
    const is = FIELDS[name].read(decodeURIComponent(value));
    if (is !== undefined) found[name] = is;
  }
  return found;
}

/** A state that tells those who asked, once a frame, which of its fields have changed. */
export class Store {
  constructor(state) {
    this.state = state;
    this.changed = new Set();
    this.listeners = [];
  }

  subscribe(listener) {
    this.listeners.push(listener);
  }

  update(patch) {
    const before = this.state;
    this.state = { ...before, ...patch };
    for (const name of Object.keys(patch)) if (before[name] !== patch[name]) this.changed.add(name);
    if (this.changed.size && !this.waiting) this.waiting = requestAnimationFrame(() => this.tell());
  }

  /** Everything anew: at the start, after a change of the window or of the weights. */
  all() {
    for (const name of Object.keys(FIELDS)) this.changed.add(name);
    for (const name of ["isDrawn", "drawing"]) this.changed.add(name);
    this.tell();
  }

  tell() {
    cancelAnimationFrame(this.waiting);
    this.waiting = 0;
    const changed = this.changed;
    this.changed = new Set();
    for (const listener of this.listeners) listener(this.state, changed);
  }
}
