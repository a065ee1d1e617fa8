// What the gallery shows: the library by date, or what a search found, down to where a hit is no longer likely.

import * as api from "./api.js";
import { isNarrowed } from "./filters.js";
import { addedAt, count, month, takenAt } from "./words.js";

const LIKELY = 0.5;
const POSSIBLE = 0.1; // hits from here on are shown where none is likely
const NEAREST = 12; // hits that are shown where none is possible

// The first part of what the view asks for: `title`, `note`, `images`, `headingOf` (the heading of an image), and the
// `rest`: { label, load } or null. `load` resolves to the next part. `photo` is a file to search with.
export async function results(view, photo) {
  const title = titleOf(view, photo);
  if (view.q) return found(title, await api.searchText(view));
  if (view.like === "photo") return found(title, await api.searchPicture(photo, view));
  if (view.like) return found(title, await api.searchSimilar(view));
  return page(view, null);
}

// The title of what the view asks for, known before it has come.
export function titleOf(view, photo) {
  if (view.q) return `“${view.q}”`;
  if (view.like === "photo" && photo) return `Like ${photo.name}`;
  if (view.like) return "Similar pictures";
  return view.collection || "Library";
}

// The heading of an image in the library: its month.
export function monthIn(view) {
  return (image) => month((view.order === "taken" && takenAt(image)) || addedAt(image));
}

async function page(view, cursor) {
  const { images, next_cursor: next } = await api.listImages(view, cursor);
  const rest = next && { label: "Show more", load: () => page(view, next) };
  const note = pageNote(view, images);
  return { title: titleOf(view), note, images, headingOf: monthIn(view), rest };
}

function pageNote(view, images) {
  const isByDateTaken = view.order === "taken";
  if (images.length) return isByDateTaken ? "Only pictures that say when they were taken." : "";
  if (isNarrowed(view)) return "No pictures match these filters.";
  return isByDateTaken ? "No picture here says when it was taken." : "";
}

function found(title, { results: hits }) {
  const isLikely = (hit) => hit.probability === null || hit.probability >= LIKELY || hit.by_text;
  const isPossible = (hit) => hit.probability >= POSSIBLE;
  const { note, images } = firstOf(hits, isLikely, isPossible);
  const remaining = hits.filter((hit) => !images.includes(hit));
  const part = { title, note, images, headingOf: () => "" };
  const load = async () => ({ ...part, images: remaining, headingOf: () => "Less likely", rest: null });
  return { ...part, rest: remaining.length ? { label: "Show less likely pictures", load } : null };
}

// The hits to show first, and what to say of them: the likely ones, otherwise the possible ones, otherwise the nearest.
function firstOf(hits, isLikely, isPossible) {
  if (!hits.length) return { note: "Nothing found. Try other words, or fewer filters.", images: [] };
  const likely = hits.filter(isLikely);
  if (likely.length) return { note: bestFirst(likely, "picture"), images: likely };
  const possible = hits.filter(isPossible);
  if (possible.length) return { note: `No sure match. ${bestFirst(possible, "possible match", "possible matches")}.`, images: possible };
  const nearest = hits.slice(0, NEAREST);
  const closest = nearest.length === 1 ? "This is the closest picture" : "These are the closest, best first";
  return { note: `No sure match. ${closest}.`, images: nearest };
}

// How many there are, and their order where they have one. A search finds no more than api.HITS.
function bestFirst(hits, one, many) {
  const counted = count(hits.length, one, many);
  if (hits.length === api.HITS) return `The best ${counted}, best first`;
  return hits.length === 1 ? counted : `${counted}, best first`;
}
