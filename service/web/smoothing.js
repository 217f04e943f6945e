// Smoothing: probabilities that move as slowly as an eye can follow.

/** An exponential average over time; `halfLife` in milliseconds. */
export class Smoothing {
  #halfLife;
  #at = null;
  #values = null;

  constructor(halfLife) {
    this.#halfLife = halfLife;
  }

  /** Return the average after these probabilities `{name: 0..1}` at `now`, in milliseconds; they still sum to 1. */
  add(probabilities, now) {
    const old = this.#values;
    const kept = old === null ? 0 : 0.5 ** ((now - this.#at) / this.#halfLife);
    const mixed = Object.entries(probabilities).map(([name, p]) => [name, p + kept * ((old?.[name] ?? p) - p)]);
    this.#values = Object.fromEntries(mixed);
    this.#at = now;
    return this.#values;
  }

  /** Forget everything: the next probabilities count alone. */
  clear() {
    this.#values = null;
  }
}
