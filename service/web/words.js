// How things are said to people. Knows nothing of the page.

export function bytes(count) {
  if (count < 1000) return `${count} B`;
  if (count < 1e6) return `${(count / 1e3).toFixed(1)} kB`;
  return `${(count / 1e6).toFixed(1)} MB`;
}

export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

// The heaviest words of each summary token: "barn · dog or boy · white".
export const inWords = (tokens) =>
  tokens
    .map((words) => words.filter((word) => word.weight >= 0.1 && /[\p{L}\p{N}]/u.test(word.text)).slice(0, 2))
    .filter((words) => words.length > 0)
    .map((words) => words.map((word) => word.text.trim()).join(" or "))
    .join(" · ");

export const name = (image) => image.metadata.filename || image.id.slice(0, 8);

export const seconds = (ms) => `${(ms / 1000).toFixed(ms < 9950 ? 1 : 0)} s`;
