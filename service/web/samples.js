// The sample pictures that an empty library offers.

import { fetchPicture } from "./api.js";
import { byId } from "./element.js";

// `add` gets the sample pictures as files; `attempt` runs work that may fail.
export function startSamples({ add, attempt }) {
  byId("samples-add").addEventListener("click", () => attempt(async () => add(await files())));
}

function files() {
  return Promise.all([...byId("samples").querySelectorAll("img")].map(fileOf));
}

async function fileOf({ src }) {
  const picture = await fetchPicture(src);
  return new File([picture], src.split("/").at(-1), { type: picture.type });
}
