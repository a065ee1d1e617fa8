// The dialog with the details of one image.

import { getImage } from "./api.js";
import * as pictures from "./pictures.js";
import { bytes, inWords, name } from "./words.js";

const $ = (id) => document.getElementById(id);

// Each action is called with the image after the dialog has closed.
export function startDetails({ onAsk, onSimilar, onDelete }) {
  let shown = null;

  for (const [id, action] of [["details-ask", onAsk], ["details-similar", onSimilar]]) {
    $(id).addEventListener("click", () => {
      $("details").close();
      action(shown);
    });
  }
  $("details-delete").addEventListener("click", () => {
    // A second press within the dialog confirms; closing it takes the first one back.
    if ($("details-delete").dataset.sure) {
      $("details").close();
      onDelete(shown);
    } else {
      setSure(true);
    }
  });
  $("details-picture").addEventListener("error", () => ($("details-picture").hidden = true));

  return function open(image) {
    shown = image;
    setSure(false);
    $("details-title").textContent = name(image);
    $("details-picture").hidden = false;
    pictures.show($("details-picture"), image.id);
    $("details-list").replaceChildren(...facts(image).flatMap(([term, fact]) => [element("dt", term), element("dd", fact)]));
    $("details").showModal();
    addWords(image, () => shown === image);
  };
}

// Lists do not contain the words of the tokens, so they are fetched when the dialog opens.
async function addWords(image, stillShown) {
  const { words } = await getImage(image.id).catch(() => ({ words: null })); // deleted meanwhile: the facts stay
  const said = words && inWords(words);
  if (said && stillShown()) $("details-list").prepend(element("dt", "In words"), element("dd", said));
}

function setSure(sure) {
  const button = $("details-delete");
  button.textContent = sure ? "Delete for good?" : "Delete";
  if (sure) button.dataset.sure = "yes";
  else delete button.dataset.sure;
}

function facts(image) {
  const { tokens } = image;
  const metadata = Object.entries(image.metadata).filter(([key]) => key !== "filename");
  return [
    ["Kept", `${bytes(tokens.bytes)}: ${tokens.count} summary tokens of ${tokens.dim} numbers, codec ${tokens.codec}`],
    ["Size", `${image.width_px} × ${image.height_px} pixels`],
    ["Added", new Date(image.created_at_ms).toLocaleString()],
    ["Id", image.id],
    ["Model", `${image.model ?? "unknown"}, ${image.mode ?? "unknown"} (${image.fingerprint.slice(0, 16)})`],
    ...metadata.map(([key, value]) => [key, shown(value)]),
  ];
}

// The text in a picture has lines; other values are what their owner wrote.
function shown(value) {
  if (Array.isArray(value?.lines)) return value.lines.join(" · ");
  return typeof value === "string" ? value : JSON.stringify(value);
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}
