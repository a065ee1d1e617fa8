// Messages to the person: what happened, and what to do.

import { byId, make } from "./element.js";

const GOOD_NEWS_S = 8;
let timer = null;

// Good news leaves by itself; what is bad stays until it is dismissed or replaced.
export function say(text, { bad = false } = {}) {
  const notice = byId("notice");
  const dismiss = make("button", { type: "button", textContent: "Dismiss", className: "small quiet" });
  dismiss.addEventListener("click", () => say(""));
  notice.replaceChildren(make("span", { textContent: text }), make("div", { className: "buttons" }, dismiss));
  notice.classList.toggle("bad", bad);
  notice.hidden = !text;
  clearTimeout(timer);
  if (!bad) timer = setTimeout(() => (notice.hidden = true), GOOD_NEWS_S * 1000);
}

// Takes back a message that no longer holds, unless another has replaced it.
export function unsay(text) {
  if (text && byId("notice").firstElementChild?.textContent === text) say("");
}

const STATES = {
  starting: "Starting… The model is loading. This page continues by itself.",
  away: "The service is not responding. What you have begun continues when it is back.",
  ready: "",
};

// Says how the service is: "starting", "away" or "ready".
export function sayState(state) {
  byId("state").textContent = STATES[state];
  byId("state").hidden = state === "ready";
}

// Everything behind a dialog is out of reach, so the messages move into the one that is open.
export function moveNotices(place) {
  place.prepend(byId("notices"));
}
