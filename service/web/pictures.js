// Thumbnails of stored images, as addresses for <img>.

import { getThumbnail, key, thumbnailPath } from "./api.js";

// The browser itself cannot send the key, so each thumbnail is fetched once and kept until its image is deleted.
const fetched = new Map();

export async function show(img, id) {
  if (!key.get()) {
    img.src = thumbnailPath(id);
    return;
  }
  if (!fetched.has(id)) fetched.set(id, getThumbnail(id).then(URL.createObjectURL));
  try {
    img.src = await fetched.get(id);
  } catch {
    fetched.delete(id);
    img.dispatchEvent(new Event("error"));
  }
}

export async function forget(id) {
  const address = fetched.get(id);
  fetched.delete(id);
  if (address) URL.revokeObjectURL(await address.catch(() => ""));
}
