// Examples on canvases: pictures pixel by pixel, vectors as a line; and sharp canvases for plots.

import { clamp } from "./numbers.js";

export const $ = (id) => document.getElementById(id);

/** A colour of style.css, in the mode that the page is in. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Okabe's and Ito's colours, and some more, told apart by the colour-blind; each works on white and on black, and the names stand beside
const CLASSES = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#9A7B1C", "", "#8C8C8C", "#7E57C2"];
export const classColour = (index) => CLASSES[index % CLASSES.length] || colour("ink");

/** Numbers (H, W, C) or (D,) -> the canvas; `range` is what is black and what is white. */
export function paint(canvas, values, shape, range = [0, 1]) {
  if (shape.length !== 3) return line(canvas, values, range);
  const [height, width, channels] = shape;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  context.putImageData(pixels(values, height, width, channels, range), 0, 0);
}

function pixels(values, height, width, channels, [low, high]) {
  const image = new ImageData(width, height);
  const gray = channels !== 3;
  for (let p = 0; p < height * width; p++) {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += values[p * channels + c];
    for (let c = 0; c < 3; c++) {
      const v = gray ? sum / channels : values[p * 3 + c];
      image.data[4 * p + c] = Math.round((255 * (v - low)) / (high - low));
    }
    image.data[4 * p + 3] = 255;
  }
  return image;
}

function line(canvas, values, [low, high]) {
  canvas.width = 128;
  canvas.height = 128;
  const context = canvas.getContext("2d");
  context.fillStyle = colour("paper");
  context.fillRect(0, 0, 128, 128);
  context.strokeStyle = colour("accent");
  context.lineWidth = 2;
  context.beginPath();
  const last = Math.max(values.length - 1, 1);
  values.forEach((v, i) => context.lineTo(4 + (120 * i) / last, 124 - 120 * clamp((v - low) / (high - low), 0, 1)));
  context.stroke();
}

/** A canvas with as many pixels as it has on the screen; -> its context, in CSS pixels, and its size */
export function sharp(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** Text that can be read on anything. */
export function haloed(context, text, x, y, fill) {
  context.lineWidth = 3;
  context.strokeStyle = colour("paper");
  context.lineJoin = "round";
  context.strokeText(text, x, y);
  context.fillStyle = fill;
  context.fillText(text, x, y);
}

/** A button with a picture on it. */
export function thumb(label, act) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "thumb";
  button.setAttribute("aria-label", label);
  button.append(document.createElement("canvas"));
  if (act) button.addEventListener("click", act);
  return button;
}

export const nats = (value) => (value === null || !Number.isFinite(value) ? "–" : value.toFixed(2).replace("-", "−"));
