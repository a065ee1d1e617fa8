// The page: brings its parts together.

import * as address from "./address.js";
import * as api from "./api.js";
import { Asking, interruptedQuestion } from "./asking.js";
import { showCollections, startCollections } from "./collections.js";
import { hadToWait, onState, Problem } from "./connection.js";
import { Deletions } from "./deletions.js";
import { picturesOf, singlePicturesOf, startDropping } from "./dropping.js";
import { byId } from "./element.js";
import { NO_FILTERS, showFilters, startFilters } from "./filters.js";
import { Gallery } from "./gallery.js";
import { showKept, startKept } from "./kept.js";
import { startKeys } from "./key.js";
import { moveNotices, say, sayState, unsay } from "./notice.js";
import { monthIn, results, titleOf } from "./results.js";
import { startSamples } from "./samples.js";
import { addTag, TagRow } from "./tags.js";
import { brokenOff, startUploads } from "./uploads.js";
import { Viewer } from "./viewer.js";
import { count, name } from "./words.js";

const FIRST_QUESTIONS = ["What is in the picture?", "What color is it?", "Is there a person?"];
const LIBRARY_QUESTIONS = ["Is there an animal?", "Is there a person?", "What is there to eat?"];

let shown = null; // the view whose results the gallery shows
let rest = null; // what loads more of them
let isEmpty = false; // all results have come, and there are none
let photo = null; // the file to search with
let failure = ""; // what was said of a view that could not be shown

const gallery = new Gallery(byId("gallery"), {
  onChange: describe,
  onOpen: (image) => address.go({ open: image.id }),
});
const viewer = new Viewer({
  find: async (id) => gallery.get(id) ?? api.getImage(id),
  neighbour,
  onShow(image) {
    moveNotices(image ? byId("viewer") : document.body);
    if (!image) return viewerAsking.stop();
    viewerAsking.clear();
    tagRow.show(image);
    showKept(image);
    describeMark();
  },
});
const tagRow = new TagRow({ onChange: (image) => gallery.update(image), attempt });
const open = (id) => address.go({ open: id });
const asking = new Asking(byId("asking-library"), { about: aboutMarkedOrLibrary, onOpen: open, onCited: (ids) => gallery.cite(ids) });
const viewerAsking = new Asking(byId("asking-picture"), { about: aboutPicture, onOpen: open, onCited() {} });
const deletions = new Deletions(gallery, {
  onUndone([{ id }]) {
    if (viewer.shown) address.go({ open: id }, { replace: true });
    else gallery.focus(id);
  },
});
const addFiles = startUploads({ onStored: arrived });

// --- what the page shows

function describe() {
  const { marked } = gallery;
  byId("marked").hidden = marked.length === 0;
  byId("marked-count").textContent = `${marked.length} marked`;
  byId("more").hidden = rest === null;
  byId("more").textContent = rest?.label ?? "";
  const isSearch = Boolean(shown?.q || shown?.like);
  byId("leave-search").hidden = !isSearch;
  byId("welcome").hidden = !isEmpty || gallery.size > 0 || !isWholeLibrary(shown);
  if (shown) byId("filter-box").hidden = gallery.size === 0 && isWholeLibrary(shown); // nothing to filter
  asking.describe();
}

async function show(view) {
  unsay(failure); // it was about the view before
  failure = await attempt(async () => {
    if (!shown || resultsKey(view) !== resultsKey(shown)) await showResults(view);
    await viewer.open(address.view().open);
  });
}

// All of a view but the opened picture.
const resultsKey = (view) => address.addressOf({ ...view, open: "" });

async function showResults(view) {
  if (shown?.collection !== view.collection) enterCollection(view.collection);
  shown = view;
  rest = null;
  isEmpty = false;
  showFilters(view);
  byId("query").value = view.q;
  byId("results-title").textContent = titleOf(view, photo);
  byId("results-note").textContent = view.q || view.like ? "Searching…" : "Loading…";
  gallery.clear();
  byId("welcome").hidden = true;
  if (view.like === "photo" && !photo) {
    byId("results-note").textContent = "";
    say("The page was reloaded, and the photo you searched with is gone. Choose it again.", { bad: true });
    return;
  }
  try {
    showPart(view, await results(view, photo));
  } catch (error) {
    byId("results-note").textContent = "";
    throw error;
  }
}

// Nothing of the collection before may be left over.
function enterCollection(name) {
  deletions.complete();
  gallery.mark([]);
  asking.clear();
  api.useCollection(name);
  showCollections(name);
}

function showPart(view, part) {
  if (shown !== view) return; // the person has gone on meanwhile
  rest = part.rest;
  isEmpty = rest === null && part.images.length === 0;
  byId("results-title").textContent = part.title;
  document.title = view.q || view.like ? `${part.title} – Précis` : "Précis"; // in the browser's history
  byId("results-note").textContent = part.note;
  gallery.append(part.images, part.headingOf);
  // So that it tells whether the end of the list is still near.
  nearEnd.unobserve(byId("end"));
  nearEnd.observe(byId("end"));
}

// The library goes on by itself when the end of the list comes near.
const nearEnd = new IntersectionObserver(([end]) => {
  if (end.isIntersecting && rest && !shown.q && !shown.like) attempt(showMore);
}, { rootMargin: "600px" });

async function showMore() {
  const view = shown;
  const asked = rest;
  rest = null; // so that it is asked for once
  try {
    showPart(view, await asked.load());
  } catch (error) {
    if (shown === view) rest = asked;
    throw error;
  }
}

