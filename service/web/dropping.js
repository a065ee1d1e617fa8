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

// The pictures of a folder, and the number of its other files. A file that cannot be read is null.
export const picturesOf = (files) => parted(files, ({ name }) => PICTURE.test(name) && !name.startsWith("."));

// The same of single files: one of a type that the browser does not know may be a picture.
export const singlePicturesOf = (files) => parted(files, ({ type }) => !type || type.startsWith("image/"));

function parted(files, isPicture) {
  const pictures = files.filter((file) => file && isPicture(file));
  return [pictures, files.length - pictures.length];
}

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");

async function filesOf({ items }) {
  // All entries have to be taken before the first wait: the browser then empties the list.
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const single = await Promise.all(entries.filter((entry) => entry.isFile).map(fileOf));
  const inFolders = [];
  for (const entry of entries.filter((entry) => entry.isDirectory)) await walk(entry, inFolders);
  const [pictures, others] = singlePicturesOf(single);
  const [picturesInFolders, othersInFolders] = picturesOf(inFolders);
  return [[...pictures, ...picturesInFolders], others + othersInFolders];
}

const fileOf = (entry) => new Promise((resolve) => entry.file(resolve, () => resolve(null)));

async function walk(folder, files) {
  const reader = folder.createReader();
  // A folder that cannot be read ends here.
  const nextEntries = () => new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
  // A reader hands out the entries in portions, the last of which is empty.
  for (let entries = await nextEntries(); entries.length; entries = await nextEntries()) {
    for (const entry of entries) {
      if (entry.isDirectory) await walk(entry, files);
      else files.push(await fileOf(entry));
    }
  }
}
