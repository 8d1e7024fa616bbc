// Plots of a run's losses and of a sweep's runs.

import { $, classColour, colour, haloed, nats, sharp } from "./paint.js";

const MARGIN = { left: 52, right: 12, top: 12, bottom: 30 };

/** Axes with round ticks around points; -> (x, y) to pixels */
function frame({ context, width, height }, xs, ys, xName, yName) {
  const ends = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const pad = (high - low || Math.abs(high) || 1) * 0.06;
    return [low - pad, high + pad];
  };
  const [[x0, x1], [y0, y1]] = [ends(xs), ends(ys)];
  const { left, right, top, bottom } = MARGIN;
  const place = (x, y) => [left + ((x - x0) / (x1 - x0)) * (width - left - right), height - bottom - ((y - y0) / (y1 - y0)) * (height - top - bottom)];
  context.font = "12px system-ui, sans-serif";
  context.strokeStyle = colour("faint");
  context.fillStyle = colour("soft");
  for (const [low, high, across] of [[x0, x1, true], [y0, y1, false]]) {
    const raw = (high - low) / (across ? 6 : 4);
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((m) => m * unit >= raw) * unit;
    for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) {
      const [px, py] = across ? place(tick, y0) : place(x0, tick);
      context.beginPath();
      context.moveTo(px, py);
      context.lineTo(across ? px : width - right, across ? top : py);
      context.stroke();
      context.textAlign = across ? "center" : "right";
      context.fillText(Number(tick.toPrecision(6)), across ? px : px - 6, across ? py + 14 : py + 4);
    }
  }
  context.textAlign = "right";
  haloed(context, xName, width - right, height - 4, colour("soft"));
  context.textAlign = "left";
  haloed(context, yName, left + 4, top + 8, colour("soft"));
  return place;
}

/** Losses of the training and of the test examples, epoch by epoch. */
export function mountLosses(app) {
  const canvas = $("losses");
  function draw() {
    const { metrics } = app.run;
    $("panel-losses").hidden = !(metrics.length || app.page.live);
    if (!metrics.length || canvas.hidden) return;
    const plot = sharp(canvas);
    const parts = ["train", "test"].filter((part) => metrics.some((line) => Number.isFinite(line[part]?.loss)));
    const points = parts.map((part) => metrics.filter((line) => Number.isFinite(line[part]?.loss)).map((line) => [line.epoch, line[part].loss]));
    const place = frame(plot, points.flat().map(([x]) => x), points.flat().map(([, y]) => y), "epoch", "nats per example");
    const { context } = plot;
    points.forEach((list, i) => {
      context.strokeStyle = context.fillStyle = colour(i ? "warm" : "accent");
      context.setLineDash(i ? [6, 3] : []);
      context.lineWidth = 2;
      context.beginPath();
      for (const [x, y] of list) context.lineTo(...place(x, y));
      context.stroke();
      context.setLineDash([]);
      for (const [x, y] of list.length < 40 ? list : []) context.fillRect(place(x, y)[0] - 2, place(x, y)[1] - 2, 4, 4);
      const [x, y] = place(...list[list.length - 1]);
      context.textAlign = "right";
      haloed(context, parts[i], x - 4, y + (i ? -6 : 14), context.fillStyle);
    });
    const last = metrics[metrics.length - 1];
    const terms = last.test ?? last.train ?? {};
    $("losses-said").textContent = `epoch ${last.epoch}; test loss ${nats(terms.loss ?? null)} nats${"kl" in terms ? ` = ${nats(terms.reconstruction)} + KL ${nats(terms.kl)}` : ""}`;
    canvas.setAttribute("aria-label", `loss curves, to ${$("losses-said").textContent}`);
  }
  app.store.subscribe((state, changed) => changed.has("run") && draw());
}

/** A slider over the runs of a sweep, and the trade that each has made: nats of the code against nats of the picture. */
export function mountRuns(app) {
  const { runs } = app.page;
  if (runs.length < 2) return;
  $("panel-runs").hidden = false;
  const slider = $("run");
  slider.max = String(runs.length - 1);
  const field = ["beta", "gamma"].find((name) => name in runs[0].objective);
  const weight = (run) => (field ? `${field === "beta" ? "β" : "γ"} = ${run.objective[field]}` : run.name);
  $("run-weight").textContent = field === "gamma" ? "γ" : field ? "β" : "run";
  slider.addEventListener("input", () => {
    const run = Number(slider.value);
    const next = app.prepare(run);
    // the same example in the other model: the point is the mean of its own posterior
    const z = next.model.encode(app.example, app.exampleLabel).mean;
    const patch = { run, z: Array.from(z) };
    for (const name of ["x", "y"]) if (app.state[name] >= next.model.latent) patch[name] = next.order[name === "x" ? 0 : Math.min(1, next.model.latent - 1)];
    app.store.update(patch);
  });
  app.store.subscribe((state, changed) => {
    if (!changed.has("run")) return;
    slider.value = String(state.run);
    slider.setAttribute("aria-label", `run ${state.run + 1} of ${runs.length}, by the weight of the KL`);
    slider.setAttribute("aria-valuetext", `${runs[state.run].name}, ${weight(runs[state.run])}`);
    $("run-said").textContent = weight(runs[state.run]);
    const ends = runs.map((run) => run.metrics.at(-1)?.test).map((test) => (Number.isFinite(test?.kl) ? [test.kl, test.reconstruction] : null));
    const there = ends.filter(Boolean);
    $("rates").hidden = !there.length;
    if (!there.length) return;
    const plot = sharp($("rates"));
    const place = frame(plot, there.map(([x]) => x), there.map(([, y]) => y), "KL, nats", "reconstruction, nats");
    runs.forEach((run, i) => {
      if (!ends[i]) return;
      const [x, y] = place(...ends[i]);
      plot.context.fillStyle = i === state.run ? colour("warm") : classColour(0);
      plot.context.beginPath();
      plot.context.arc(x, y, i === state.run ? 8 : 5, 0, 2 * Math.PI);
      plot.context.fill();
      plot.context.textAlign = x > plot.width - 80 ? "right" : "left";
      haloed(plot.context, weight(run), x + (x > plot.width - 80 ? -11 : 11), y + 4, colour("ink"));
    });
  });
}
