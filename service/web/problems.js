// Problems: what went wrong in words, and what can be done about it: wait, try again, or give a key.

import { sentence } from "./words.js";

/** Times that an image is sent again by itself; after that a person decides. */
const RETRIES = 3;

/** The panel beside the image. */
export class Problems {
  #parts;
  #retry = null;
  #timer = null;
  #tries = 0;

  /** @param parts {panel, words, again, form, key}. @param onKey called with a key before the retry. */
  constructor(parts, onKey) {
    this.#parts = parts;
    parts.again.addEventListener("click", () => this.#tryAgain());
    parts.form.addEventListener("submit", (event) => {
      event.preventDefault();
      onKey(parts.key.value);
      parts.key.value = "";
      this.#tryAgain();
    });
  }

  /** Show a problem of the service. @param retry does the same once more. @param hadKey whether a key was sent. */
  show(problem, retry, hadKey = false) {
    this.#retry = retry;
    this.#tries += 1;
    const asksKey = problem.status === 401;
    const words = asksKey && hadKey ? "The service did not accept this key." : sentence(problem);
    const { panel, again, form, key } = this.#parts;
    panel.hidden = false;
    form.hidden = !asksKey;
    again.hidden = asksKey || !mayPass(problem);
    if (problem.retryAfter !== null && this.#tries <= RETRIES) {
      this.#say(`${words} Trying again in ${problem.retryAfter} s.`);
      this.#timer = setTimeout(() => this.#tryAgain(), 1000 * problem.retryAfter);
    } else {
      this.#say(words);
    }
    if (asksKey) key.focus();
  }

  /** Show words that nothing can be done about here. */
  tell(words) {
    this.clear();
    this.#parts.panel.hidden = false;
    this.#say(words);
  }

  /** Forget the problem, for another image or because it passed. */
  clear() {
    this.#tries = 0;
    this.#hide();
  }

  #hide() {
    clearTimeout(this.#timer);
    const { panel, again, form } = this.#parts;
    for (const part of [panel, again, form]) part.hidden = true;
    this.#say("");
  }

  #say(words) {
    this.#parts.words.textContent = words;
  }

  #tryAgain() {
    this.#hide();
    this.#retry();
  }
}

/** Tell whether the same image may be answered another time. */
function mayPass({ status }) {
  return status === 0 || status === 408 || status === 429 || status >= 500;
}
