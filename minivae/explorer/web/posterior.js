// log p(x) and p(z | x) of a model with two latents, by the trapezoidal rule on a grid, as the library's quadrature does it.

import { logGaussian } from "./densities.js";
import { logSumExp } from "./numbers.js";

const DROP = 30; // nats below the largest value: what lies outside of the box is e^-30 of it
const REACH = 5; // of the first box, in standard deviations of the prior

const axis = (low, high, n) => Float64Array.from({ length: n }, (_, i) => low + ((high - low) * i) / (n - 1));

/**
 * A generator, so that a page may breathe between its steps; it returns {axes, density, logP, gap, elbo, error}.
 *
 * density[i * n + j] is p(z | x) at axes[0][i], axes[1][j].  gap = KL(q || p(z | x)) on the same grid, elbo = log p(x) - gap.  `error` is
 * how far log p(x) moves when every other point is left out: four times the spacing's own error, or more.
 */
export function* gridPosterior(model, x, label, q, first = 61, last = 61) {
  const sigma = Array.from(q.logvar, (v) => Math.exp(v / 2));
  const prior = model.prior(label);
  let box = [0, 1].map((k) => {
    const wide = REACH * Math.exp(prior.logvar[k] / 2);
    return [Math.min(prior.mean[k] - wide, q.mean[k] - 6 * sigma[k]), Math.max(prior.mean[k] + wide, q.mean[k] + 6 * sigma[k])];
  });

  function* evaluate(n) {
    const axes = box.map(([low, high]) => axis(low, high, n));
    const values = new Float64Array(n * n);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        const z = [axes[0][i], axes[1][j]];
        values[i * n + j] = model.logLikelihood(x, model.decode(z, label)) + logGaussian(z, prior);
      }
      yield;
    }
    return { axes, values };
  }

  for (let n = first, round = 0; round < 8; round++, n = Math.min(n, 31)) {
    const { axes, values } = yield* evaluate(n);
    const top = values.reduce((a, b) => Math.max(a, b));
    const kept = [[n, 0], [n, 0]];
    values.forEach((v, at) => {
      if (v <= top - DROP) return;
      [Math.floor(at / n), at % n].forEach((i, k) => (kept[k] = [Math.min(kept[k][0], i), Math.max(kept[k][1], i)]));
    });
    const smaller = box.map(([low, high], k) => {
      const step = axes[k][1] - axes[k][0];
      return [kept[k][0] === 0 ? low - step * (n >> 2) : axes[k][kept[k][0]] - step, kept[k][1] === n - 1 ? high + step * (n >> 2) : axes[k][kept[k][1]] + step];
    });
    const settled = box.every(([low, high], k) => {
      const ratio = (smaller[k][1] - smaller[k][0]) / (high - low);
      return ratio > 0.7 && kept[k][0] > 0 && kept[k][1] < n - 1;
    });
    box = smaller;
    if (settled) break;
  }

  // q, which need not lie where the posterior does, is to be integrated too
  box = box.map(([low, high], k) => [Math.min(low, q.mean[k] - 6 * sigma[k]), Math.max(high, q.mean[k] + 6 * sigma[k])]);
  const n = last;
  const { axes, values } = yield* evaluate(n);
  const cell = (axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0]);
  const logP = logSumExp(values) + Math.log(cell);
  const coarse = values.filter((_, at) => Math.floor(at / n) % 2 === 0 && (at % n) % 2 === 0);
  const density = values.map((v) => Math.exp(v - logP));
  let gap = 0;
  values.forEach((v, at) => {
    const logQ = logGaussian([axes[0][Math.floor(at / n)], axes[1][at % n]], q);
    gap += Math.exp(logQ) * (logQ - v + logP) * cell;
  });
  return { axes, density, logP, gap, elbo: logP - gap, error: Math.abs(logSumExp(coarse) + Math.log(4 * cell) - logP) };
}

/** The densities above which 39%, 86% and 99% of the posterior lie: as much as a Gaussian has in 1, 2 and 3 sigma. */
export function massLevels(density) {
  const sorted = Float64Array.from(density).sort().reverse();
  const total = sorted.reduce((a, b) => a + b, 0);
  return [1, 2, 3].map((radius) => {
    const wanted = (1 - Math.exp(-(radius ** 2) / 2)) * total;
    let sum = 0;
    let i = 0;
    while (i < sorted.length - 1 && (sum += sorted[i]) < wanted) i++;
    return sorted[i];
  });
}
