// The tags of images, which stand in their metadata.

import * as address from "./address.js";
import { getImage, setMetadata } from "./api.js";
import { byId, make } from "./element.js";

export const addTag = (id, tag) => changeTags(id, (tags) => [...tags.filter((other) => other !== tag), tag]);

const removeTag = (id, tag) => changeTags(id, (tags) => tags.filter((other) => other !== tag));

// The image with other tags. Its metadata are read anew: the service keeps the whole of what it is sent.
async function changeTags(id, change) {
  const { metadata } = await getImage(id);
  return setMetadata(id, { ...metadata, tags: change(tagsOf(metadata)) });
}

const tagsOf = (metadata) => (Array.isArray(metadata.tags) ? metadata.tags.map(String) : []);

// The row of tags beside the opened picture. `onChange` is called with the image whenever its tags have changed;
// `attempt` runs work that may fail.
export class TagRow {
  #image = null;
  #told;

  constructor({ onChange, attempt }) {
    this.#told = { onChange, attempt };
    byId("tag-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const tag = byId("tag-new").value.trim();
      byId("tag-new").value = "";
      if (tag) this.#change((id) => addTag(id, tag));
    });
  }

  show(image) {
    this.#image = image;
    byId("tags").replaceChildren(...tagsOf(image.metadata).map((tag) => this.#chip(tag)));
  }

  #chip(tag) {
    const href = address.addressOf({ collection: address.view().collection, tags: [tag] });
    const link = make("a", { href, textContent: tag, title: `All pictures with the tag ${tag}` });
    link.addEventListener("click", (event) => {
      event.preventDefault();
      address.goTo(href);
    });
    const remove = make("button", { type: "button", ariaLabel: `Remove the tag ${tag}`, textContent: "×" });
    remove.addEventListener("click", () => this.#change((id) => removeTag(id, tag)));
    return make("li", {}, link, remove);
  }

  #change(work) {
    const { id } = this.#image;
    return this.#told.attempt(async () => {
      const image = await work(id);
      this.#told.onChange(image);
      if (this.#image.id === id) this.show(image);
    });
  }
}
