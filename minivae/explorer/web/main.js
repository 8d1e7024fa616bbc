// The page: its parts are put on, and the address follows what is seen.

import { App } from "./app.js";
import { $ } from "./paint.js";
import { mountMap } from "./map.js";
import { mountPicture } from "./picture.js";
import { mountSliders } from "./sliders.js";
import { mountExamples, mountBetween } from "./examples.js";
import { mountPad } from "./pad.js";
import { mountSamples } from "./samples.js";
import { mountExact } from "./exact.js";
import { mountLosses, mountRuns } from "./charts.js";
import { mountLive, trouble } from "./live.js";
import { write } from "./state.js";

addEventListener("error", (event) => trouble(`The page has stopped: ${event.message}; please report it.`));

const page = JSON.parse($("payload").textContent);
const app = new App(page);

function describe() {
  const { name, model, objective } = app.run;
  const kind = { vae: "VAE", ae: "autoencoder", cvae: "conditional VAE", hierarchical: "VAE of two layers" }[model.kind];
  const settings = Object.entries(objective).filter(([key]) => key !== "objective").map(([key, value]) => `${key} ${value}`);
  $("title").textContent = name;
  $("about").textContent = [
    `${kind}, ${model.latent} latents, ${model.parameters.toLocaleString("en")} parameters`, `${model.likelihood} likelihood`,
    ...(objective.objective ? [[objective.objective, ...settings].join(", ")] : []), `test examples of ${page.data.name}`,
  ].join("; ");
}

let writing = 0;
let written = "";
app.store.subscribe((state, changed) => {
  if (changed.has("run")) describe();
  clearTimeout(writing);
  writing = setTimeout(() => {
    written = `#${write(app.state)}`;
    history.replaceState(null, "", written);
  }, 250);
});
addEventListener("hashchange", () => location.hash !== written && app.store.update(app.start()));

mountPicture(app);
mountMap(app);
mountSliders(app);
mountExamples(app);
mountBetween(app);
mountPad(app);
mountSamples(app);
const exact = mountExact(app);
mountRuns(app);
mountLosses(app);
mountLive(app);
$("foot").textContent = `minivae ${page.version}. This page holds the weights and decodes in your browser; it sends nothing anywhere.`;

let resizing = 0;
addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(again, 100);
});
function again() {
  app.store.all();
  exact.redraw();
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);

const wrong = app.disagreement();
if (wrong) trouble(wrong);
app.store.all();
document.documentElement.dataset.ready = "yes";
window.minivae = app; // for the curious, at the console
