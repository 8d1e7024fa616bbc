// The panel of the exact posterior, for models with two latents.

import { $, colour, haloed, nats, sharp } from "./paint.js";
import { gridPosterior, massLevels } from "./posterior.js";

const BUDGET = 3000; // milliseconds for one grid

export function mountExact(app) {
  let found = null;
  let running = 0;

  async function compute() {
    const mine = ++running;
    const { model, example, exampleLabel, q, exampleKey } = app;
    let begun = performance.now();
    for (let i = 0; i < 5; i++) model.logLikelihood(example, model.decode([i / 5, 0], exampleLabel));
    const each = (performance.now() - begun) / 5;
    const n = 2 * Math.round(Math.min(Math.max(Math.sqrt(BUDGET / each), 24), 60) / 2) + 1;
    const steps = gridPosterior(model, example, exampleLabel, q, n, n);
    begun = performance.now();
    for (let step = steps.next(); ; step = steps.next()) {
      if (step.done) {
        found = { ...step.value, q, key: exampleKey };
        break;
      }
      if (performance.now() - begun < 25) continue;
      $("exact-said").textContent = "computing …";
      await new Promise((go) => setTimeout(go));
      if (mine !== running) return;
      begun = performance.now();
    }
    show();
  }

  function show() {
    $("e-logp").textContent = nats(found?.logP ?? null);
    $("e-elbo").textContent = nats(found?.elbo ?? null);
    $("e-gap").textContent = nats(found?.gap ?? null);
    $("exact-said").textContent = found ? `${found.axes[0].length}² points; log p(x) is known to ${Math.max(found.error, 1e-6).toPrecision(1)} nats` : "";
    draw();
  }

  function draw() {
    const { context, width: size } = sharp($("exact"));
    if (!found) return;
    const { axes, density, q } = found;
    const n = axes[0].length;
    const levels = massLevels(density);
    // seen is where all but a hundredth lies, and q
    const sigma = Array.from(q.logvar, (v) => Math.exp(v / 2));
    const ends = [0, 1].map((k) => [q.mean[k] - 2.4 * sigma[k], q.mean[k] + 2.4 * sigma[k]]);
    density.forEach((d, at) => {
      if (d < levels[2]) return;
      [axes[0][Math.floor(at / n)], axes[1][at % n]].forEach((z, k) => (ends[k] = [Math.min(ends[k][0], z), Math.max(ends[k][1], z)]));
    });
    const half = 0.55 * Math.max(ends[0][1] - ends[0][0], ends[1][1] - ends[1][0]);
    const middle = ends.map(([low, high]) => (low + high) / 2);
    const toPixels = (u, v) => [((u - middle[0]) / half + 1) * (size / 2), (1 - (v - middle[1]) / half) * (size / 2)];
    const at = (u, v) => {
      const place = [u, v].map((z, k) => ((z - axes[k][0]) / (axes[k][n - 1] - axes[k][0])) * (n - 1));
      const [i, j] = place.map(Math.floor);
      if (i < 0 || j < 0 || i >= n - 1 || j >= n - 1) return 0;
      const [f, g] = [place[0] - i, place[1] - j];
      const d = (a, b) => density[(i + a) * n + j + b];
      return (1 - f) * ((1 - g) * d(0, 0) + g * d(0, 1)) + f * ((1 - g) * d(1, 0) + g * d(1, 1));
    };
    const shades = [0.75, 0.45, 0.2];
    context.fillStyle = colour("accent");
    const step = 2;
    for (let py = 0; py < size; py += step)
      for (let px = 0; px < size; px += step) {
        const d = at(middle[0] + ((px + step / 2) / (size / 2) - 1) * half, middle[1] + (1 - (py + step / 2) / (size / 2)) * half);
        const band = levels.findIndex((level) => d >= level);
        if (band < 0) continue;
        context.globalAlpha = shades[band];
        context.fillRect(px, py, step, step);
      }
    context.globalAlpha = 1;
    const scale = size / (2 * half);
    for (const radius of [1, 2])
      for (const [style, width] of [[colour("paper"), 4], [colour("warm"), 2]]) {
        context.strokeStyle = style;
        context.lineWidth = width;
        context.beginPath();
        context.ellipse(...toPixels(q.mean[0], q.mean[1]), radius * sigma[0] * scale, radius * sigma[1] * scale, 0, 0, 2 * Math.PI);
        context.stroke();
      }
    context.font = "12px system-ui, sans-serif";
    const said = (v) => v.toFixed(2).replace("-", "−");
    haloed(context, `z1 from ${said(middle[0] - half)} to ${said(middle[0] + half)}`, 6, size - 8, colour("ink"));
    haloed(context, `z2 from ${said(middle[1] - half)} to ${said(middle[1] + half)}`, 6, 16, colour("ink"));
  }

  $("exact-go").addEventListener("click", compute);
  app.store.subscribe(() => {
    const there = app.model.latent === 2 && ["vae", "cvae"].includes(app.model.kind);
    $("panel-exact").hidden = !there;
    if (!there) return;
    if (found?.key !== app.exampleKey) {
      running++;
      if (found) {
        found = null;
        show();
      } else $("exact-said").textContent = "";
    }
  });
  return { redraw: draw };
}
