// What all panels share: the page's data, the state, and what follows from both: the example, its posterior, the picture at the point.

import { normals, unpack, clamp } from "./numbers.js";
import { Model } from "./model.js";
import { Store, read } from "./state.js";

const DRAWS = 24;

export class App {
  constructor(page) {
    this.page = page;
    this.shape = page.data.shape;
    this.size = this.shape.reduce((a, b) => a * b, 1);
    this.images = unpack(page.data.images);
    this.range = page.data.bytes ? [0, 1] : extent(this.images);
    this.classes = Object.entries(page.data.classes).map(([label, name]) => ({ label: Number(label), name }));
    this.drawn = new Float32Array(this.size);
    this.prepared = [];
    this.memo = {};
    this.store = new Store(this.start());
  }

  /** The state of a fresh page, and what the address says. */
  start() {
    const asked = read(location.hash);
    const run = clamp(asked.run ?? 0, 0, this.page.runs.length - 1);
    const { order, model } = this.page.runs[run];
    const image = clamp(asked.image ?? 0, 0, this.page.data.count - 1);
    const state = {
      run, image, isDrawn: false, label: this.labelOf(image) ?? 0, x: order[0], y: order[1] ?? order[0], principal: false, tiles: false,
      ellipses: false, a: 0, b: Math.min(1, this.page.data.count - 1), t: 0, arc: false, temperature: 1, seed: 1, ...asked,
    };
    Object.assign(state, { run, image });
    for (const name of ["a", "b"]) state[name] = clamp(state[name], 0, this.page.data.count - 1);
    for (const name of ["x", "y"]) state[name] = clamp(state[name], 0, model.latent - 1);
    state.label = clamp(state.label, 0, Math.max(model.conditionSize - 1, 0));
    if (state.z?.length !== model.latent) {
      const z = this.prepare(run).codes.slice(image * model.latent, (image + 1) * model.latent);
      state.z = Array.from(z);
    }
    return state;
  }

  get state() {
    return this.store.state;
  }

  /** A run with its arrays unpacked, when it is first looked at. */
  prepare(index) {
    if (!this.prepared[index]) {
      const run = this.page.runs[index];
      this.prepared[index] = {
        ...run,
        model: new Model(run.model, this.shape),
        codes: unpack(run.codes),
        count: run.codes.shape[0],
        principal: { mean: unpack(run.principal.mean), axes: unpack(run.principal.axes), share: run.principal.share },
      };
    }
    return this.prepared[index];
  }

  get run() {
    return this.prepare(this.state.run);
  }

  get model() {
    return this.run.model;
  }

  /** The weights of a run have become others. */
  replace(index, run) {
    this.page.runs[index] = run;
    this.prepared[index] = null;
    this.memo = {};
  }

  labelOf = (image) => this.page.data.labels?.[image];

  nameOf(image) {
    const label = this.labelOf(image);
    return label === undefined ? `example ${image + 1}` : `example ${image + 1}: ${this.page.data.classes[label]}`;
  }

  /** A test example as numbers. */
  test(image) {
    const bytes = this.images.subarray(image * this.size, (image + 1) * this.size);
    return this.page.data.bytes ? Float32Array.from(bytes, (b) => b / 255) : bytes;
  }

  /** x, and the label that it is encoded with. */
  get example() {
    return this.state.isDrawn ? this.drawn : this.test(this.state.image);
  }

  get exampleLabel() {
    return this.state.isDrawn ? this.state.label : (this.labelOf(this.state.image) ?? this.state.label);
  }

  /** A value that is computed once for each key. */
  once(name, key, compute) {
    if (this.memo[name]?.key !== key) this.memo[name] = { key, value: compute() };
    return this.memo[name].value;
  }

  get exampleKey() {
    const { run, image, isDrawn, drawing, label } = this.state;
    return isDrawn ? `${run}/drawn ${drawing}/${label}` : `${run}/${image}`;
  }

  /** q(z | x) of the example. */
  get q() {
    return this.once("q", this.exampleKey, () => this.model.encode(this.example, this.exampleLabel));
  }

  /** What the decoder gives at the point. */
  get decoded() {
    const { run, z, label } = this.state;
    return this.once("decoded", `${run}/${label}/${z.join()}`, () => this.model.decode(z, label));
  }

  picture = () => this.model.means(this.decoded);

  reconstruction = () => this.once("again", this.exampleKey, () => this.model.mean(this.q.mean, this.exampleLabel));

  /** -ELBO of the example, by the same draws every time. */
  negativeElbo() {
    return this.once("elbo", this.exampleKey, () => {
      const noise = Array.from({ length: DRAWS }, (_, i) => normals(this.model.latent, i + 1));
      return this.model.negativeElbo(this.example, this.q, this.exampleLabel, noise);
    });
  }

  /** Another example: the point moves to the mean of its posterior. */
  choose(image) {
    const label = this.labelOf(image) ?? this.state.label;
    this.store.update({ image, isDrawn: false, label: this.model.conditionSize ? label : this.state.label });
    this.toMean();
  }

  toMean() {
    this.store.update({ z: Array.from(this.q.mean) });
  }

  /** Does this page's engine agree with the library, which wrote one code and its picture down?  A sentence, if it does not. */
  disagreement() {
    const { check, model, name } = this.run;
    const label = this.labelOf(0) ?? 0;
    const far = (a, b) => a.reduce((most, v, i) => Math.max(most, Math.abs(v - b[i])), 0);
    const pixels = far(model.mean(unpack(check.code), label), unpack(check.picture));
    const codes = far(model.encode(this.test(0), label).mean, unpack(check.code));
    const scale = Math.max(this.range[1] - this.range[0], 1e-6);
    if (pixels <= scale / 255 && codes <= 0.01) return "";
    return `${name}: this page's pictures are off by ${pixels.toPrecision(2)} and its codes by ${codes.toPrecision(2)} of what the library computes; do not trust them, and please report it`;
  }
}

function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const v of values) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  return low < high ? [low, high] : [low - 0.5, low + 0.5];
}
