// The map: a plane through the space of codes, the examples on it, and a point that can be dragged.

import { ellipse, moveTo, planeOf, project } from "./geometry.js";
import { $, classColour, colour, haloed, paint, sharp } from "./paint.js";
import { median, clamp } from "./numbers.js";

const SHOWN = 40; // posteriors
const TILES = 13; // pictures along an axis
const STEP = 0.1;

export function mountMap(app) {
  const canvas = $("map");
  const ground = document.createElement("canvas"); // what stays while the point moves
  let tilesOf = null; // the picture of pictures, and what it was made for
  let making = 0;

  const plane = () => planeOf(app.run, app.state);

  /** Half the width of what is seen: all but a few codes, and three standard deviations of the prior. */
  function reach() {
    const { run, model } = app;
    return app.once("reach", `${app.state.run}/${plane().key}`, () => {
      const away = [];
      for (let i = 0; i < run.count; i++)
        for (const p of project(plane(), run.codes.subarray(i * model.latent, (i + 1) * model.latent))) away.push(Math.abs(p));
      away.sort((a, b) => a - b);
      return Math.max(model.kind === "ae" ? 0 : 3.3, 1.08 * (away[Math.floor(0.995 * (away.length - 1))] ?? 0)) || 1;
    });
  }

  const toPixels = ([u, v], size) => [((u / reach() + 1) * size) / 2, ((1 - v / reach()) * size) / 2];

  function drawEllipse(context, shape, size, factor, style, width) {
    const [x, y] = toPixels(shape.centre, size);
    const scale = (factor * size) / (2 * reach());
    context.strokeStyle = style;
    context.lineWidth = width;
    context.beginPath();
    context.ellipse(x, y, shape.radii[0] * scale, shape.radii[1] * scale, -shape.angle, 0, 2 * Math.PI);
    context.stroke();
  }

  function drawAxes(context, size, names) {
    context.strokeStyle = colour("faint");
    context.lineWidth = 1;
    context.fillStyle = colour("soft");
    context.font = "12px system-ui, sans-serif";
    const step = reach() > 12 ? 5 : reach() > 6 ? 2 : 1;
    for (let tick = -Math.floor(reach() / step) * step; tick < reach(); tick += step) {
      const [x, y] = toPixels([tick, tick], size);
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, size);
      context.moveTo(0, y);
      context.lineTo(size, y);
      context.stroke();
      context.textAlign = "center";
      if (x > 24 && x < size - 12) context.fillText(String(tick).replace("-", "−"), x, size - 5);
      context.textAlign = "left";
      if (y > 24 && y < size - 24) context.fillText(String(tick).replace("-", "−"), 4, y + 4);
    }
    context.textAlign = "right";
    haloed(context, `${names[0]} →`, size - 6, size - 20, colour("ink"));
    context.textAlign = "left";
    if (names[1]) haloed(context, `↑ ${names[1]}`, 6, 16, colour("ink"));
  }

  /** The dots, and the name of each class at the middle of its dots. */
  function drawCodes(context, size) {
    const { run, model } = app;
    const groups = new Map();
    const order = new Map(app.classes.map(({ label }, i) => [label, i]));
    context.globalAlpha = app.state.tiles ? 0.35 : 0.7;
    for (let i = 0; i < run.count; i++) {
      const place = project(plane(), run.codes.subarray(i * model.latent, (i + 1) * model.latent));
      const index = order.get(app.labelOf(i));
      const [x, y] = toPixels(place, size);
      context.fillStyle = index === undefined ? colour("accent") : shades[index % shades.length];
      context.fillRect(x - 1.5, y - 1.5, 3, 3);
      if (index !== undefined) (groups.get(index) ?? groups.set(index, [[], []]).get(index)).forEach((values, k) => values.push(place[k]));
    }
    context.globalAlpha = 1;
    context.font = "bold 14px system-ui, sans-serif";
    context.textAlign = "center";
    for (const [index, [us, vs]] of groups)
      haloed(context, app.classes[index].name, ...toPixels([median(us), median(vs)], size), shades[index % shades.length]);
  }

  let shades = [];

  function drawGround() {
    ground.width = canvas.width;
    ground.height = canvas.height;
    shades = Array.from({ length: 10 }, (_, i) => classColour(i));
    const size = canvas.clientWidth;
    const context = ground.getContext("2d");
    context.scale(ground.width / size, ground.height / size);
    if (app.state.tiles && tilesOf) {
      context.imageSmoothingEnabled = false;
      context.drawImage(tilesOf.canvas, 0, 0, size, size);
    }
    const { names, ...axes } = plane();
    if (!app.state.tiles) drawAxes(context, size, names);
    drawCodes(context, size);
    const prior = app.model.prior(app.state.label);
    if (prior) for (const radius of [1, 2, 3]) drawEllipse(context, ellipse(axes, prior), size, radius, colour("soft"), 1);
    if (app.state.ellipses && app.q.logvar)
      for (const shape of posteriors(axes)) drawEllipse(context, shape, size, 1, colour("soft"), 1.2);
  }

  function posteriors(axes) {
    return app.once("posteriors", `${app.state.run}/${plane().key}`, () =>
      Array.from({ length: Math.min(SHOWN, app.page.data.count) }, (_, i) => ellipse(axes, app.model.encode(app.test(i), app.labelOf(i) ?? 0))));
  }

  function draw() {
    const { context, width: size } = sharp(canvas);
    context.drawImage(ground, 0, 0, size, size);
    const axes = plane();
    if (app.q.logvar) {
      const shape = ellipse(axes, app.q);
      for (const radius of [1, 2]) {
        drawEllipse(context, shape, size, radius, colour("paper"), 4);
        drawEllipse(context, shape, size, radius, colour("warm"), 2);
      }
    }
    const [x, y] = toPixels(project(axes, app.state.z), size);
    context.beginPath();
    context.arc(clamp(x, 4, size - 4), clamp(y, 4, size - 4), 9, 0, 2 * Math.PI);
    context.fillStyle = colour("accent");
    context.fill();
    context.lineWidth = 3;
    context.strokeStyle = colour("paper");
    context.stroke();
    const [u, v] = project(axes, app.state.z).map((p) => p.toFixed(2));
    canvas.setAttribute("aria-label", `map of the codes; the point is at ${axes.names[0]} ${u}${axes.names[1] ? `, ${axes.names[1]} ${v}` : ""}`);
  }

  /** A grid of pictures of the plane, some at a time, so that the page stays awake. */
  async function makeTiles() {
    const mine = ++making;
    const axes = plane();
    const height = app.shape[0];
    const width = app.shape.length === 3 ? app.shape[1] : height;
    const large = document.createElement("canvas");
    large.width = TILES * width;
    large.height = TILES * height;
    const small = document.createElement("canvas");
    let last = performance.now();
    for (let i = 0; i < TILES * TILES; i++) {
      const [row, column] = [Math.floor(i / TILES), i % TILES];
      const [u, v] = [((2 * column + 1) / TILES - 1) * reach(), (1 - (2 * row + 1) / TILES) * reach()];
      paint(small, app.model.mean(moveTo(axes, app.state.z, u, v), app.state.label), app.shape, app.range);
      large.getContext("2d").drawImage(small, column * width, row * height, width, height);
      if (performance.now() - last < 12) continue;
      await new Promise((go) => setTimeout(go));
      if (mine !== making) return;
      last = performance.now();
    }
    tilesOf = { canvas: large };
    drawGround();
    draw();
  }

  /** What the grid of pictures depends on: the plane, and where it lies. */
  function tilesKey() {
    const { run, label, z } = app.state;
    return `${run}/${label}/${plane().key}/${moveTo(plane(), z, 0, 0).map((v) => v.toFixed(2))}`;
  }

  function render(state, changed) {
    const any = (...names) => names.some((name) => changed.has(name));
    sharp(canvas);
    if (state.tiles && (tilesKey() !== tilesOf?.key || changed.has("tiles")) && any("tiles", "run", "label", "x", "y", "principal", "z")) {
      if (tilesOf?.key !== tilesKey() && wanted !== tilesKey()) {
        wanted = tilesKey();
        makeTiles().then(() => tilesOf && (tilesOf.key = wanted));
      }
    }
    if (any("run", "x", "y", "principal", "tiles", "ellipses") || (any("label") && app.model.conditionSize)) drawGround();
    draw();
  }

  let wanted = "";

  function toPoint(event) {
    const box = canvas.getBoundingClientRect();
    const u = (2 * (event.clientX - box.left)) / box.width - 1;
    const v = 1 - (2 * (event.clientY - box.top)) / box.height;
    app.store.update({ z: moveTo(plane(), app.state.z, clamp(u, -1, 1) * reach(), clamp(v, -1, 1) * reach()) });
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    toPoint(event);
    event.preventDefault();
  });
  canvas.addEventListener("pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && toPoint(event));
  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!way) return;
    const step = event.shiftKey ? 5 * STEP : STEP;
    const [u, v] = project(plane(), app.state.z);
    app.store.update({ z: moveTo(plane(), app.state.z, u + step * way[0], v + step * way[1]) });
    event.preventDefault();
  });
  mountControls(app);
  app.store.subscribe(render);
}

