// Calls of the service: requests, problems, event streams.

const KEY = "precis-key";
const PAGE_SIZE = 60;
const HITS = 24;
const ATTEMPTS = 20;
const LONGEST_PAUSE_S = 30;

// A problem that the service answered with (RFC 9457), or no answer at all (status 0).
export class Problem extends Error {
  constructor(status, members) {
    super(members.detail || members.title || `The service answered with status ${status}.`);
    this.status = status;
    this.members = members;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
};

// Set by the page: asks the user for the key, and resolves when it has one.
let askForKey = async () => {};
export function onKeyWanted(ask) {
  askForKey = ask;
}

async function send(path, options = {}) {
  for (let attempt = 1; ; attempt++) {
    const headers = { ...options.headers };
    if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, { title: "The service cannot be reached." });
    }
    if (response.ok) return response;
    if (response.status === 401) {
      await askForKey();
    } else if ([429, 503].includes(response.status) && attempt < ATTEMPTS) {
      const pauseS = Math.min(Number(response.headers.get("Retry-After")) || 1, LONGEST_PAUSE_S);
      await new Promise((resolve) => setTimeout(resolve, pauseS * 1000));
    } else {
      throw new Problem(response.status, await response.json().catch(() => ({})));
    }
  }
}

const read = async (path, options) => (await send(path, options)).json();

export function listImages(cursor) {
  const query = new URLSearchParams({ limit: PAGE_SIZE });
  if (cursor) query.set("cursor", cursor);
  return read(`images?${query}`);
}

export const getImage = (id) => read(`images/${id}`);
export const deleteImage = (id) => send(`images/${id}`, { method: "DELETE" });
export const thumbnailPath = (id) => `images/${id}/thumbnail`;
export const getThumbnail = async (id) => (await send(thumbnailPath(id))).blob();

export function searchText(text) {
  return read(`search?${new URLSearchParams({ q: text, limit: HITS })}`);
}

export function searchPicture(picture) {
  const form = new FormData();
  form.append("file", picture, picture.name || "picture");
  return read(`search?limit=${HITS}`, { method: "POST", body: form });
}

// The stored image, and whether it is new. Throws a Problem for a file that cannot be stored.
export async function addImage(file) {
  const form = new FormData();
  form.append("file", file, file.name);
  form.append("metadata", JSON.stringify({ filename: file.name }));
  try {
    return (await read("images", { method: "POST", body: form })).images[0];
  } catch (error) {
    const reason = error.members?.images?.[0]?.error;
    throw reason ? new Problem(error.status, reason) : error;
  }
}

// Calls `onPiece` with each piece of text; resolves to the whole answer.
export async function ask(question, { ids, limit, signal, onPiece }) {
  const body = { question, stream: true };
  if (ids) body.image_ids = ids;
  else body.limit = limit;
  const response = await send("ask", {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "Content-Type": "application/json" },
    signal,
  });
  for await (const event of events(response.body)) {
    const data = JSON.parse(event.data);
    if (event.name === "piece") onPiece(data.text);
    else if (event.name === "done") return data;
    else if (event.name === "error") throw new Problem(data.status, data);
  }
  throw new Problem(0, { title: "The connection ended before the answer did." });
}

// Server-sent events of a body; an EventSource cannot send a POST.
async function* events(body) {
  let text = "";
  for await (const chunk of chunks(body)) {
    text += chunk;
    const blocks = text.split(/\r?\n\r?\n/);
    text = blocks.pop();
    for (const block of blocks) {
      const event = { name: "message", data: "" };
      for (const line of block.split(/\r?\n/)) {
        if (line.startsWith("event:")) event.name = line.slice(6).trim();
        else if (line.startsWith("data:")) event.data += line.slice(5);
      }
      if (event.data) yield event;
    }
  }
}

async function* chunks(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
