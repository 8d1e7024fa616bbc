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

// Lanczos' approximation with g = 7, to 15 digits: W. H. Press et al., "Numerical recipes", 6.1
const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905,
  -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
];

/** log Gamma(x), x > 0 */
function logGamma(x) {
  if (x < 0.5) return logGamma(x + 1) - Math.log(x);
  const t = x + 6.5;
  let sum = LANCZOS[0];
  for (let i = 1; i < 9; i++) sum += LANCZOS[i] / (x - 1 + i);
  return 0.5 * LOG_2PI + (x - 0.5) * Math.log(t) - t + Math.log(sum);
}

const N = 255; // the highest level of a byte
const level = (x) => Math.min(Math.max(Math.round(N * x), 0), N); // what is drawn is no byte yet

/** log p(k) of a beta-binomial: C(n, k) B(k + a, n - k + b) / B(a, b) */
function betaBinomial(x, logA, logB) {
  const [k, a, b] = [level(x), Math.exp(logA), Math.exp(logB)];
  const ways = logGamma(N + 1) - logGamma(k + 1) - logGamma(N - k + 1);
  return ways + logGamma(k + a) - logGamma(a) + logGamma(N - k + b) - logGamma(b) - logGamma(N + a + b) + logGamma(a + b);
}

// log s of a discretized logistic is kept above this, as models.likelihoods does
const NARROWEST = -Math.log(16 * N);

/** log(F(k + 1/2) - F(k - 1/2)), F(t) = sigmoid((t / n - mean) / s); the ends have what lies beyond them */
function discretizedLogistic(x, mean, logS) {
  const k = level(x);
  const inverse = Math.exp(-Math.max(logS, NARROWEST));
  const above = ((k + 0.5) / N - mean) * inverse;
  const below = ((k - 0.5) / N - mean) * inverse;
  if (k === 0) return -softplus(-above);
  if (k === N) return -softplus(below);
  return -softplus(-above) - softplus(below) + Math.log(-Math.expm1(-inverse / N));
}

/** 1/n sum_k P(more than k) */
function discretizedLogisticMean(mean, logS) {
  const inverse = Math.exp(-Math.max(logS, NARROWEST));
  let sum = 0;
  for (let k = 0; k < N; k++) sum += sigmoid((mean - (k + 0.5) / N) * inverse);
  return sum / N;
}

/** p(x | z) of one number by what the decoder gives for it, l: its mean, and log p(x) with the model's log scale; where the decoder gives
 * two numbers (`pairs`), the second stands in the scale's place */
export const LIKELIHOODS = {
  bernoulli: { mean: sigmoid, logProb: (x, l) => x * l - softplus(l) },
  continuous_bernoulli: { mean: continuousMean, logProb: (x, l) => x * l - softplus(l) + logNormalizer(l) },
  gaussian: { mean: identity, logProb: (x, l, s) => -0.5 * (((x - l) / Math.exp(s)) ** 2 + 2 * s + LOG_2PI) },
  laplace: { mean: identity, logProb: (x, l, s) => -Math.abs(x - l) / Math.exp(s) - s - Math.LN2 },
  beta_binomial: { pairs: true, mean: (a, b) => sigmoid(a - b), logProb: betaBinomial },
  discretized_logistic: { pairs: true, mean: discretizedLogisticMean, logProb: discretizedLogistic },
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
