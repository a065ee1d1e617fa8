// The panel that shows how an upload goes.

import { addImage } from "./api.js";
import { byId, make } from "./element.js";
import { UploadQueue } from "./queue.js";
import { count } from "./words.js";

const BROKEN_OFF = "precis-upload"; // in the tab's storage while an upload runs
let leftOut = 0; // files of a folder that are no pictures

// `onStored` is called with each image as it arrives, and its collection. Returns a function that adds files to one.
export function startUploads({ onStored }) {
  const queue = new UploadQueue({ send: addImage, onStored, onChange: () => show(queue) });
  byId("upload-pause").addEventListener("click", () => (queue.isPaused ? queue.resume() : queue.pause()));
  byId("upload-cancel").addEventListener("click", () => queue.cancel());
  byId("upload-retry").addEventListener("click", () => queue.retry());
  byId("upload-close").addEventListener("click", () => {
    leftOut = 0;
    queue.clear();
  });
  window.addEventListener("beforeunload", (event) => {
    if (queue.isBusy) event.preventDefault(); // the browser asks whether to leave
  });
  return (files, collection, others = 0) => {
    if (!queue.isBusy) queue.clear();
    leftOut = (queue.isBusy ? leftOut : 0) + others;
    queue.add(files.map((file) => ({ file, collection })));
  };
}

// What to say of an upload that a reload broke off; "" if none was.
export function brokenOff() {
  const kept = sessionStorage.getItem(BROKEN_OFF);
  sessionStorage.removeItem(BROKEN_OFF);
  if (!kept) return "";
  const { done, total } = JSON.parse(kept);
  return (
    `The upload was interrupted after ${done} of ${count(total, "file")}. ` +
    "Add the same files again: those that have arrived are not stored twice."
  );
}

function show(queue) {
  const { done, total, failed, cancelled, isBusy, isPaused } = queue;
  byId("uploads").hidden = total + leftOut + cancelled === 0;
  byId("upload-state").textContent = state(queue);
  byId("upload-progress").hidden = !isBusy;
  byId("upload-progress").max = total;
  byId("upload-progress").value = done;
  byId("upload-pause").hidden = byId("upload-cancel").hidden = !isBusy;
  byId("upload-pause").textContent = isPaused ? "Resume" : "Pause";
  byId("upload-retry").hidden = !failed.some(({ mayPass }) => mayPass);
  byId("upload-close").hidden = isBusy;
  byId("upload-failures").replaceChildren(...failures(failed).map((textContent) => make("li", { textContent })));
  byId("upload-failures").hidden = failed.length === 0;
  if (isBusy) sessionStorage.setItem(BROKEN_OFF, JSON.stringify({ done, total }));
  else sessionStorage.removeItem(BROKEN_OFF);
}

// A line for each reason, with the names of its files.
function failures(failed) {
  const names = new Map();
  for (const { item, reason } of failed) names.set(reason, [...(names.get(reason) ?? []), item.file.name]);
  return [...names].map(([reason, named]) => `${named.join(", ")}: ${reason}`);
}

function state({ stored, failed, cancelled, done, total, isBusy, isPaused }) {
  const parts = [];
  if (isBusy) parts.push(`${isPaused ? "Paused" : "Adding"}: ${done} of ${total}`);
  else parts.push(stored.created ? `Added ${count(stored.created, "picture")}` : "Added no pictures");
  if (stored.exists) parts.push(`${stored.exists} already in the library`);
  if (failed.length) parts.push(`${failed.length} failed`);
  if (cancelled) parts.push(`${cancelled} cancelled`);
  if (leftOut) parts.push(`${count(leftOut, "other file")} skipped`);
  return parts.join(", ");
}
