// A box for questions, with the answers below it.

import { AnswerCard } from "./answer.js";
import { byId, make } from "./element.js";

const INTERRUPTED = "precis-question"; // in the tab's storage from a reload in the middle of an answer

// The question whose answer a reload interrupted: { place, question }, `place` being the id of its box; or null.
export function interruptedQuestion() {
  const kept = sessionStorage.getItem(INTERRUPTED);
  sessionStorage.removeItem(INTERRUPTED);
  return kept && JSON.parse(kept);
}

export class Asking {
  #place;
  #about;
  #told;
  #running = null;
  #question = ""; // that is being answered
  #cited = null; // the card of the answer whose sources are highlighted
  #find = (selector) => this.#place.querySelector(selector);

  // `about()` returns what the next question is about: `scope` and `placeholder` (texts for the person), `suggestions`
  // (questions), `isLibrary`, and `ask(question, limit, options)`, which resolves to the answer.
  // `onOpen` gets the id of a picture to open, `onCited` the ids of the pictures that support the latest answer.
  constructor(place, { about, onOpen, onCited }) {
    this.#place = place;
    this.#about = about;
    this.#told = { onOpen, onCited };
    place.append(byId("asking").content.cloneNode(true));
    this.#find("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#find(".stop").addEventListener("click", () => this.stop());
    this.#find("textarea").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    });
    // A browser breaks the connection between the two; some know only the second.
    for (const leaving of ["beforeunload", "pagehide"]) window.addEventListener(leaving, () => this.#keepQuestion());
    this.describe();
  }

  // Puts a question into the box, for the person to ask.
  offer(question) {
    this.#find("textarea").value = question;
  }

  // Says again what the next question is about.
  describe() {
    const { scope, placeholder, isLibrary, suggestions } = this.#about();
    this.#find(".scope").textContent = scope;
    this.#find(".reach").hidden = !isLibrary;
    this.#find("textarea").placeholder = placeholder;
    this.#find(".suggestions").replaceChildren(...suggestions.map((text) => this.#suggestion(text)));
    this.#find(".suggestions").hidden = this.#find(".answers").childElementCount > 0;
  }

  // Drops the answers, and stops the one that is being made.
  clear() {
    this.stop();
    this.#find(".answers").replaceChildren();
    this.#showCited(null, []);
    this.describe();
  }

  stop() {
    this.#running?.abort();
  }

  #suggestion(text) {
    const button = make("button", { type: "button", className: "quiet small", textContent: text });
    button.addEventListener("click", () => this.#ask(text));
    return button;
  }

  #submit() {
    const box = this.#find("textarea");
    const question = box.value.trim();
    if (this.#running) return;
    if (!question) return box.focus();
    box.value = "";
    this.#ask(question);
  }

  async #ask(question) {
    if (this.#running) return;
    const { ask } = this.#about();
    const limit = Number(this.#find(".reach").value);
    const running = (this.#running = new AbortController());
    this.#question = question;
    const onRemove = () => {
      running.abort();
      if (this.#cited === card) this.#showCited(null, []);
      this.describe();
      this.#find(".send").focus(); // the focus was on the card
    };
    const card = new AnswerCard(question, { onOpen: this.#told.onOpen, onRemove });
    this.#find(".answers").prepend(card.element);
    this.#find(".suggestions").hidden = true;
    this.#setBusy(true);
    try {
      const options = { signal: running.signal, onPiece: (text) => card.write(text) };
      const answer = await ask(question, limit, options);
      card.finish(answer);
      sessionStorage.removeItem(INTERRUPTED); // where the person stayed after all
      this.#showCited(card, answer.images.filter((image) => image.cited).map((image) => image.id));
    } catch (error) {
      if (running.signal.aborted) card.stop();
      else card.fail(error.message, () => this.#ask(question));
    } finally {
      this.#running = null;
      this.#question = "";
      this.#setBusy(false);
    }
  }

  #keepQuestion() {
    if (!this.#question) return;
    sessionStorage.setItem(INTERRUPTED, JSON.stringify({ place: this.#place.id, question: this.#question }));
  }

  #showCited(card, ids) {
    this.#cited = card;
    this.#told.onCited(ids);
  }

  // Stop takes the place of Ask, so that the row keeps its width.
  #setBusy(busy) {
    this.#find(".stop").hidden = !busy;
    this.#find(".send").hidden = busy;
  }
}
