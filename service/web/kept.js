// The panel that shows what is kept of the opened picture: words, bytes, model.

import { fetchPicture, getImage, thumbnailPath } from "./api.js";
import { byId, make } from "./element.js";
import { addedAt, bytes, dayAndTime, inWords } from "./words.js";

const BYTES_PER_PIXEL = 3;
let shown = null; // the image

export function startKept() {
  byId("kept").addEventListener("toggle", fill);
}

export function showKept(image) {
  shown = image;
  byId("kept-words").textContent = "";
  byId("kept-bars").replaceChildren();
  byId("kept-facts").replaceChildren(...facts(image).flatMap(([term, fact]) => [element("dt", term), element("dd", fact)]));
  fill();
}

// The rest is fetched only for those who want to see it.
async function fill() {
  if (!byId("kept").open || !shown) return;
  const image = shown;
  const [words, thumbnail] = await Promise.all([wordsOf(image), thumbnailBytes(image)]);
  if (image !== shown) return;
  byId("kept-words").textContent = words;
  const { file_bytes: fileBytes } = image.metadata;
  const original = Number.isInteger(fileBytes)
    ? ["Original file, to compare", fileBytes]
    : ["Uncompressed pixels, to compare", image.width_px * image.height_px * BYTES_PER_PIXEL];
  const parts = [original, ["Thumbnail", thumbnail], ["Summary tokens", image.tokens.bytes]];
  const known = parts.filter(([, size]) => size !== null);
  const largest = Math.max(...known.map(([, size]) => size));
  byId("kept-bars").replaceChildren(...known.map(([label, size]) => bar(label, size, size / largest)));
  byId("kept-bars").firstElementChild.classList.add("compared");
}

async function wordsOf(image) {
  const { words } = await getImage(image.id).catch(() => ({ words: null })); // deleted meanwhile: the facts stay
  return words ? `Words nearest to the tokens: ${inWords(words)}` : "";
}

async function thumbnailBytes(image) {
  const picture = await fetchPicture(thumbnailPath(image.id)).catch(() => null); // none was kept
  return picture && picture.size;
}

function bar(label, size, share) {
  const length = make("span", { className: "bar" });
  length.style.width = `${100 * share}%`;
  return make("li", {}, make("span", { textContent: `${label}: ${bytes(size)}` }), length);
}

const OWN = ["filename", "file_bytes", "tags"]; // metadata that the page shows elsewhere

function facts(image) {
  const { tokens } = image;
  const metadata = Object.entries(image.metadata).filter(([key]) => !OWN.includes(key));
  return [
    ["Summary", `${tokens.count} tokens of ${tokens.dim} numbers, codec ${tokens.codec}`],
    ["Picture", `${image.width_px} × ${image.height_px} pixels`],
    ["Added", dayAndTime(addedAt(image))],
    ["Model", image.model ?? "unknown"],
    ["Mode", image.mode ?? "unknown"],
    ["Fingerprint", image.fingerprint.slice(0, 16)],
    ["Id", image.id],
    ...metadata.map(([key, value]) => [key, inText(value)]),
  ];
}

// The text in a picture has lines; other values are what their owner wrote.
function inText(value) {
  if (Array.isArray(value?.lines)) return value.lines.join(" · ");
  return typeof value === "string" ? value : JSON.stringify(value);
}

const element = (tag, text) => make(tag, { textContent: text });
