// The grid of images, and the selection.

import * as pictures from "./pictures.js";
import { bytes, name } from "./words.js";

export class Gallery {
  #list;
  #template;
  #cards = new Map(); // id -> the card's element
  #selected = new Map(); // id -> image; outlives a change of view

  // `onChange` is told when the selection or the number of cards changes, `onOpen` which image to show in full.
  constructor(list, template, { onChange, onOpen }) {
    this.#list = list;
    this.#template = template;
    this.onChange = onChange;
    this.onOpen = onOpen;
  }

  get size() {
    return this.#cards.size;
  }

  get selected() {
    return [...this.#selected.values()];
  }

  clear() {
    this.#cards.clear();
    this.#list.replaceChildren();
    this.onChange();
  }

  append(images) {
    this.#list.append(...images.filter((image) => !this.#cards.has(image.id)).map((image) => this.#card(image)));
    this.onChange();
  }

  prepend(image) {
    if (!this.#cards.has(image.id)) this.#list.prepend(this.#card(image));
    this.onChange();
  }

  remove(id) {
    const card = this.#cards.get(id);
    // The next card takes the focus, so that someone at the keyboard does not fall back to the top of the page.
    const next = card?.nextElementSibling ?? card?.previousElementSibling;
    card?.remove();
    next?.querySelector("button").focus();
    this.#cards.delete(id);
    this.#selected.delete(id);
    pictures.forget(id);
    this.onChange();
  }

  select(images) {
    this.#selected = new Map(images.map((image) => [image.id, image]));
    for (const [id, card] of this.#cards) card.querySelector("input").checked = this.#selected.has(id);
    this.onChange();
  }

  #card(image) {
    const card = this.#template.content.cloneNode(true).firstElementChild;
    const box = card.querySelector("input");
    const label = name(image);
    box.checked = this.#selected.has(image.id);
    box.setAttribute("aria-label", `Select ${label}`);
    box.addEventListener("change", () => {
      if (box.checked) this.#selected.set(image.id, image);
      else this.#selected.delete(image.id);
      this.onChange();
    });
    const img = card.querySelector("img");
    img.addEventListener("error", () => card.querySelector(".pick").classList.add("bare"));
    pictures.show(img, image.id);
    card.dataset.id = image.id;
    card.querySelector(".name").textContent = label;
    card.querySelector(".name").title = label;
    const kept = bytes(image.tokens.bytes);
    card.querySelector(".facts").textContent = image.score === undefined ? `${kept} kept` : `${image.score.toFixed(3)} · ${kept}`;
    const open = card.querySelector(".open");
    open.setAttribute("aria-label", `Details of ${label}`);
    open.addEventListener("click", () => this.onOpen(image));
    this.#cards.set(image.id, card);
    return card;
  }
}
