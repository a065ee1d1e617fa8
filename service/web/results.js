// What the gallery shows: the library by date, or what a search found, down to where a hit is no longer likely.

import * as api from "./api.js";
import { isFiltered } from "./filters.js";
import { addedAt, count, month, takenAt } from "./words.js";

const LIKELY = 0.5;

// The first part of what the view asks for: `title`, `note`, `images`, `headingOf`, and the `rest`: { label, load } or
// null. `load` resolves to the next part. `photo` is a file to search with.
export async function results(view, photo) {
  if (view.q) return found(`“${view.q}”`, await api.searchText(view));
  if (view.like === "photo") return found(`Like ${photo.name}`, await api.searchPicture(photo, view));
  if (view.like) return found("Similar pictures", await api.searchSimilar(view));
  return page(view, null);
}

export function headingOf(view) {
  if (view.q || view.like) return () => "";
  return (image) => month((view.order === "taken" && takenAt(image)) || addedAt(image));
}

async function page(view, cursor) {
  const { images, next_cursor: next } = await api.listImages(view, cursor);
  const rest = next && { label: "Show more", load: () => page(view, next) };
  return { title: view.collection || "Library", note: pageNote(view, images), images, rest };
}

function pageNote(view, images) {
  if (isFiltered(view) && !images.length) return "No picture passes the filters.";
  return view.order === "taken" ? "without the pictures that have no date" : "";
}

function found(title, { results: hits }) {
  const isLikely = (hit) => hit.probability === null || hit.probability >= LIKELY || hit.by_text;
  const likely = hits.filter(isLikely);
  const others = hits.filter((hit) => !isLikely(hit));
  const more = { note: `${count(hits.length, "picture")}, best first`, images: others, rest: null };
  return {
    title,
    note: noteOf(likely, others),
    images: likely,
    rest: others.length ? { label: "Show less likely ones", load: async () => more } : null,
  };
}

function noteOf(likely, others) {
  if (likely.length) return `${count(likely.length, "picture")}, best first`;
  if (others.length) return "No picture is likely to show this. Try other words, or look at the nearest.";
  return "Nothing found. Try other words, or fewer filters.";
}
