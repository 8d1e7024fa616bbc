// Recurrent layers over a whole sequence, as the library's ops.gru and ops.lstm have them.     (T, I) -> (T, H)

import { sigmoid } from "./activations.js";

/** to[0 ... n) += x w, a row of w (length n) for each number of x */
function addProduct(to, x, from, count, w, n) {
  for (let i = 0; i < count; i++) {
    const value = x[from + i];
    for (let o = 0, at = i * n; o < n; o++) to[o] += value * w[at + o];
  }
}

/** h_t = z h + (1 - z) n;  gates [r z n];  n = tanh(x w_n + b_n + r (h u_n + c)) */
export function gru({ w, u, b, c, shape: { u: [units, gates] } }, { data, shape: [steps, inputs] }) {
  const y = new Float32Array(steps * units);
  let h = new Float32Array(units);
  for (let t = 0; t < steps; t++) {
    const a = Float32Array.from(b);
    const state = new Float32Array(gates);
    addProduct(a, data, t * inputs, inputs, w, gates);
    addProduct(state, h, 0, units, u, gates);
    h = h.map((before, i) => {
      const r = sigmoid(a[i] + state[i]);
      const z = sigmoid(a[units + i] + state[units + i]);
      const n = Math.tanh(a[2 * units + i] + r * (state[2 * units + i] + c[i]));
      return z * before + (1 - z) * n;
    });
    y.set(h, t * units);
  }
  return { data: y, shape: [steps, units] };
}

/** c_t = f c + i n,  h_t = o tanh(c_t);  gates [i f n o] */
export function lstm({ w, u, b, shape: { u: [units, gates] } }, { data, shape: [steps, inputs] }) {
  const y = new Float32Array(steps * units);
  let h = new Float32Array(units);
  const cell = new Float32Array(units);
  for (let t = 0; t < steps; t++) {
    const a = Float32Array.from(b);
    addProduct(a, data, t * inputs, inputs, w, gates);
    addProduct(a, h, 0, units, u, gates);
    h = h.map((_, i) => {
      const input = sigmoid(a[i]);
      const forget = sigmoid(a[units + i]);
      cell[i] = forget * cell[i] + input * Math.tanh(a[2 * units + i]);
      return sigmoid(a[3 * units + i]) * Math.tanh(cell[i]);
    });
    y.set(h, t * units);
  }
  return { data: y, shape: [steps, units] };
}
