// The dialog that asks for the API key.

import { key, onKeyWanted } from "./connection.js";
import { byId } from "./element.js";

let given = null; // many requests may want the key at the same time; the person is asked once

export function startKeys() {
  byId("key-change").addEventListener("click", async () => {
    await ask(false);
    location.reload();
  });
  byId("key-change").hidden = key.get() === null;
  onKeyWanted((refused) => (given ??= ask(refused).finally(() => (given = null))));
  byId("key").addEventListener("cancel", (event) => event.preventDefault());
}

function ask(refused) {
  byId("key-value").value = "";
  byId("key-refused").hidden = !refused;
  byId("key").showModal();
  return new Promise((resolve) => {
    byId("key").addEventListener("close", () => {
      if (byId("key-value").value) key.set(byId("key-value").value);
      byId("key-change").hidden = false;
      resolve();
    }, { once: true });
  });
}
