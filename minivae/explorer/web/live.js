// News of a run that is being trained, from the server that the page came from.

import { $ } from "./paint.js";

const EVERY = 2000; // milliseconds

export function mountLive(app) {
  if (!app.page.live) return;
  let epochs = app.page.runs[0].metrics.length;

  async function ask() {
    try {
      const news = await (await fetch("/news")).json();
      trouble(news.error);
      if (news.epochs !== epochs && !news.error) {
        const answer = await fetch("/run");
        if (!answer.ok) throw new Error(await answer.text());
        app.replace(0, await answer.json());
        epochs = news.epochs;
        app.store.all();
      }
    } catch (error) {
      trouble(`No news of the run: ${error.message}. The page goes on with what it has.`);
    }
    setTimeout(ask, EVERY);
  }

  setTimeout(ask, EVERY);
}

export function trouble(sentence) {
  $("trouble").textContent = sentence;
  $("trouble").hidden = !sentence;
}
