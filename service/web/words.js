// Texts for people: numbers, names, dates, words of tokens.

export function bytes(count) {
  if (count < 1000) return `${count} B`;
  if (count < 1e6) return `${(count / 1e3).toFixed(1)} kB`;
  return `${(count / 1e6).toFixed(1)} MB`;
}

export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

export const percent = (share) => `${Math.round(100 * share)}%`;

// With a space that does not break, so that the unit stays with its number.
export const seconds = (ms) => (ms < 100 ? "under 0.1\u00a0s" : `${(ms / 1000).toFixed(ms < 9950 ? 1 : 0)}\u00a0s`);

export const name = (image) => image.metadata.filename || image.id.slice(0, 8);

// When the picture was taken; without that, null.
export function takenAt(image) {
  const date = new Date(image.metadata.exif?.taken_at ?? "");
  return Number.isNaN(date.getTime()) ? null : date;
}

export const addedAt = (image) => new Date(image.created_at_ms);

export const month = (date) => date.toLocaleDateString(undefined, { month: "long", year: "numeric" });

export const dayAndTime = (date) => date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

// The heaviest words of the summary tokens: "espresso · dog or boy · white". A word without a leading space continues
// the word before it; a short name repeats its last piece in several tokens.
export function inWords(tokens) {
  const said = [];
  for (const words of tokens) {
    const heavy = words.filter((word) => word.weight >= 0.1 && /[\p{L}\p{N}]/u.test(word.text)).slice(0, 2);
    if (heavy.length === 0) continue;
    const text = [...new Set(heavy.map((word) => word.text.trim()))].join(" or ");
    if (heavy[0].text.startsWith(" ") || said.length === 0) {
      if (said.at(-1) !== text) said.push(text);
    } else if (!said.at(-1).endsWith(heavy[0].text)) {
      said[said.length - 1] += heavy[0].text;
    }
  }
  return [...new Set(said)].join(" · ");
}
