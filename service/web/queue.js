// Files on their way to the service: a few at once, with pause, cancel and retry. An item is a file and the collection
// that it goes to.

const AT_ONCE = 4;
// Statuses that another try of the same file may change; the others are about the file itself.
const PASSING = [0, 401, 403, 408, 429, 500, 503, 504, 507];

export class UploadQueue {
  #waiting = [];
  #running = new Map(); // item -> AbortController
  #told;
  stored = { created: 0, exists: 0 };
  failed = []; // { item, reason, mayPass }
  cancelled = 0; // files
  isPaused = false;

  // `send(item, signal)` stores one file; `onStored` is called with each image and its collection, `onChange` whenever
  // anything changes.
  constructor({ send, onStored, onChange }) {
    this.#told = { send, onStored, onChange };
  }

  get isBusy() {
    return this.#running.size + this.#waiting.length > 0;
  }

  get total() {
    return this.done + this.#running.size + this.#waiting.length;
  }

  get done() {
    return this.stored.created + this.stored.exists + this.failed.length;
  }

  add(items) {
    this.#waiting.push(...items);
    this.#start();
  }

  // What is on its way still arrives.
  pause() {
    this.isPaused = true;
    this.#told.onChange();
  }

  resume() {
    this.isPaused = false;
    this.#start();
  }

  cancel() {
    this.cancelled += this.#waiting.length;
    this.#waiting = [];
    for (const running of this.#running.values()) running.abort();
    this.isPaused = false;
    this.#told.onChange();
  }

  retry() {
    const again = this.failed.filter(({ mayPass }) => mayPass);
    this.failed = this.failed.filter(({ mayPass }) => !mayPass);
    this.add(again.map(({ item }) => item));
  }

  // Forgets what became of earlier files.
  clear() {
    this.stored = { created: 0, exists: 0 };
    this.failed = [];
    this.cancelled = 0;
    this.#told.onChange();
  }

  #start() {
    while (!this.isPaused && this.#running.size < AT_ONCE && this.#waiting.length) this.#send(this.#waiting.shift());
    this.#told.onChange();
  }

  async #send(item) {
    const running = new AbortController();
    this.#running.set(item, running);
    try {
      const image = await this.#told.send(item, running.signal);
      this.stored[image.status]++;
      this.#told.onStored(image, item.collection);
    } catch (error) {
      if (running.signal.aborted) this.cancelled++;
      else this.failed.push({ item, reason: error.message, mayPass: PASSING.includes(error.status) });
    } finally {
      this.#running.delete(item);
      this.#start();
    }
  }
}
