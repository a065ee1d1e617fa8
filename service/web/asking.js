// The panel of questions and answers.

import * as api from "./api.js";
import * as pictures from "./pictures.js";
import { count, seconds } from "./words.js";

const $ = (id) => document.getElementById(id);

// `chosen()` returns the images to ask about, `open(id)` shows the details of one.
export function startAsking({ chosen, open }) {
  let running = null;

  $("ask").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    const question = $("question").value.trim() || $("question").placeholder;
    const images = chosen();
    const card = newCard(question, images);
    $("answers").prepend(card.element);
    running = new AbortController();
    setBusy(true);
    try {
      const answer = await api.ask(question, {
        ids: images.length ? images.map((image) => image.id) : null,
        limit: Number($("reach").value),
        signal: running.signal,
        onPiece: card.write,
      });
      card.finish(answer, open);
    } catch (error) {
      if (error.name === "AbortError") card.stop();
      else card.fail(error.message);
    } finally {
      running = null;
      setBusy(false);
    }
  });
  $("stop").addEventListener("click", () => running?.abort());
  $("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      $("ask").requestSubmit();
    }
  });
}

function setBusy(busy) {
  $("stop").hidden = !busy;
  $("ask-button").disabled = busy;
}

function newCard(question, images) {
  const element = document.createElement("article");
  element.className = "answer busy";
  const asked = paragraph(element, "asked");
  asked.textContent = images.length > 1 ? `${question} (${images.length} images)` : question;
  const said = paragraph(element, "said");
  const note = (text) => (paragraph(element, "note").textContent = text);
  return {
    element,
    write: (text) => (said.textContent = (said.textContent + text).trimStart()),
    stop() {
      element.classList.remove("busy");
      note("Stopped.");
    },
    fail(reason) {
      element.classList.replace("busy", "failed");
      if (said.textContent) note(reason);
      else said.textContent = reason;
    },
    finish(answer, open) {
      element.classList.remove("busy");
      said.textContent = answer.answer || "(The model said nothing.)";
      if (answer.unsure) {
        element.classList.add("unsure");
        note(`Unsure: right with a probability of ${Math.round(100 * answer.confidence)} %.`);
      }
      element.append(sources(answer.images, open));
      const { prompt_tokens: read } = answer.usage;
      note(`From ${count(answer.images.length, "image")}, ${count(read, "token")} read, ${seconds(answer.timings_ms.total)}`);
    },
  };
}

function paragraph(parent, className) {
  const element = document.createElement("p");
  element.className = className;
  parent.append(element);
  return element;
}

function sources(images, open) {
  const row = document.createElement("div");
  row.className = "used";
  for (const source of images) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.setAttribute("aria-label", `Image ${source.id.slice(0, 8)} that the answer is from`);
    const img = document.createElement("img");
    img.alt = "";
    img.addEventListener("error", () => img.replaceWith(source.id.slice(0, 4)));
    button.append(img);
    button.addEventListener("click", () => open(source.id));
    pictures.show(img, source.id);
    row.append(button);
  }
  return row;
}
