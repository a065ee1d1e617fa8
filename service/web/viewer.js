// One picture on the whole screen, with its neighbours a key away.

import * as address from "./address.js";
import { VIEW_SIDE_PX } from "./api.js";
import { byId } from "./element.js";
import * as pictures from "./pictures.js";
import { addedAt, dayAndTime, name, percent, takenAt } from "./words.js";

const SWIPE_PX = 60;

export class Viewer {
  #dialog = byId("viewer");
  #img = byId("viewer-picture");
  #shown = null; // the image
  #loading = null; // of the large picture
  #find;
  #told;

  // `find(id)` resolves to an image, `neighbour(id, step)` to the one that stands so many places after it, if any.
  // `onShow` is called with each image that is shown, and with null when the viewer closes.
  constructor({ find, neighbour, onShow }) {
    this.#find = find;
    this.#told = { neighbour, onShow };
    byId("viewer-close").addEventListener("click", () => address.closePicture());
    byId("viewer-previous").addEventListener("click", () => this.step(-1));
    byId("viewer-next").addEventListener("click", () => this.step(1));
    this.#img.addEventListener("error", () => this.#setBare(true));
    this.#dialog.addEventListener("close", () => {
      if (this.#shown) address.closePicture(); // the Escape key
    });
    // Not on the dialog: a button that gets disabled at the end of the list takes the focus with it.
    document.addEventListener("keydown", (event) => this.#onKey(event));
    this.#listenForSwipes();
  }

  get shown() {
    return this.#shown;
  }

  // Shows the image with this id; "" closes the viewer. Throws a Problem where there is no such image.
  async open(id) {
    if (id === (this.#shown?.id ?? "")) return;
    if (!id) return this.#close();
    const image = await this.#find(id);
    if (id === address.view().open) this.#show(image); // the person has not gone on meanwhile
  }

  async step(by) {
    const image = await this.#told.neighbour(this.#shown.id, by);
    if (image) address.go({ open: image.id }, { replace: true });
  }

  #show(image) {
    this.#shown = image;
    byId("viewer-title").textContent = name(image);
    byId("viewer-note").textContent = note(image);
    this.#img.alt = name(image);
    this.#setBare(false);
    this.#load(image);
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#told.onShow(image);
    this.#offerNeighbours();
  }

  #close() {
    this.#shown = null;
    this.#loading?.abort();
    this.#dialog.close();
    this.#told.onShow(null);
  }

  async #load(image) {
    this.#loading?.abort();
    const { signal } = (this.#loading = new AbortController());
    this.#img.removeAttribute("src");
    pictures.show(this.#img, image.id);
    const large = await pictures.large(image.id, signal);
    if (!large) return;
    if (signal.aborted) return URL.revokeObjectURL(large);
    signal.addEventListener("abort", () => URL.revokeObjectURL(large), { once: true });
    this.#img.src = large;
    await this.#img.decode().catch(() => {}); // the next picture has taken its place
    // A thumbnail is blurred on a whole screen; the person should know why.
    if (!signal.aborted && isThumbnail(this.#img, image)) {
      byId("viewer-note").textContent = `${note(image)} · Only a thumbnail is kept`;
    }
  }

  async #offerNeighbours() {
    const { id } = this.#shown;
    for (const [button, step] of [["viewer-previous", -1], ["viewer-next", 1]]) {
      const image = await this.#told.neighbour(id, step);
      if (this.#shown?.id === id) byId(button).disabled = !image;
    }
  }

  #setBare(bare) {
    this.#img.hidden = bare;
    byId("viewer-missing").hidden = !bare;
  }

  #onKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !this.#shown || event.target.closest("input, textarea, select")) return;
    event.preventDefault();
    this.step(step);
  }

  #listenForSwipes() {
    const stage = byId("stage");
    let startX = null;
    stage.addEventListener("touchstart", ({ touches }) => {
      startX = touches.length === 1 ? touches[0].clientX : null;
    }, { passive: true });
    stage.addEventListener("touchend", ({ changedTouches }) => {
      const moved = startX === null ? 0 : changedTouches[0].clientX - startX;
      if (Math.abs(moved) >= SWIPE_PX) this.step(moved < 0 ? 1 : -1);
    });
  }
}

function isThumbnail({ naturalWidth, naturalHeight }, { width_px: width, height_px: height }) {
  return Math.max(naturalWidth, naturalHeight) < Math.min(VIEW_SIDE_PX, Math.max(width, height));
}

function note(image) {
  const taken = takenAt(image);
  const when = taken ? `Taken ${dayAndTime(taken)}` : `Added ${dayAndTime(addedAt(image))}`;
  const { camera } = image.metadata.exif ?? {};
  const likely = typeof image.probability === "number" && `${percent(image.probability)} match`;
  return [when, camera, likely].filter(Boolean).join(" · ");
}
