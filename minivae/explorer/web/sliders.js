// A slider for each latent, those that say most first.

import { $ } from "./paint.js";

export function mountSliders(app) {
  const place = $("sliders");
  let rows = [];

  function build() {
    const { run } = app;
    const largest = run.kl ? Math.max(...run.kl, 1e-6) : 0;
    rows = run.order.map((k) => {
      const row = document.createElement("div");
      row.className = run.active[k] ? "latent" : "latent dead";
      const name = document.createElement("span");
      name.textContent = `z${k + 1}`;
      const input = document.createElement("input");
      input.type = "range";
      input.min = String(run.centre[k] - 3 * run.spread[k]);
      input.max = String(run.centre[k] + 3 * run.spread[k]);
      input.step = "any";
      input.addEventListener("input", () => {
        const z = [...app.state.z];
        z[k] = Number(input.value);
        app.store.update({ z });
      });
      input.addEventListener("keydown", (event) => {
        const way = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -5, PageUp: 5 }[event.key];
        if (!way) return; // a slider of any step leaves the size of a step to the browser, which takes a large one
        const z = [...app.state.z];
        z[k] = Math.min(Math.max(z[k] + way * 0.1 * run.spread[k], Number(input.min)), Number(input.max));
        app.store.update({ z });
        event.preventDefault();
      });
      const value = document.createElement("output");
      const about = document.createElement("div");
      about.className = "about";
      const words = [];
      if (run.kl) {
        const gauge = document.createElement("span");
        gauge.className = "gauge";
        const filled = document.createElement("i");
        filled.style.width = `${(100 * Math.max(run.kl[k], 0)) / largest}%`;
        gauge.append(filled);
        about.append(gauge);
        words.push(`${run.kl[k].toFixed(2)} nats`);
      }
      if (!run.active[k]) words.push("says nothing");
      else if (run.roles[k]) words.push(`${run.roles[k][0]} (${Math.round(100 * run.roles[k][1])}%)`);
      about.append(words.join(", "));
      input.setAttribute("aria-label", `latent ${k + 1}${words.length ? `: ${words.join(", ")}` : ""}`);
      row.append(name, input, value, about);
      return { k, row, input, value };
    });
    place.replaceChildren(...rows.map(({ row }) => row));
    $("latents-help").textContent = run.kl
      ? "Ordered by their KL, mean over the test examples; gray ones say nothing. From −3σ to +3σ of the prior. In brackets: the share of the latent's variance that the attribute explains."
      : "Ordered by the variance of their codes; from −3 to +3 standard deviations of these. In brackets: the share of the variance that the attribute explains.";
  }

  app.store.subscribe((state, changed) => {
    if (changed.has("run")) build();
    for (const { k, input, value } of rows) {
      if (document.activeElement !== input || Number(input.value) !== state.z[k]) input.value = String(state.z[k]);
      value.textContent = state.z[k].toFixed(2).replace("-", "−");
      input.setAttribute("aria-valuetext", state.z[k].toFixed(2));
    }
  });
}
