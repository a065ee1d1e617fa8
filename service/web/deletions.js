// Deletions that can be undone: an image leaves the page at once, and the service when it is too late to undo.

import { deleteImage } from "./api.js";
import { byId } from "./element.js";
import { say } from "./notice.js";
import { count, name } from "./words.js";

const UNDO_S = 20;

export class Deletions {
  #gallery;
  #onUndone;
  #pending = []; // images
  #timer = null;

  // `onUndone` is called with the images that are back in the gallery.
  constructor(gallery, { onUndone }) {
    this.#gallery = gallery;
    this.#onUndone = onUndone;
    byId("undo-button").addEventListener("click", () => this.#undo());
    byId("undo-close").addEventListener("click", () => this.complete());
    // A request with keepalive outlives the page.
    window.addEventListener("pagehide", () => this.complete({ keepalive: true }));
  }

  delete(images) {
    this.complete();
    this.#pending = images;
    this.#gallery.hide(images);
    byId("undo-text").textContent = `Deleted ${images.length === 1 ? name(images[0]) : count(images.length, "picture")}.`;
    byId("undo").hidden = false;
    byId("undo-button").focus();
    this.#timer = setTimeout(() => this.complete(), UNDO_S * 1000);
  }

  // Deletes for good what can still be undone.
  async complete(options) {
    const failures = (await Promise.all(this.#take().map((image) => this.#delete(image, options)))).filter(Boolean);
    if (failures.length) say(inWords(failures), { bad: true });
  }

  #undo() {
    const images = this.#take();
    this.#gallery.unhide(images);
    this.#onUndone(images);
  }

  #take() {
    const images = this.#pending;
    this.#pending = [];
    clearTimeout(this.#timer);
    byId("undo").hidden = true;
    return images;
  }

  // Resolves to a failure, { image, reason }, or to null.
  async #delete(image, options) {
    try {
      await deleteImage(image.id, options);
    } catch (error) {
      if (error.status !== 404) {
        this.#gallery.unhide([image]);
        return { image, reason: error.message };
      }
    }
    this.#gallery.remove(image.id);
    return null;
  }
}

function inWords(failures) {
  const [{ image, reason }] = failures;
  const what = failures.length === 1 ? `${name(image)} was` : `${failures.length} pictures were`;
  return `${what} not deleted. ${reason}`;
}
