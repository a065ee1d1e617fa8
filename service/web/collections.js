// The choice of a collection: a library of its own in the same service.

import * as address from "./address.js";
import { createCollection, listCollections } from "./api.js";
import { byId, make } from "./element.js";

const OTHER = "?"; // no name of a collection

export function startCollections() {
  byId("collection").addEventListener("change", () => {
    const { value } = byId("collection");
    if (value === OTHER) openDialog();
    else visit(value);
  });
  byId("collection-open").addEventListener("click", () => {
    if (byId("collection-form").reportValidity()) finish();
  });
  byId("collection-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await createCollection(byId("collection-name").value);
      finish();
    } catch (error) {
      byId("collection-problem").textContent = error.message;
    }
  });
  byId("collection-cancel").addEventListener("click", () => byId("collection-dialog").close());
  byId("collection-dialog").addEventListener("close", () => showChoice(address.view().collection));
}

// Lists all collections, the present one even where the key does not let them be listed.
export async function showCollections(present) {
  const collections = await listCollections().then(
    (answer) => answer.collections.map(({ name }) => name),
    () => [],
  );
  const names = new Set([...collections, present].filter(Boolean));
  const options = [["", "Library"], ...[...names].sort().map((name) => [name, name]), [OTHER, "Other…"]];
  byId("collection").replaceChildren(...options.map(([value, textContent]) => make("option", { value, textContent })));
  showChoice(address.view().collection);
}

const showChoice = (name) => (byId("collection").value = name);

const visit = (collection) => address.goTo(address.addressOf({ collection, tags: [] }));

function openDialog() {
  byId("collection-name").value = "";
  byId("collection-problem").textContent = "";
  byId("collection-dialog").showModal();
}

function finish() {
  visit(byId("collection-name").value);
  byId("collection-dialog").close();
}
