// A model: encode, decode and prior, for the four stories that the library tells about a code.

import { forward, prepared } from "./layers.js";
import { LIKELIHOODS, gaussianKl, logGaussian } from "./densities.js";

const vector = (data) => ({ data: Float32Array.from(data), shape: [data.length] });

const joined = (a, b) => {
  const both = new Float32Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
};

/** The first and the second half of what a network predicts of a Gaussian. */
const halves = (data) => ({ mean: data.slice(0, data.length / 2), logvar: data.slice(data.length / 2) });

export class Model {
  constructor(described, dataShape) {
    Object.assign(this, described);
    this.dataShape = dataShape;
    this.size = dataShape.reduce((a, b) => a * b, 1);
    for (const name of ["encoder", "decoder", "priorNetwork", "upwards", "downwards"])
      if (described[name]) this[name] = described[name].map(prepared);
    this.law = LIKELIHOODS[this.likelihood];
  }

  /** One-hot, for a model with a condition. */
  condition(label) {
    const c = new Float32Array(this.conditionSize);
    if (c.length) c[label] = 1;
    return c;
  }

  /** q(z | x): {mean, logvar}; an autoencoder's is a point, without logvar; of two layers, the second given the first's mean. */
  encode(x, label) {
    const features = forward(this.encoder.slice(0, this.join), { data: Float32Array.from(x), shape: this.dataShape });
    const known = this.conditionSize ? vector(joined(features.data, this.condition(label))) : features;
    const { data } = forward(this.encoder.slice(this.join), known);
    if (this.kind === "ae") return { mean: data };
    const q = halves(data);
    if (this.head === "log_sigma") q.logvar = q.logvar.map((s) => 2 * s);
    if (this.kind !== "hierarchical") return q;
    const above = this.above(q.mean);
    return { mean: joined(q.mean, above.mean), logvar: joined(q.logvar, above.logvar) };
  }

  /** q(z2 | z1) and p(z1 | z2) of a model with two layers. */
  above = (z1) => halves(forward(this.upwards, vector(z1)).data);
  below = (z2) => halves(forward(this.downwards, vector(z2)).data);

  /** What the decoder gives for each number of x: logits, or means.     (K,) -> (size,) */
  decode(z, label) {
    const seen = Float32Array.from(z).subarray(0, this.latent - this.top);
    return forward(this.decoder, vector(this.conditionSize ? joined(seen, this.condition(label)) : seen)).data;
  }

  /** Where the first parameter of number i stands in what the decoder gave: of pairs the channels' first ones come before their second. */
  place(i) {
    const channels = this.dataShape[this.dataShape.length - 1];
    return this.law.pairs ? i + channels * Math.floor(i / channels) : i;
  }

  /** The second of a pair, or the model's log scale. */
  second(parameters, place) {
    return this.law.pairs ? parameters[place + this.dataShape[this.dataShape.length - 1]] : this.logScale;
  }

  /** E[x | z] by what the decoder gave */
  means(parameters) {
    const found = new Float32Array(this.size);
    for (let i = 0; i < this.size; i++) {
      const place = this.place(i);
      found[i] = this.law.mean(parameters[place], this.second(parameters, place));
    }
    return found;
  }

  mean = (z, label) => this.means(this.decode(z, label));

  /** log p(x | z), nats, by what the decoder gave */
  logLikelihood(x, parameters) {
    let sum = 0;
    for (let i = 0; i < x.length; i++) {
      const place = this.place(i);
      sum += this.law.logProb(x[i], parameters[place], this.second(parameters, place));
    }
    return sum;
  }

  /** p(z), or p(z | c), if it is one Gaussian: {mean, logvar}; null for an autoencoder, and for two layers, whose second depends on the first */
  prior(label) {
    if (this.kind === "ae" || this.kind === "hierarchical") return null;
    if (this.priorNetwork) return halves(forward(this.priorNetwork, vector(this.condition(label))).data);
    return { mean: new Float32Array(this.latent), logvar: new Float32Array(this.latent) };
  }

  logPrior(z, label) {
    if (this.kind === "ae") return 0;
    if (this.kind !== "hierarchical") return logGaussian(z, this.prior(label));
    const [z1, z2] = this.parts(z);
    const flat = new Float32Array(this.top);
    return logGaussian(z2, { mean: flat, logvar: flat }) + logGaussian(z1, this.below(z2));
  }

  /** log q(z | x), by what encode gave */
  logPosterior(z, q) {
    if (this.kind === "ae") return 0;
    if (this.kind !== "hierarchical") return logGaussian(z, q);
    const [z1, z2] = this.parts(z);
    const first = { mean: q.mean.slice(0, z1.length), logvar: q.logvar.slice(0, z1.length) };
    return logGaussian(z1, first) + logGaussian(z2, this.above(z1));
  }

  parts = (z) => [Float32Array.from(z).slice(0, this.latent - this.top), Float32Array.from(z).slice(this.latent - this.top)];

  /** KL(q || p) in closed form; null where there is none */
  kl(q, label) {
    const p = this.prior(label);
    return p ? gaussianKl(q, p).reduce((a, b) => a + b, 0) : null;
  }

  /** A code from the prior: mean + temperature sigma eps.     eps (K,) */
  draw(eps, label, temperature, { centre, spread }) {
    const moved = ({ mean, logvar }, e) => Float32Array.from(mean, (m, k) => m + temperature * Math.exp(logvar[k] / 2) * e[k]);
    if (this.kind === "ae") return Float32Array.from(eps, (e, k) => centre[k] + temperature * spread[k] * e);
    if (this.kind !== "hierarchical") return moved(this.prior(label), eps);
    const below = this.latent - this.top;
    const z2 = Float32Array.from(eps.slice(below), (e) => temperature * e);
    return joined(moved(this.below(z2), eps), z2);
  }

  /** -ELBO of one example, nats: the KL and the mean of -log p(x | z) over draws of q.     noise: a list of (K,) */
  negativeElbo(x, q, label, noise) {
    let sum = 0;
    for (const eps of noise) {
      let z = q.mean;
      if (this.kind === "hierarchical") {
        const below = this.latent - this.top;
        const z1 = Float32Array.from(q.mean.slice(0, below), (m, k) => m + Math.exp(q.logvar[k] / 2) * eps[k]);
        const up = this.above(z1);
        z = joined(z1, up.mean.map((m, k) => m + Math.exp(up.logvar[k] / 2) * eps[below + k]));
      } else if (this.kind !== "ae") z = q.mean.map((m, k) => m + Math.exp(q.logvar[k] / 2) * eps[k]);
      sum -= this.logLikelihood(x, this.decode(z, label));
      if (this.kind === "hierarchical") sum += this.logPosterior(z, q) - this.logPrior(z, label);
    }
    return sum / noise.length + (this.kl(q, label) ?? 0);
  }
}
