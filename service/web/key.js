// The dialog that asks for the API key.

import { key, onKeyWanted } from "./connection.js";
import { byId } from "./element.js";

let given = null; // many requests may want the key at the same time; the person is asked once

export function startKeys() {
  byId("key-change").addEventListener("click", async () => {
    if (await ask("Use another key", { mayCancel: true })) location.reload();
  });
  byId("key-change").hidden = key.get() === null;
  onKeyWanted((refused) => (given ??= ask("This service needs a key", { refused }).finally(() => (given = null))));
  byId("key-cancel").addEventListener("click", () => byId("key").close());
  byId("key").addEventListener("cancel", (event) => {
    if (byId("key-cancel").hidden) event.preventDefault();
  });
}

// Resolves to whether a key was given. `refused`: the key before was not accepted.
function ask(title, { refused = false, mayCancel = false }) {
  const dialog = byId("key");
  byId("key-title").textContent = title;
  byId("key-value").value = "";
  byId("key-refused").hidden = !refused;
  byId("key-cancel").hidden = !mayCancel;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const isGiven = dialog.returnValue === "use";
      if (isGiven) {
        key.set(byId("key-value").value.trim());
        byId("key-change").hidden = false;
      }
      resolve(isGiven);
    }, { once: true });
  });
}
