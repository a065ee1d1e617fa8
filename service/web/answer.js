// One question and its answer, as the answer comes.

import { byId, make } from "./element.js";
import * as pictures from "./pictures.js";
import { count, percent, seconds } from "./words.js";

export class AnswerCard {
  element = byId("answer").content.cloneNode(true).firstElementChild;
  #said = this.element.querySelector(".said");

  // `onOpen` is called with the id of a source that the person wants to see, `onRemove` when the card has been removed.
  constructor(question, { onOpen, onRemove }) {
    this.onOpen = onOpen;
    this.element.querySelector(".remove").addEventListener("click", () => {
      this.element.remove();
      onRemove();
    });
    this.element.querySelector(".asked").textContent = question;
  }

  write(text) {
    this.#said.textContent = (this.#said.textContent + text).trimStart();
  }

  stop() {
    this.element.classList.remove("busy");
    this.#note("Stopped.");
  }

  // `onRetry` asks the same again.
  fail(reason, onRetry) {
    this.element.classList.replace("busy", "failed");
    this.#note(reason);
    const retry = make("button", { className: "quiet small", type: "button", textContent: "Ask again" });
    retry.addEventListener("click", onRetry);
    this.element.append(retry);
  }

  finish(answer) {
    this.element.classList.remove("busy");
    this.#said.textContent = answer.answer || "(The model gave no answer.)";
    if (answer.unsure) {
      this.element.classList.add("unsure");
      this.#note(`Unsure: ${percent(answer.confidence)} likely to be right.`);
    }
    if (answer.finish_reason === "length") this.#note(cutOff(answer.usage));
    if (answer.source === "ocr") this.#note("The text in the picture was read and given to the model.");
    if (!isAboutOneNamed(answer)) this.element.append(this.#sources(answer.images));
    this.#note(origin(answer));
  }

  #note(text) {
    this.element.append(make("p", { className: "note", textContent: text }));
  }

  #sources(images) {
    const row = make("div", { className: "sources" });
    images.forEach((source, index) => {
      const img = make("img", { alt: "", draggable: false });
      const button = make("button", { type: "button", ariaLabel: sourceLabel(source, index) }, img);
      button.classList.toggle("cited", source.cited === true);
      img.addEventListener("error", () => img.replaceWith(String(index + 1)));
      button.addEventListener("click", () => this.onOpen(source.id));
      pictures.show(img, source.id);
      row.append(button);
    });
    return row;
  }
}

// The person knows which picture the question was about.
const isAboutOneNamed = ({ images }) => images.length === 1 && images[0].score === null;

function sourceLabel({ cited }, index) {
  const place = `Open source picture ${index + 1}`;
  return cited ? `${place}, which supports this answer` : place;
}

function cutOff({ completion_tokens: length }) {
  return `Cut off after ${count(length, "token")}, the longest answer. Ask for less at a time to read all of it.`;
}

function origin({ images, timings_ms: times }) {
  return `${support(images)} · ${seconds(times.total)}`;
}

// What the answer was made from, and how many of several pictures give it alone where that was judged.
function support(images) {
  const all = count(images.length, "picture");
  const isJudged = images.some(({ cited }) => typeof cited === "boolean");
  if (images.length < 2 || !isJudged) return `From ${all}`;
  const cited = images.filter((image) => image.cited).length;
  if (cited === 0) return `None of the ${all} supports this alone`;
  if (cited < images.length) return `${cited} of ${all} ${cited === 1 ? "supports" : "support"} this`;
  return `${cited === 2 ? "Both" : `All ${cited}`} pictures support this`;
}
