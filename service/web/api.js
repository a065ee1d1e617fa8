// The routes of the service that the page uses, over one collection.

import { Problem, read, send } from "./connection.js";
import { events } from "./events.js";

const PAGE_SIZE = 60;
export const HITS = 60; // of a search at most
export const VIEW_SIDE_PX = 2048;

let collection = "";
export function useCollection(name) {
  collection = name;
}

function path(route, query = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries({ collection, ...query })) {
    for (const one of [value].flat()) if (one) search.append(name, one);
  }
  return search.size ? `${route}?${search}` : route;
}

// --- images

export function listImages(view, cursor) {
  const order = view.order || "newest";
  return read(path("images", { limit: PAGE_SIZE, cursor, order, ...filterQuery(view) }));
}

export const getImage = (id) => read(path(`images/${id}`));
export const thumbnailPath = (id) => path(`images/${id}/thumbnail`);
export const viewPath = (id) => path(`images/${id}/view`, { side_px: VIEW_SIDE_PX });
export const fetchPicture = async (address, signal) => (await send(address, { signal })).blob();

export const deleteImage = (id, options = {}) => send(path(`images/${id}`), { method: "DELETE", ...options });

export const setMetadata = (id, metadata) => read(path(`images/${id}/metadata`), { method: "PUT", ...json(metadata) });

// The stored image, and whether it is new. Throws a Problem for a file that cannot be stored.
export async function addImage({ file, collection }, signal) {
  const form = new FormData();
  form.append("file", file, file.name);
  form.append("metadata", JSON.stringify({ filename: file.name, file_bytes: file.size }));
  try {
    return (await read(path("images", { collection }), { method: "POST", body: form, signal })).images[0];
  } catch (error) {
    const reason = error.members?.images?.[0]?.error;
    throw reason ? new Problem(error.status, reason) : error;
  }
}

// --- searches

export function searchText(view) {
  return read(path("search", { q: view.q, limit: HITS, ...filterQuery(view) }));
}

export function searchSimilar(view) {
  return read(path(`images/${view.like}/similar`, { limit: HITS, ...filterQuery(view) }));
}

export function searchPicture(picture, view) {
  const form = new FormData();
  form.append("file", picture, picture.name);
  return read(path("search", { limit: HITS, ...filterQuery(view) }), { method: "POST", body: form });
}

// --- questions

// Asks about the images with these ids. `onPiece` gets each piece of text; resolves to the whole answer.
export function askImages(question, ids, options) {
  return ask("ask", { question, image_ids: ids }, options);
}

// Asks the library, as far as the view's filters let it through: the best `limit` images answer, and are cited.
export function askLibrary(question, view, limit, options) {
  return ask("ask/library", { question, limit, tags: view.tags, where: dateFilter(view) }, options);
}

async function ask(route, body, { signal, onPiece }) {
  const response = await send(path(route), { method: "POST", signal, ...json({ ...body, stream: true }) });
  try {
    for await (const event of events(response.body)) {
      const data = JSON.parse(event.data);
      if (event.name === "piece") onPiece(data.text);
      else if (event.name === "done") return data;
      else if (event.name === "error") throw new Problem(data.status, data);
    }
  } catch (error) {
    if (error.name !== "TypeError") throw error; // which a broken connection is
  }
  throw new Problem(0, { title: "The connection broke before the answer was complete." });
}

// --- collections

export const listCollections = () => read("collections");
export const createCollection = (name) => send(`collections/${encodeURIComponent(name)}`, { method: "PUT" });

// --- parts of requests

const json = (body) => ({ body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });

function filterQuery(view) {
  const where = dateFilter(view);
  return { tag: view.tags, where: Object.keys(where).length ? JSON.stringify(where) : "" };
}

function dateFilter({ from, to }) {
  const taken = {};
  if (from) taken.gte = from;
  if (to) taken.lt = dayAfter(to);
  return from || to ? { "exif.taken_at": taken } : {};
}

function dayAfter(day) {
  const date = new Date(`${day}T00:00:00Z`);
  date.setUTCDate(date.getUTCDate() + 1);
  return date.toISOString().slice(0, 10);
}
