// Pictures of stored images, as addresses for <img>.

import { fetchPicture, thumbnailPath, viewPath } from "./api.js";
import { key } from "./connection.js";

// The browser itself cannot send the key, so with a key each thumbnail is fetched once and kept until its image is
// deleted.
const fetched = new Map(); // path -> promise of an address

// Shows the thumbnail; the <img> gets an `error` event where none was kept.
export async function show(img, id) {
  const path = thumbnailPath(id);
  if (!key.get()) {
    img.src = path;
    return;
  }
  if (!fetched.has(path)) fetched.set(path, fetchPicture(path).then(URL.createObjectURL));
  try {
    img.src = await fetched.get(path);
  } catch {
    fetched.delete(path);
    img.dispatchEvent(new Event("error"));
  }
}

export async function forget(id) {
  const address = fetched.get(thumbnailPath(id));
  fetched.delete(thumbnailPath(id));
  if (address) URL.revokeObjectURL(await address.catch(() => ""));
}

// The picture in the size of a screen, or the thumbnail where no more was kept; null where nothing was, or it did not
// come.
export async function large(id, signal) {
  try {
    return URL.createObjectURL(await fetchPicture(viewPath(id), signal));
  } catch {
    return null;
  }
}
