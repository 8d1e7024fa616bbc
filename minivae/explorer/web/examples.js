// The test examples to choose from, and the way between two of them.

import { $, paint, thumb } from "./paint.js";
import { lerp, slerp } from "./geometry.js";

const EXAMPLES_SHOWN = 60;
const STEPS = 9;

export function mountExamples(app) {
  const place = $("examples");
  const buttons = Array.from({ length: Math.min(EXAMPLES_SHOWN, app.page.data.count) }, (_, i) => {
    const button = thumb(app.nameOf(i), () => app.choose(i));
    paint(button.firstChild, app.test(i), app.shape, app.range);
    return button;
  });
  place.replaceChildren(...buttons);
  app.store.subscribe((state) => {
    for (const [i, button] of buttons.entries()) button.setAttribute("aria-pressed", String(!state.isDrawn && i === state.image));
  });
}

export function mountBetween(app) {
  const ends = { a: $("set-a"), b: $("set-b") };
  for (const [name, button] of Object.entries(ends)) {
    button.append(document.createElement("canvas"));
    button.addEventListener("click", () => app.store.update({ [name]: app.state.image }));
  }
  $("t").addEventListener("input", () => go(Number($("t").value)));
  $("way-line").addEventListener("change", () => app.store.update({ arc: false }));
  $("way-arc").addEventListener("change", () => app.store.update({ arc: true }));

  /** The code at t on the way; null where there is no arc. */
  function at(t) {
    const { a, b, arc, run } = app.state;
    const [from, to] = [a, b].map((image) =>
      app.once(`end ${image}`, `${run}/${image}`, () => app.model.encode(app.test(image), app.labelOf(image) ?? 0).mean));
    return arc ? slerp(from, to, t) : lerp(from, to, t);
  }

  function go(t) {
    const z = at(t);
    if (z) app.store.update({ t, z });
  }

  function strip(state) {
    const canvas = $("between");
    const height = app.shape[0];
    const width = app.shape.length === 3 ? app.shape[1] : height;
    canvas.width = STEPS * width;
    canvas.height = height;
    const small = document.createElement("canvas");
    for (let i = 0; i < STEPS; i++) {
      const z = at(i / (STEPS - 1));
      if (!z) return;
      paint(small, app.model.mean(z, state.label), app.shape, app.range);
      canvas.getContext("2d").drawImage(small, i * width, 0, width, height);
    }
  }

  app.store.subscribe((state, changed) => {
    const moved = ["a", "b", "arc", "run", "label"].some((name) => changed.has(name));
    if (moved) {
      for (const [name, button] of Object.entries(ends)) {
        paint(button.firstChild, app.test(state[name]), app.shape, app.range);
        button.setAttribute("aria-label", `${name === "a" ? "start" : "end"}: ${app.nameOf(state[name])}; put the chosen example here`);
      }
      strip(state);
    }
    $("way-line").checked = !state.arc;
    $("way-arc").checked = state.arc;
    $("t").value = String(state.t);
    $("t-said").textContent = state.t.toFixed(2);
    const z = at(state.t);
    $("between-said").textContent = z ? `|z| is ${Math.hypot(...z).toFixed(2)} at t; ${Math.hypot(...at(0)).toFixed(2)} and ${Math.hypot(...at(1)).toFixed(2)} at the ends`
      : "No arc is the one: an end is 0, or they are opposite; take the straight line.";
  });
}
