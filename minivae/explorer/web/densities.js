// Likelihoods of an example and densities of a code, in nats.

import { sigmoid, softplus } from "./activations.js";

const LOG_2PI = Math.log(2 * Math.PI);
// 1/s - 1/sinh(s) = sum_n COSECH[n - 1] s^(2n - 1): the library's ops.densities has where it comes from
const COSECH = [
  0.16666666666666666, -0.019444444444444445, 0.00205026455026455, -0.0002099867724867725, 2.1336045641601196e-5, -2.1633474427786596e-6,
];

/** E[x] = sigmoid(l) less the slope of log C, which cancels near 0 and is a series there */
function continuousMean(l) {
  if (Math.abs(l) < 0.5) return sigmoid(l) - l * COSECH.reduceRight((sum, c) => sum * l * l + c, 0);
  const s = Math.abs(l);
  const e = Math.exp(-s);
  return sigmoid(l) - Math.sign(l) * (1 / s - (2 * e) / (1 - e * e));
}

/** log C(l) = log(l / tanh(l / 2)) */
function logNormalizer(l) {
  const s = Math.abs(l) || 1e-30;
  return Math.log(s / -Math.expm1(-s)) + Math.log1p(Math.exp(-s));
}

const identity = (l) => l;

/** p(x | z) of one number by what the decoder gives for it, l: its mean, and log p(x) with the model's log scale */
export const LIKELIHOODS = {
  bernoulli: { mean: sigmoid, logProb: (x, l) => x * l - softplus(l) },
  continuous_bernoulli: { mean: continuousMean, logProb: (x, l) => x * l - softplus(l) + logNormalizer(l) },
  gaussian: { mean: identity, logProb: (x, l, s) => -0.5 * (((x - l) / Math.exp(s)) ** 2 + 2 * s + LOG_2PI) },
  laplace: { mean: identity, logProb: (x, l, s) => -Math.abs(x - l) / Math.exp(s) - s - Math.LN2 },
};

/** log N(z; mean, e^logvar) of each number */
export const gaussianTerm = (z, mean, logvar) => -0.5 * ((z - mean) ** 2 / Math.exp(logvar) + logvar + LOG_2PI);

export function logGaussian(z, { mean, logvar }) {
  let sum = 0;
  for (let k = 0; k < mean.length; k++) sum += gaussianTerm(z[k], mean[k], logvar[k]);
  return sum;
}

/** KL(N(m, s^2) || N(n, t^2)) of each number */
export function gaussianKl(q, p) {
  return Array.from(q.mean, (m, k) => {
    const ratio = q.logvar[k] - p.logvar[k];
    return 0.5 * (Math.expm1(ratio) - ratio + (m - p.mean[k]) ** 2 / Math.exp(p.logvar[k]));
  });
}
