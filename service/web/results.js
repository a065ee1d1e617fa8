// What the gallery shows: the library by date, or what a search found, down to where a hit is no longer likely.

import * as api from "./api.js";
import { isFiltered } from "./filters.js";
import { addedAt, count, month, takenAt } from "./words.js";

const LIKELY = 0.5;
const NEAREST = 12; // hits that are shown where none is likely

// The first part of what the view asks for: `title`, `note`, `images`, `headingOf` (the heading of an image), and the
// `rest`: { label, load } or null. `load` resolves to the next part. `photo` is a file to search with.
export async function results(view, photo) {
  if (view.q) return found(`“${view.q}”`, await api.searchText(view));
  if (view.like === "photo") return found(`Like ${photo.name}`, await api.searchPicture(photo, view));
  if (view.like) return found("Similar pictures", await api.searchSimilar(view));
  return page(view, null);
}

// The heading of an image in the library: its month.
export function monthIn(view) {
  return (image) => month((view.order === "taken" && takenAt(image)) || addedAt(image));
}

async function page(view, cursor) {
  const { images, next_cursor: next } = await api.listImages(view, cursor);
  const rest = next && { label: "Show more", load: () => page(view, next) };
  const note = pageNote(view, images);
  return { title: view.collection || "Library", note, images, headingOf: monthIn(view), rest };
}

function pageNote(view, images) {
  if (isFiltered(view) && !images.length) return "No picture passes the filters.";
  return view.order === "taken" ? "without the pictures that have no date" : "";
}

function found(title, { results: hits }) {
  const isLikely = (hit) => hit.probability === null || hit.probability >= LIKELY || hit.by_text;
  const likely = hits.filter(isLikely);
  const others = hits.filter((hit) => !isLikely(hit));
  const images = likely.length ? likely : others.slice(0, NEAREST);
  const remaining = likely.length ? others : others.slice(NEAREST);
  const part = { title, note: noteOf(likely, others), images, headingOf: () => "" };
  const load = async () => ({ ...part, images: remaining, headingOf: () => "Less likely", rest: null });
  return { ...part, rest: remaining.length ? { label: "Show less likely ones", load } : null };
}

function noteOf(likely, others) {
  if (likely.length) return `${count(likely.length, "picture")}, best first`;
  if (others.length) return "No picture is likely to show this. These are the nearest; other words may find more.";
  return "Nothing found. Try other words, or fewer filters.";
}
