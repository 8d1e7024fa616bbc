// A pad to draw an example on, with a mouse, a finger or the keyboard; the encoder reads it.

import { $ } from "./paint.js";
import { centred, shrink } from "./ink.js";

const SIDE = 280; // pixels of the pad

export function mountPad(app) {
  const [height, width, channels] = app.shape;
  if (app.shape.length !== 3 || ![1, 3].includes(channels)) {
    $("panel-draw").hidden = true;
    return;
  }
  const canvas = $("pad");
  const [tall, wide] = height >= width ? [SIDE, Math.round((SIDE * width) / height)] : [Math.round((SIDE * height) / width), SIDE];
  canvas.width = wide;
  canvas.height = tall;
  canvas.style.aspectRatio = `${wide} / ${tall}`;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const pen = { x: wide / 2, y: tall / 2, down: false };
  const thick = Math.max(wide, tall) / 13; // as MNIST's strokes, about 2 of 28 pixels
  $("pad-colour-choice").hidden = channels === 1;
  $("pad-centre").checked = channels === 1;
  $("pad-centre-choice").hidden = channels !== 1;

  function clear() {
    context.fillStyle = "#000000";
    context.fillRect(0, 0, wide, tall);
  }

  function stroke(x, y) {
    context.strokeStyle = channels === 1 ? "#ffffff" : $("pad-colour").value;
    context.lineWidth = thick;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(pen.x, pen.y);
    context.lineTo(x, y);
    context.stroke();
    [pen.x, pen.y] = [x, y];
  }

  /** The pad as numbers, read by the encoder. */
  function read() {
    const { data } = context.getImageData(0, 0, wide, tall);
    const values = new Float32Array(wide * tall * channels);
    for (let p = 0; p < wide * tall; p++) for (let c = 0; c < channels; c++) values[p * channels + c] = data[4 * p + c] / 255;
    const shape = [tall, wide, channels];
    app.drawn = $("pad-centre").checked && channels === 1 ? centred(values, shape, [height, width]) : shrink(values, shape, [height, width]);
    app.store.update({ isDrawn: true, drawing: (app.state.drawing ?? 0) + 1 });
    app.toMean();
    const { q } = app;
    const sigma = q.logvar ? q.logvar.map((v) => Math.exp(v / 2)) : null;
    const shown = app.run.order.slice(0, 2);
    $("pad-said").textContent = shown
      .map((k) => `z${k + 1} = ${q.mean[k].toFixed(2)}${sigma ? ` ± ${sigma[k].toFixed(2)}` : ""}`).join(", ").replaceAll("-", "−");
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * wide, ((event.clientY - box.top) / box.height) * tall];
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    [pen.x, pen.y] = place(event);
    stroke(pen.x, pen.y);
    read();
    event.preventDefault();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    stroke(...place(event));
    read();
  });
  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === " ") pen.down = !pen.down;
    else if (!way) return;
    event.preventDefault();
    const [x, y] = way ? [pen.x + (way[0] * wide) / 28, pen.y + (way[1] * tall) / 28] : [pen.x, pen.y];
    if (pen.down) {
      stroke(x, y);
      read();
    } else [pen.x, pen.y] = [x, y];
    const said = `pen ${pen.down ? "down" : "up"}, ${Math.round((100 * pen.x) / wide)}% across, ${Math.round((100 * pen.y) / tall)}% down`;
    if (!pen.down || event.key === " ") $("pad-said").textContent = said;
  });
  $("pad-clear").addEventListener("click", () => {
    clear();
    $("pad-said").textContent = "";
    if (app.state.isDrawn) app.choose(app.state.image);
  });
  $("pad-centre").addEventListener("change", () => app.state.isDrawn && read());
  clear();
}
