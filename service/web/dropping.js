// Files that are dropped on the page, and those in dropped or chosen folders.

import { byId } from "./element.js";

const PICTURE = /\.(jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|hei[cf])$/i;

// Calls `onSearch` with a picture dropped on the search bar, `onAdd` with the files dropped anywhere else and with how
// many files of folders were left out.
export function startDropping({ onSearch, onAdd }) {
  const search = byId("search");
  const isOverSearch = (event) => search.contains(event.target);
  const end = () => {
    byId("drop").hidden = true;
    search.classList.remove("over");
  };
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    search.classList.toggle("over", isOverSearch(event));
    byId("drop").hidden = isOverSearch(event);
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) end();
  });
  document.addEventListener("drop", async (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    end();
    if (isOverSearch(event)) onSearch(event.dataTransfer.files[0]);
    else onAdd(...(await filesOf(event.dataTransfer)));
  });
}

// Of a chosen folder: the pictures, and the number of other files.
export function picturesOf(files) {
  const pictures = files.filter(({ name }) => PICTURE.test(name) && !name.startsWith("."));
  return [pictures, files.length - pictures.length];
}

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");

async function filesOf({ items }) {
  // All entries have to be taken before the first wait: the browser then empties the list.
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const single = await Promise.all(entries.filter((entry) => entry.isFile).map(fileOf));
  const inFolders = [];
  for (const entry of entries.filter((entry) => entry.isDirectory)) await walk(entry, inFolders);
  const [pictures, others] = picturesOf(inFolders);
  return [[...single, ...pictures], others];
}

const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

async function walk(folder, files) {
  const reader = folder.createReader();
  const nextEntries = () => new Promise((resolve, reject) => reader.readEntries(resolve, reject));
  // A reader hands out the entries in portions, the last of which is empty.
  for (let entries = await nextEntries(); entries.length; entries = await nextEntries()) {
    for (const entry of entries) {
      if (entry.isDirectory) await walk(entry, files);
      else files.push(await fileOf(entry));
    }
  }
}
