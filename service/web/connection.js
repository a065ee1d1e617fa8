// The connection to the service: the key, waiting while the service starts or is away, problems.

const KEY = "precis-key";
const ATTEMPTS = 20; // of a request that the service refuses for the time being
const FAILURES = 3; // of a request that does not reach a service that is there
const LONGEST_PAUSE_S = 30;
const CHECK_EVERY_S = 2;

// A problem that the service answered with (RFC 9457), or no answer at all (status 0).
export class Problem extends Error {
  constructor(status, members) {
    super(inWords(status, members));
    this.status = status;
    this.members = members;
  }
}

// A failure of the service itself has no detail; its log tells more.
function inWords(status, { type, detail, title, request_id: request }) {
  const reason = detail || title || `The service answered with status ${status}`;
  const begun = reason[0].toUpperCase() + reason.slice(1);
  const sentence = /[.!?]$/.test(begun) ? begun : `${begun}.`;
  if (type?.endsWith(":collection-missing")) return `${sentence} Choose another at the top, or create it with “Other…”.`;
  if (type?.endsWith(":image-not-found")) return "There is no such picture in this library. It may have been deleted.";
  if (type?.endsWith(":key-not-sufficient")) return `${sentence} The button “Key” takes another key.`;
  return status >= 500 && request ? `${sentence} The service's log has the cause, under request ${request}.` : sentence;
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
};

const told = { keyWanted: async () => {}, state: () => {} };

// `ask` gets a key from the person and stores it; it is told whether one was refused.
export function onKeyWanted(ask) {
  told.keyWanted = ask;
}

// `listener` is told "starting" or "away" when requests begin to wait, and "ready" when they go on.
export function onState(listener) {
  told.state = listener;
}

// The response to a request. Waits while the service starts or is away, until `options.signal` aborts.
export async function send(path, options = {}) {
  const { signal } = options;
  let failures = 0;
  for (let attempt = 1; ; attempt++) {
    const used = key.get();
    const headers = { ...options.headers };
    if (used) headers.Authorization = `Bearer ${used}`;
    const response = await answerTo(path, { ...options, headers });
    if (response?.ok) return response;
    if (response?.status === 401) {
      if (key.get() === used) await told.keyWanted(used !== null);
    } else if (!response || response.status === 502) {
      failures = (await hadToWait(signal)) ? 0 : failures + 1;
      if (failures === FAILURES) throw new Problem(0, { title: "The request did not reach the service. Check the connection, and try again." });
    } else {
      const pauseS = Number(response.headers.get("Retry-After")) || 1;
      const isPassing = [429, 503].includes(response.status) && pauseS <= LONGEST_PAUSE_S;
      if (!isPassing || attempt === ATTEMPTS) throw await problemOf(response);
      const waited = response.status === 503 && (await hadToWait(signal));
      if (!waited) await pause(pauseS, signal);
    }
  }
}

export async function read(path, options) {
  const response = await send(path, options);
  return response.json();
}

async function answerTo(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return null;
  }
}

async function problemOf(response) {
  return new Problem(response.status, await response.json().catch(() => ({})));
}

let returning = null; // all requests wait for the same return of the service

// Whether the service was not ready; resolves once it is.
export function hadToWait(signal) {
  returning ??= untilReady().finally(() => (returning = null));
  return unlessAborted(returning, signal);
}

async function untilReady() {
  for (let waited = false; ; waited = true) {
    const state = await stateOfService();
    if (state === "ready") {
      if (waited) told.state(state);
      return waited;
    }
    told.state(state);
    await pause(CHECK_EVERY_S);
  }
}

async function stateOfService() {
  const response = await answerTo("readyz", {});
  if (response?.ok) return "ready";
  const problem = response && (await problemOf(response));
  return problem?.members.type?.endsWith(":not-ready") ? "starting" : "away";
}

const pause = (seconds, signal) => unlessAborted(new Promise((resolve) => setTimeout(resolve, seconds * 1000)), signal);

function unlessAborted(promise, signal) {
  if (!signal) return promise;
  signal.throwIfAborted();
  const aborted = new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  return Promise.race([promise, aborted]);
}