async function neighbour(id, step) {
  if (step > 0 && gallery.get(id) && !gallery.neighbour(id, step) && rest) await attempt(showMore);
  return gallery.neighbour(id, step);
}

// Resolves to what the person was told of a failure, "" where there was none.
async function attempt(work) {
  try {
    await work();
    return "";
  } catch (error) {
    say(error.message, { bad: true });
    if (!(error instanceof Problem)) throw error;
    return error.message;
  }
}

async function tagMarked(tag) {
  const { marked } = gallery;
  for (const { id } of marked) gallery.update(await addTag(id, tag));
  say(`Tagged ${count(marked.length, "picture")} “${tag}”.`);
}

// --- uploads

// Every new picture is to be seen in the library by date of arrival, without a search and filters.
const WHOLE_LIBRARY = { q: "", like: "", ...NO_FILTERS };

function add(files, leftOut) {
  if (!isWholeLibrary(shown)) address.go(WHOLE_LIBRARY);
  addFiles(files, address.view().collection, leftOut);
}

function arrived(image, collection) {
  if (collection === shown.collection && isWholeLibrary(shown)) gallery.prepend(image, monthIn(shown)(image));
}

const isWholeLibrary = (view) => resultsKey(view) === resultsKey({ ...view, ...WHOLE_LIBRARY });

function onFiles(id, use) {
  byId(id).addEventListener("change", (event) => {
    const files = [...event.target.files];
    event.target.value = ""; // so that the same file can be chosen again
    if (files.length) use(files);
  });
}

function searchByPhoto(file) {
  photo = file;
  shown = { ...shown, like: "" }; // the address may be the same as that of the photo before
  address.go({ like: "photo", q: "", open: "" });
}

// --- questions

// Puts the question of an answer that a reload interrupted back into its box; what to say of it, "" where there is none.
function offerInterrupted() {
  const interrupted = interruptedQuestion();
  if (!interrupted) return "";
  const box = interrupted.place === "asking-picture" ? viewerAsking : asking;
  box.offer(interrupted.question);
  return "The answer was interrupted. Your question is in its box again: ask it once more.";
}

function aboutMarkedOrLibrary() {
  const { marked } = gallery;
  const ids = marked.map((image) => image.id);
  if (marked.length) {
    return {
      scope: marked.length === 1 ? `About ${name(marked[0])}` : `About ${marked.length} marked pictures`,
      placeholder: "Ask about what you marked",
      suggestions: FIRST_QUESTIONS,
      isLibrary: false,
      ask: (question, _, options) => api.askImages(question, ids, options),
    };
  }
  return {
    scope: "About the",
    placeholder: "Ask about your pictures",
    suggestions: LIBRARY_QUESTIONS,
    isLibrary: true,
    ask: (question, limit, options) => api.askLibrary(question, address.view(), limit, options),
  };
}

function aboutPicture() {
  return {
    scope: "About this picture",
    placeholder: "Ask a question",
    suggestions: FIRST_QUESTIONS,
    isLibrary: false,
    ask: (question, _, options) => api.askImages(question, [viewer.shown.id], options),
  };
}

// --- buttons and keys

function describeMark() {
  const isMarked = gallery.marked.some((image) => image.id === viewer.shown?.id);
  byId("viewer-mark").textContent = isMarked ? "Unmark" : "Mark";
}

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const q = byId("query").value.trim();
  address.go({ q, like: "", open: "" });
});
byId("leave-search").addEventListener("click", () => address.go({ q: "", like: "" }));
byId("more").addEventListener("click", () => attempt(showMore));
byId("marked-tag").addEventListener("submit", (event) => {
  event.preventDefault();
  const tag = byId("marked-tag-new").value.trim();
  byId("marked-tag-new").value = "";
  if (tag) attempt(() => tagMarked(tag));
});
byId("marked-clear").addEventListener("click", () => gallery.mark([]));
byId("marked-delete").addEventListener("click", () => deletions.delete(gallery.marked));
byId("viewer-similar").addEventListener("click", () => address.go({ like: viewer.shown.id, q: "", open: "" }));
byId("viewer-mark").addEventListener("click", () => {
  const { shown: image } = viewer;
  const others = gallery.marked.filter(({ id }) => id !== image.id);
  gallery.mark(others.length < gallery.marked.length ? others : [...others, image]);
  describeMark();
});
byId("viewer-delete").addEventListener("click", () => {
  const { shown: image } = viewer;
  const next = gallery.neighbour(image.id, 1) ?? gallery.neighbour(image.id, -1);
  deletions.delete([image]);
  if (next) address.go({ open: next.id }, { replace: true });
  else address.closePicture();
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select, dialog");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    byId("query").focus();
  }
});
onFiles("photos", (files) => add(...singlePicturesOf(files)));
onFiles("first-photos", (files) => add(...singlePicturesOf(files)));
onFiles("folder", (files) => add(...picturesOf(files)));
onFiles("query-photo", ([file]) => searchByPhoto(file));
startDropping({ onSearch: searchByPhoto, onAdd: add });
startSamples({ add, attempt });
startKeys();
startCollections();
startFilters();
startKept();
onState((state) => {
  sayState(state);
  if (state === "ready") gallery.showPicturesAgain();
});
// A picture that cannot be fetched may be the first sign that the service is away. The event does not bubble.
document.addEventListener("error", () => hadToWait(), { capture: true });

const interruptedUpload = brokenOff();
say([interruptedUpload, offerInterrupted()].filter(Boolean).join(" "), { bad: Boolean(interruptedUpload) });
address.onChange(show);
show(address.view());
