// The page: library, search, uploads, deletion.

import * as api from "./api.js";
import { startAsking } from "./asking.js";
import { startDetails } from "./details.js";
import { Gallery } from "./gallery.js";
import * as pictures from "./pictures.js";
import { bytes, count, name } from "./words.js";

const UPLOADS_AT_ONCE = 4;
const $ = (id) => document.getElementById(id);

let cursor = null; // where the next page of the library begins
let searching = false; // the gallery shows hits and not the library
let view = 0; // grows with each change of view, so that an answer that comes late is dropped

const gallery = new Gallery($("cards"), $("card"), { onChange: describe, onOpen: (image) => openDetails(image) });
const openDetails = startDetails({
  onAsk(image) {
    gallery.select([image]);
    $("question").focus();
  },
  onSimilar: similar,
  onDelete: (image) => attempt(() => remove(image)),
});
startAsking({ chosen: () => gallery.selected, open: (id) => attempt(async () => openDetails(await api.getImage(id))) });

// --- what the page shows

function describe() {
  const chosen = gallery.selected;
  $("clear-selection").hidden = chosen.length === 0;
  $("reach").hidden = chosen.length > 0;
  $("scope").textContent =
    chosen.length === 0 ? "About the" : chosen.length === 1 ? `About ${name(chosen[0])}` : `About ${chosen.length} selected`;
  $("leave-search").hidden = !searching;
  $("more").hidden = searching || cursor === null;
  $("welcome").hidden = searching || gallery.size > 0 || cursor !== null;
  if (!searching) $("gallery-note").textContent = gallery.size ? count(gallery.size, "image") + (cursor ? " so far" : "") : "";
}

function say(text, { bad = false } = {}) {
  $("notice").textContent = text;
  $("notice").classList.toggle("bad", bad);
  $("notice").hidden = !text;
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    say(error.message, { bad: true });
    if (!(error instanceof api.Problem)) throw error;
  }
}

// --- library and search

async function showLibrary() {
  view++;
  searching = false;
  cursor = null;
  $("gallery-title").textContent = "Library";
  $("query").value = "";
  gallery.clear();
  $("welcome").hidden = true;
  await showMore();
}

async function showMore() {
  const asked = view;
  const page = await api.listImages(cursor);
  if (asked !== view) return;
  cursor = page.next_cursor;
  gallery.append(page.images);
}

async function search(title, find) {
  const asked = ++view;
  searching = true;
  say("");
  $("gallery-title").textContent = title;
  $("gallery-note").textContent = "searching…";
  gallery.clear();
  const found = await find();
  if (asked !== view) return;
  gallery.append(found.results);
  $("gallery-note").textContent = found.results.length ? "best first, with the cosine" : "nothing found";
}

function searchByPicture(picture, label) {
  return attempt(() => search(`Like ${label}`, () => api.searchPicture(picture)));
}

async function similar(image) {
  await attempt(async () => searchByPicture(await api.getThumbnail(image.id), name(image)));
}

async function remove(image) {
  await api.deleteImage(image.id);
  gallery.remove(image.id);
  say(`Deleted ${name(image)}.`);
}

// --- uploads

async function add(files) {
  const chosen = [...files];
  if (!chosen.length) return;
  if (searching) await attempt(showLibrary);
  const done = { created: 0, exists: 0, bytes: 0 };
  const failures = [];
  const queue = [...chosen];
  const report = () => {
    const finished = done.created + done.exists + failures.length;
    const running = finished < chosen.length ? `Adding ${finished + 1} of ${chosen.length}…` : "";
    const known = done.exists ? `, ${done.exists} known already` : "";
    const summary = done.created || done.exists ? `Added ${count(done.created, "photo")}${known}: ${bytes(done.bytes)} kept of them.` : "";
    say([running || summary, ...failures].filter(Boolean).join("\n"), { bad: !running && failures.length > 0 });
  };
  const sendAll = async () => {
    for (let file = queue.shift(); file; file = queue.shift()) {
      report();
      try {
        const image = await api.addImage(file);
        done[image.status]++;
        done.bytes += image.tokens.bytes;
        if (!searching) gallery.prepend(image);
      } catch (error) {
        failures.push(`${file.name}: ${error.message}`);
      }
    }
  };
  await Promise.all(Array.from({ length: UPLOADS_AT_ONCE }, sendAll));
  report();
}

for (const id of ["photos", "first-photos"]) {
  $(id).addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
}
$("query-photo").addEventListener("change", (event) => {
  const [photo] = event.target.files;
  event.target.value = "";
  if (photo) searchByPicture(photo, photo.name);
});

// --- drag and drop: on the search bar to search, anywhere else to upload

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
const overSearch = (event) => $("search").contains(event.target);

document.addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  $("search").classList.toggle("over", overSearch(event));
  $("drop").hidden = overSearch(event);
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) endDrag();
});
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  endDrag();
  const { files } = event.dataTransfer;
  if (overSearch(event)) searchByPicture(files[0], files[0].name);
  else add(files);
});

function endDrag() {
  $("drop").hidden = true;
  $("search").classList.remove("over");
}

// --- buttons and keys

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("query").value.trim();
  attempt(() => (text ? search(`“${text}”`, () => api.searchText(text)) : showLibrary()));
});
$("leave-search").addEventListener("click", () => attempt(showLibrary));
$("more").addEventListener("click", () => attempt(showMore));
$("clear-selection").addEventListener("click", () => gallery.select([]));
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input[type=search], input[type=password], textarea, dialog");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    $("query").focus();
  }
});

let keyGiven = null;
api.onKeyWanted(() => {
  // Many requests may want the key at the same time; the person is asked once.
  keyGiven ??= new Promise((resolve) => {
    $("key-value").value = "";
    $("key").showModal();
    $("key").addEventListener("close", () => {
      if ($("key-value").value) api.key.set($("key-value").value);
      keyGiven = null;
      resolve();
    }, { once: true });
  });
  return keyGiven;
});
$("key").addEventListener("cancel", (event) => event.preventDefault());

attempt(showLibrary);
