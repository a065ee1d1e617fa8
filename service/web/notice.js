// Messages to the person: what happened, what to do, and at most one thing to press.

import { byId, make } from "./element.js";

// `action` is { label, run } of a button beside the text.
export function say(text, { bad = false, action = null } = {}) {
  const notice = byId("notice");
  notice.replaceChildren(make("span", { textContent: text }));
  if (action) notice.append(button(action.label, action.run, "small"));
  if (text) notice.append(button("Dismiss", () => say(""), "small quiet"));
  notice.classList.toggle("bad", bad);
  notice.hidden = !text;
}

const STATES = {
  starting: "Starting… The model is being loaded. The page goes on by itself.",
  away: "The service does not answer. What you have begun waits here, and goes on when the service is back.",
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

function button(label, run, className) {
  const made = make("button", { type: "button", textContent: label, className });
  made.addEventListener("click", run);
  return made;
}
