// Arrays out of the page's text, sums of exponentials, and random numbers from a seed.

const KINDS = { f4: Float32Array, i2: Int16Array, u1: Uint8Array };

/** {type, shape, scale, base64} -> Float32Array, or Uint8Array of bytes */
export function unpack(packed) {
  const text = atob(packed.base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const numbers = new KINDS[packed.type](bytes.buffer);
  return packed.type === "i2" ? Float32Array.from(numbers, (n) => n * packed.scale) : numbers;
}

/** log sum_i e^v_i */
export function logSumExp(values) {
  let top = -Infinity;
  for (const v of values) if (v > top) top = v;
  if (top === -Infinity) return top;
  let sum = 0;
  for (const v of values) sum += Math.exp(v - top);
  return top + Math.log(sum);
}

/** Uniform numbers in [0, 1) from a whole number: mulberry32, whose state is 32 bits. */
export function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** n draws of N(0, 1), by Box and Muller. */
export function normals(n, seed) {
  const next = uniform(seed);
  return Float64Array.from({ length: n }, () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()));
}

export const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

export function median(values) {
  const sorted = Float64Array.from(values).sort();
  return sorted.length ? sorted[sorted.length >> 1] : 0;
}
