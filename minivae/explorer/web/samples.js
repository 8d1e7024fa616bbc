// Draws from the prior, decoded; each a button that moves the point there.

import { $, paint, thumb } from "./paint.js";
import { normals } from "./numbers.js";

const COUNT = 24;

export function mountSamples(app) {
  let codes = [];
  const buttons = Array.from({ length: COUNT }, (_, i) => thumb(`sample ${i + 1}: move the point there`, () => app.store.update({ z: Array.from(codes[i]) })));
  $("samples").replaceChildren(...buttons);
  $("sample").addEventListener("click", () => app.store.update({ seed: app.state.seed + 1 }));
  $("temperature").addEventListener("input", () => app.store.update({ temperature: Number($("temperature").value) }));
  app.store.subscribe((state, changed) => {
    $("temperature").value = String(state.temperature);
    $("temperature-said").textContent = state.temperature.toFixed(2);
    if (!["run", "seed", "temperature", "label"].some((name) => changed.has(name))) return;
    const { model, run } = app;
    codes = buttons.map((_, i) => model.draw(normals(model.latent, 1000 * state.seed + i), state.label, state.temperature, run));
    buttons.forEach((button, i) => paint(button.firstChild, model.mean(codes[i], state.label), app.shape, app.range));
    $("sample-help").textContent = model.kind === "ae"
      ? "An autoencoder has no prior: codes are drawn from a Gaussian with the mean and the spread of the examples' codes."
      : "The temperature multiplies the prior's standard deviation; at 0 there is one picture.";
  });
}
