// The grid of images, under a heading for each month, and the marks on them.

import { byId, make } from "./element.js";
import * as pictures from "./pictures.js";
import { name } from "./words.js";

export class Gallery {
  #place;
  #told;
  #cards = new Map(); // id -> { element, image }, in the order of the page
  #marked = new Map(); // id -> image; outlives a change of view
  #hidden = new Set(); // ids of images about to be deleted
  #cited = new Set();

  // `onChange` is called when marks or cards change, `onOpen` with the image to open.
  constructor(place, { onChange, onOpen }) {
    this.#place = place;
    this.#told = { onChange, onOpen };
    place.addEventListener("keydown", (event) => this.#moveFocus(event));
  }

  // How many images are to be seen.
  get size() {
    return this.#visible().length;
  }

  get marked() {
    return [...this.#marked.values()];
  }

  get(id) {
    return this.#cards.get(id)?.image;
  }

  clear() {
    this.#cards.clear();
    this.#place.replaceChildren();
    this.#told.onChange();
  }

  // Adds images at the end; `headingOf` names the group of each, "" being one without a heading.
  append(images, headingOf) {
    for (const image of images) {
      if (this.#cards.has(image.id)) continue;
      const heading = headingOf(image);
      const last = this.#place.lastElementChild;
      const group = last?.dataset.heading === heading ? last : newGroup(heading);
      if (group !== last) this.#place.append(group);
      group.querySelector("ol").append(this.#newCard(image));
    }
    this.#told.onChange();
  }

  prepend(image, heading) {
    if (this.#cards.has(image.id)) return;
    const first = this.#place.firstElementChild;
    const group = first?.dataset.heading === heading ? first : newGroup(heading);
    if (group !== first) this.#place.prepend(group);
    group.querySelector("ol").prepend(this.#newCard(image));
    this.#inPageOrder();
    this.#told.onChange();
  }

  // Replaces what is known of an image, such as its tags.
  update(image) {
    const card = this.#cards.get(image.id);
    if (card) card.image = { ...card.image, ...image };
    if (this.#marked.has(image.id)) this.#marked.set(image.id, image);
  }

  hide(images) {
    for (const { id } of images) {
      this.#hidden.add(id);
      this.#marked.delete(id);
    }
    this.#showHidden();
  }

  unhide(images) {
    for (const { id } of images) this.#hidden.delete(id);
    this.#showHidden();
  }

  remove(id) {
    const element = this.#cards.get(id)?.element;
    const group = element?.closest(".group");
    element?.remove();
    if (group && !group.querySelector(".card")) group.remove();
    this.#cards.delete(id);
    this.#hidden.delete(id);
    pictures.forget(id);
  }

  // The visible image that stands `step` places after this one.
  neighbour(id, step) {
    const ids = this.#visible();
    const place = ids.indexOf(id);
    return place < 0 ? undefined : this.get(ids[place + step]);
  }

  focus(id) {
    this.#cards.get(id)?.element.querySelector(".open").focus();
  }

  mark(images) {
    this.#marked = new Map(images.map((image) => [image.id, image]));
    for (const [id, { element }] of this.#cards) element.querySelector("input").checked = this.#marked.has(id);
    this.#told.onChange();
  }

  // Tries again to show the pictures that could not be fetched.
  showPicturesAgain() {
    for (const [id, { element }] of this.#cards) {
      if (!element.classList.contains("bare")) continue;
      element.classList.remove("bare");
      pictures.show(element.querySelector("img"), id);
    }
  }

  // Highlights the images that bear out an answer.
  cite(ids) {
    this.#cited = new Set(ids);
    for (const [id, { element }] of this.#cards) element.classList.toggle("cited", this.#cited.has(id));
  }

  #newCard(image) {
    const card = byId("card").content.cloneNode(true).firstElementChild;
    const label = name(image);
    const img = card.querySelector("img");
    img.alt = label;
    img.addEventListener("error", () => card.classList.add("bare"));
    pictures.show(img, image.id);
    card.querySelector(".name").textContent = label;
    card.classList.toggle("cited", this.#cited.has(image.id));
    const open = card.querySelector(".open");
    open.title = label;
    open.addEventListener("click", () => this.#told.onOpen(this.get(image.id)));
    const box = card.querySelector("input");
    box.checked = this.#marked.has(image.id);
    box.ariaLabel = `Mark ${label}`;
    box.addEventListener("change", () => {
      if (box.checked) this.#marked.set(image.id, this.get(image.id));
      else this.#marked.delete(image.id);
      this.#told.onChange();
    });
    card.dataset.id = image.id;
    card.hidden = this.#hidden.has(image.id);
    this.#cards.set(image.id, { element: card, image });
    return card;
  }

  #visible() {
    return [...this.#cards.keys()].filter((id) => !this.#hidden.has(id));
  }

  #showHidden() {
    for (const [id, { element }] of this.#cards) {
      element.hidden = this.#hidden.has(id);
      element.querySelector("input").checked = this.#marked.has(id);
    }
    this.#told.onChange();
  }

  #inPageOrder() {
    const elements = [...this.#place.querySelectorAll(".card")];
    this.#cards = new Map(elements.map(({ dataset }) => [dataset.id, this.#cards.get(dataset.id)]));
  }

  // Arrow keys go from picture to picture.
  #moveFocus(event) {
    const element = event.target.closest(".card");
    if (!element || !event.key.startsWith("Arrow")) return;
    const elements = [...this.#place.querySelectorAll(".card:not([hidden])")];
    const to = elements[elements.indexOf(element) + STEPS[event.key](element)];
    if (!to) return;
    event.preventDefault();
    to.querySelector(".open").focus();
  }
}

const STEPS = {
  ArrowLeft: () => -1,
  ArrowRight: () => 1,
  ArrowUp: (element) => -columns(element),
  ArrowDown: columns,
};

function columns(element) {
  const cards = [...element.parentElement.querySelectorAll(".card:not([hidden])")];
  return cards.filter((card) => card.offsetTop === cards[0].offsetTop).length;
}

function newGroup(heading) {
  const group = make("section", { className: "group" });
  group.dataset.heading = heading;
  if (heading) group.append(make("h3", { textContent: heading }));
  group.append(make("ol", { className: "cards" }));
  return group;
}
