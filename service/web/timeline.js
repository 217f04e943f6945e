// Timeline: the last half minute of one face as stacked bands, each named where it is widest.

const SPAN = 30_000;
const GAP = 2_000;
const LEAST_BAND = 15;

/** Draws on a canvas; the bands' colours come from the style sheet. */
export class Timeline {
  #canvas;
  #samples = [];

  constructor(canvas) {
    this.#canvas = canvas;
  }

  clear() {
    this.#samples = [];
    this.#canvas.setAttribute("aria-label", "Timeline of the apparent expression");
  }

  /** Add smoothed probabilities, or null where no face was seen, at `now` in milliseconds, and draw. */
  add(probabilities, now) {
    this.#samples.push({ at: now, probabilities });
    this.#samples = this.#samples.filter((sample) => now - sample.at <= SPAN);
    this.#draw(now);
  }

  /** Say in words what was drawn. */
  describe() {
    const seen = this.#samples.filter((sample) => sample.probabilities !== null);
    if (seen.length === 0) return;
    const names = Object.keys(seen[0].probabilities);
    const means = names.map((name) => [name, seen.reduce((sum, s) => sum + s.probabilities[name], 0) / seen.length]);
    const [first, second] = means.sort((a, b) => b[1] - a[1]);
    const words = (pair) => `${pair[0]} ${Math.round(100 * pair[1])} percent`;
    this.#canvas.setAttribute("aria-label", `Timeline; on average ${words(first)}, then ${words(second)}`);
  }

  #draw(now) {
    const canvas = this.#canvas;
    const [width, height, dense] = [canvas.clientWidth, canvas.clientHeight, window.devicePixelRatio];
    Object.assign(canvas, { width: Math.round(width * dense), height: Math.round(height * dense) });
    const context = canvas.getContext("2d");
    context.scale(dense, dense);
    const x = (at) => width * (1 - (now - at) / SPAN);
    const style = getComputedStyle(canvas);
    const widest = new Map();
    for (const run of runs(this.#samples)) this.#drawRun(context, run, { x, height, style, widest });
    this.#name(context, widest, { width, style });
  }

  #drawRun(context, run, { x, height, style, widest }) {
    const below = run.map(() => 0);
    for (const name of Object.keys(run[0].probabilities)) {
      const above = run.map((sample, at) => below[at] + sample.probabilities[name]);
      context.beginPath();
      run.forEach((sample, at) => context.lineTo(x(sample.at), height * (1 - above[at])));
      for (let at = run.length - 1; at >= 0; at--) context.lineTo(x(run[at].at), height * (1 - below[at]));
      context.closePath();
      context.fillStyle = style.getPropertyValue(`--${name}`) || style.getPropertyValue("--other");
      context.fill();
      context.strokeStyle = style.getPropertyValue("--card");
      context.stroke();
      run.forEach((sample, at) => {
        const thick = height * sample.probabilities[name];
        if (thick >= LEAST_BAND && thick > (widest.get(name)?.thick ?? 0)) {
          widest.set(name, { thick, x: x(sample.at), y: height * (1 - (above[at] + below[at]) / 2) });
        }
        below[at] = above[at];
      });
    }
  }

  #name(context, widest, { width, style }) {
    Object.assign(context, { font: `600 12px ${style.fontFamily}`, textBaseline: "middle", lineWidth: 4, lineJoin: "round" });
    for (const [name, { x, y }] of widest) {
      const wide = context.measureText(name).width;
      const left = Math.max(4, Math.min(width - wide - 6, x - wide / 2));
      context.strokeStyle = style.getPropertyValue("--card");
      context.strokeText(name, left, y);
      context.fillStyle = style.getPropertyValue("--ink");
      context.fillText(name, left, y);
    }
  }
}

/** Return stretches of two or more samples with a face, broken where none was seen or nothing came for a while. */
function runs(samples) {
  const found = [];
  let last = null;
  for (const sample of samples) {
    if (sample.probabilities === null) {
      last = null;
      continue;
    }
    if (last === null || sample.at - last.at(-1).at > GAP) found.push((last = []));
    last.push(sample);
  }
  return found.filter((run) => run.length > 1);
}
