// The layers of a network, one example at a time: {data: Float32Array, shape} in, the same out.

import { unpack } from "./numbers.js";
import { activate } from "./activations.js";
import { gru, lstm } from "./recurrent.js";

const size = (shape) => shape.reduce((a, b) => a * b, 1);

/** y = act(x w + b).  A row of w at a time: the inner loop runs along memory, and zeros of x, of which ink and relu make many, cost nothing. */
function dense(layer, { data, shape }) {
  const { w, b } = layer;
  const inputs = layer.shape.w[0];
  const outputs = layer.shape.w[1];
  const rows = data.length / inputs;
  const y = new Float32Array(rows * outputs);
  for (let r = 0; r < rows; r++) {
    const to = r * outputs;
    y.set(b, to);
    for (let i = 0; i < inputs; i++) {
      const x = data[r * inputs + i];
      if (x === 0) continue;
      for (let o = 0, at = i * outputs; o < outputs; o++) y[to + o] += x * w[at + o];
    }
  }
  return { data: activate(y, layer.activation), shape: [...shape.slice(0, -1), outputs] };
}

/** y[i, j, o] = sum_{k, l, c} x[i sh + k - top, j sw + l - left, c] w[k, l, c, o]; x outside of the picture is 0 */
function conv(layer, { data, shape }) {
  const [height, width, channels] = shape;
  const [kh, kw, , outputs] = layer.shape.w;
  const [sh, sw] = layer.stride;
  const [top, bottom, left, right] = layer.padding;
  const { w, b } = layer;
  const oh = Math.floor((height + top + bottom - kh) / sh) + 1;
  const ow = Math.floor((width + left + right - kw) / sw) + 1;
  const y = new Float32Array(oh * ow * outputs);
  for (let i = 0; i < oh; i++)
    for (let j = 0; j < ow; j++) {
      const to = (i * ow + j) * outputs;
      y.set(b, to);
      for (let k = 0; k < kh; k++) {
        const row = i * sh + k - top;
        if (row < 0 || row >= height) continue;
        for (let l = 0; l < kw; l++) {
          const column = j * sw + l - left;
          if (column < 0 || column >= width) continue;
          const from = (row * width + column) * channels;
          for (let c = 0; c < channels; c++) {
            const x = data[from + c];
            if (x === 0) continue;
            const at = ((k * kw + l) * channels + c) * outputs;
            for (let o = 0; o < outputs; o++) y[to + o] += x * w[at + o];
          }
        }
      }
    }
  return { data: activate(y, layer.activation), shape: [oh, ow, outputs] };
}

/** The adjoint of conv: every x goes to the pixels that its window would have seen.  w is (kh, kw, C, O), where O belongs to x. */
function convTranspose(layer, { data, shape }) {
  const [height, width, inputs] = shape;
  const [kh, kw, channels] = layer.shape.w;
  const [sh, sw] = layer.stride;
  const [top, bottom, left, right] = layer.padding;
  const { w, b } = layer;
  const [oh, ow] = layer.size || [(height - 1) * sh + kh - top - bottom, (width - 1) * sw + kw - left - right];
  const y = new Float32Array(oh * ow * channels);
  for (let p = 0; p < oh * ow; p++) y.set(b, p * channels);
  for (let i = 0; i < height; i++)
    for (let j = 0; j < width; j++) {
      const from = (i * width + j) * inputs;
      for (let k = 0; k < kh; k++) {
        const row = i * sh + k - top;
        if (row < 0 || row >= oh) continue;
        for (let l = 0; l < kw; l++) {
          const column = j * sw + l - left;
          if (column < 0 || column >= ow) continue;
          const to = (row * ow + column) * channels;
          let at = (k * kw + l) * channels * inputs;
          for (let c = 0; c < channels; c++, at += inputs) {
            let sum = 0;
            for (let o = 0; o < inputs; o++) sum += data[from + o] * w[at + o];
            y[to + c] += sum;
          }
        }
      }
    }
  return { data: activate(y, layer.activation), shape: [oh, ow, channels] };
}

/** Batch normalization by its running moments: y = scale x + shift for each channel. */
function affine({ scale, shift }, { data, shape }) {
  return { data: data.map((x, i) => x * scale[i % scale.length] + shift[i % scale.length]), shape };
}

/** y = gamma (x - mean) / sqrt(var + eps) + beta, moments over the last axis */
function layerNorm({ gamma, beta, eps }, { data, shape }) {
  const n = gamma.length;
  const y = new Float32Array(data.length);
  for (let from = 0; from < data.length; from += n) {
    let mean = 0;
    let variance = 0;
    for (let i = 0; i < n; i++) mean += data[from + i] / n;
    for (let i = 0; i < n; i++) variance += (data[from + i] - mean) ** 2 / n;
    for (let i = 0; i < n; i++) y[from + i] = (gamma[i] * (data[from + i] - mean)) / Math.sqrt(variance + eps) + beta[i];
  }
  return { data: y, shape };
}

const LAYERS = {
  dense,
  conv,
  conv_transpose: convTranspose,
  affine,
  layer_norm: layerNorm,
  gru,
  lstm,
  activation: (layer, { data, shape }) => ({ data: activate(data.slice(), layer.activation), shape }),
  flatten: (layer, { data, shape }) => ({ data, shape: [size(shape)] }),
  reshape: (layer, { data }) => ({ data, shape: layer.shapeOut }),
  rows: (layer, { data, shape }) => ({ data, shape: [shape[0], size(shape.slice(1))] }),
  last: (layer, { data, shape }) => ({ data: data.slice(data.length - shape[1]), shape: [shape[1]] }),
  repeat(layer, { data }) {
    const y = new Float32Array(layer.steps * data.length);
    for (let t = 0; t < layer.steps; t++) y.set(data, t * data.length);
    return { data: y, shape: [layer.steps, data.length] };
  },
};

/** A layer as it stands on the page -> with its arrays unpacked, their shapes under `shape` */
export function prepared(described) {
  const layer = { shape: {} };
  for (const [name, value] of Object.entries(described)) {
    const isArray = value && typeof value === "object" && "base64" in value;
    if (name === "shape") layer.shapeOut = value;
    else layer[name] = isArray ? unpack(value) : value;
    if (isArray) layer.shape[name] = value.shape;
  }
  return layer;
}

export function forward(layers, x) {
  for (const layer of layers) x = LAYERS[layer.kind](layer, x);
  return x;
}