/** What lies across and up, and what is drawn. */
function mountControls(app) {
  const selects = { x: $("axis-x"), y: $("axis-y") };
  const boxes = { principal: $("principal"), tiles: $("tiles"), ellipses: $("ellipses") };
  for (const [name, select] of Object.entries(selects))
    select.addEventListener("change", () => app.store.update({ [name]: Number(select.value), principal: false }));
  for (const [name, box] of Object.entries(boxes)) box.addEventListener("change", () => app.store.update({ [name]: box.checked }));

  app.store.subscribe((state, changed) => {
    const { run, model } = app;
    if (changed.has("run")) {
      for (const select of Object.values(selects)) {
        select.replaceChildren(...run.order.map((k) => new Option(run.kl ? `z${k + 1}, ${run.kl[k].toFixed(2)} nats` : `z${k + 1}`, k)));
      }
      $("principal-choice").hidden = model.latent < 3;
      $("ellipses-choice").hidden = model.kind === "ae";
      $("legend").replaceChildren(...app.classes.map(({ name }, i) => {
        const item = document.createElement("li");
        const swatch = document.createElement("span");
        swatch.className = "swatch";
        swatch.style.background = classColour(i);
        item.append(swatch, name);
        return item;
      }));
    }
    for (const [name, select] of Object.entries(selects)) select.value = state[name];
    for (const [name, box] of Object.entries(boxes)) box.checked = state[name];
  });
}
