// The picture at the point, the example beside it, and what both come to in nats.

import { $, nats, paint } from "./paint.js";

export function mountPicture(app) {
  mountLabels(app);
  $("to-mean").addEventListener("click", () => app.toMean());
  $("save").addEventListener("click", () => savePicture(app));

  let speaking = 0;
  app.store.subscribe((state) => {
    paint($("picture"), app.picture(), app.shape, app.range);
    paint($("example"), app.example, app.shape, app.range);
    paint($("again"), app.reconstruction(), app.shape, app.range);
    const { model, q } = app;
    const reconstruction = -model.logLikelihood(app.example, app.decoded);
    const known = model.kind !== "ae";
    const ratio = known ? model.logPosterior(state.z, q) - model.logPrior(state.z, app.exampleLabel) : null;
    $("n-reconstruction").textContent = nats(reconstruction);
    $("n-ratio").textContent = nats(ratio);
    $("n-sum").textContent = nats(known ? reconstruction + ratio : null);
    $("n-kl").textContent = nats(model.kl(q, app.exampleLabel));
    clearTimeout(speaking);
    speaking = setTimeout(() => {
      $("n-elbo").textContent = nats(known ? app.negativeElbo() : null);
      const where = state.z.length > 4 ? "" : `z is ${state.z.map((v) => v.toFixed(2)).join(", ")}; `;
      $("spoken").textContent = `${where}reconstruction ${nats(reconstruction)} nats`;
    }, 400);
  });
}

/** For a model with a condition: which label the decoder is given. */
function mountLabels(app) {
  const group = $("labels");
  app.store.subscribe((state, changed) => {
    group.hidden = !app.model.conditionSize;
    if (group.hidden) return;
    if (group.childElementCount !== app.model.conditionSize) {
      group.replaceChildren(...Array.from({ length: app.model.conditionSize }, (_, label) => {
        const button = document.createElement("button");
        button.type = "button";
        button.setAttribute("role", "radio");
        button.textContent = app.page.data.classes[label] ?? String(label);
        button.addEventListener("click", () => app.store.update({ label }));
        button.addEventListener("keydown", (event) => {
          const way = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
          if (!way) return;
          const next = (label + way + app.model.conditionSize) % app.model.conditionSize;
          app.store.update({ label: next });
          group.children[next].focus();
          event.preventDefault();
        });
        return button;
      }));
    }
    for (const [label, button] of [...group.children].entries()) {
      button.setAttribute("aria-checked", String(label === state.label));
      button.tabIndex = label === state.label ? 0 : -1;
    }
  });
}

/** The picture at the point as a PNG, at least 512 pixels wide. */
function savePicture(app) {
  const small = $("picture");
  const factor = Math.max(1, Math.ceil(512 / small.width));
  const large = document.createElement("canvas");
  large.width = factor * small.width;
  large.height = factor * small.height;
  const context = large.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, large.width, large.height);
  large.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `z=${app.state.z.slice(0, 4).map((v) => v.toFixed(2)).join(",")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
}
