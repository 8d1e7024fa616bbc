// Nonlinearities, in place, and the scalar functions that they share with the densities.

export const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));

/** log(1 + e^x), with no exponential of a positive number */
export const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

const FUNCTIONS = {
  relu: (x) => (x > 0 ? x : 0),
  leaky_relu: (x) => (x > 0 ? x : 0.01 * x),
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
  silu: (x) => x * sigmoid(x),
  tanh: Math.tanh,
  sigmoid,
  softplus,
};

export function activate(values, name) {
  if (!name) return values;
  const f = FUNCTIONS[name];
  for (let i = 0; i < values.length; i++) values[i] = f(values[i]);
  return values;
}
