// Faces: a box for each on the image and a card for each beside it; choosing one marks both.

import { Bars, element, strongest } from "./bars.js";
import { percent } from "./words.js";

/** Nearer to the upper edge than this share of the image, a box has its words inside. */
const HIGH = 0.06;

/** Put `node` where `{x, y, width, height}` lies on an image of this size. */
function place(node, { x, y, width, height }, image) {
  node.classList.toggle("high", y < HIGH * image.height);
  Object.assign(node.style, {
    left: `${(100 * x) / image.width}%`,
    top: `${(100 * y) / image.height}%`,
    width: `${(100 * width) / image.width}%`,
    height: `${(100 * height) / image.height}%`,
  });
}

function tag(at, face) {
  const words = element("span", "words", {}, `${face.expression} ${percent(face.confidence)}`);
  return element("span", "tag", { "data-expression": face.expression }, `${at + 1}`, words);
}

/** The faces of one still image. */
export class Faces {
  #boxes;
  #cards;

  /** @param boxes the radio group that lies over the image. @param cards the list beside it. */
  constructor(boxes, cards) {
    this.#boxes = boxes;
    this.#cards = cards;
    boxes.addEventListener("change", (event) => this.#mark(Number(event.target.value), true));
  }

  clear() {
    this.#boxes.replaceChildren();
    this.#cards.replaceChildren();
  }

  /** Show the faces of an answer; `source` is the upright image. The largest face is the chosen one. */
  show({ faces, image }, source) {
    this.#boxes.replaceChildren(...faces.map((face, at) => this.#box(face, at, image)));
    this.#cards.replaceChildren(...faces.map((face, at) => this.#card(face, at, source, image)));
    if (faces.length > 0) this.#choose(0);
  }

  #box(face, at, image) {
    const label = `Face ${at + 1}: ${face.expression}, ${percent(face.confidence)}`;
    const radio = element("input", "unseen", { type: "radio", name: "face", value: at, "aria-label": label });
    const box = element("label", "box", {}, radio, tag(at, face));
    place(box, face.box, image);
    for (const point of Object.values(face.landmarks)) {
      const x = (100 * (point.x - face.box.x)) / face.box.width;
      const y = (100 * (point.y - face.box.y)) / face.box.height;
      const dot = element("span", "dot", { "aria-hidden": "true" });
      Object.assign(dot.style, { left: `${x}%`, top: `${y}%` });
      box.append(dot);
    }
    return box;
  }

  #card(face, at, source, image) {
    const bars = new Bars(Object.keys(face.probabilities), `Face ${at + 1}, probability of each apparent expression`);
    bars.show(face.probabilities);
    const heading = element("h2", "", {}, face.expression, element("span", "share", {}, percent(face.confidence)));
    const found = `Face ${at + 1}, detected with ${percent(face.detection_confidence)}`;
    const head = element("div", "head", {}, thumbnail(source, face.box, image), element("div", "", {}, heading));
    head.lastElementChild.append(element("p", "small", {}, found));
    const card = element("li", "card", { "data-expression": face.expression }, head, bars.table);
    card.addEventListener("click", () => this.#choose(at));
    return card;
  }

  #choose(at) {
    this.#boxes.querySelectorAll("input")[at].checked = true;
    this.#mark(at, false);
  }

  #mark(at, scroll) {
    [...this.#cards.children].forEach((card, other) => card.classList.toggle("chosen", other === at));
    if (scroll) this.#cards.children[at].scrollIntoView({ block: "nearest" });
  }
}

const THUMBNAIL = 112;

/** Return the face cut out of the image, square. */
function thumbnail(source, box, image) {
  const canvas = element("canvas", "thumbnail", { width: THUMBNAIL, height: THUMBNAIL, "aria-hidden": "true" });
  const side = 1.25 * Math.max(box.width, box.height);
  const scale = source.width / image.width;
  const [left, top] = [box.x + box.width / 2 - side / 2, box.y + box.height / 2 - side / 2];
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(source, left * scale, top * scale, side * scale, side * scale, 0, 0, THUMBNAIL, THUMBNAIL);
  return canvas;
}

/** The faces of a video: boxes that only show, and one card for the largest face. */
export class MovingFaces {
  #boxes;
  #cards;
  #card = null;

  constructor(boxes, cards) {
    this.#boxes = boxes;
    this.#cards = cards;
  }

  /** Show boxes, mirrored as the camera's image is, and the largest face's smoothed probabilities, or null. */
  show({ faces, image }, smoothed) {
    this.#boxes.replaceChildren(
      ...faces.map((face, at) => {
        const box = element("div", "box", {}, tag(at, face));
        place(box, { ...face.box, x: image.width - face.box.x - face.box.width }, image);
        return box;
      }),
    );
    if (smoothed !== null) this.#showCard(smoothed);
  }

  clear() {
    this.#boxes.replaceChildren();
    this.#cards.replaceChildren();
    this.#card = null;
  }

  #showCard(smoothed) {
    this.#card ??= this.#makeCard(Object.keys(smoothed));
    const top = strongest(smoothed);
    this.#card.bars.show(smoothed);
    this.#card.name.textContent = top;
    this.#card.share.textContent = percent(smoothed[top]);
    this.#card.node.dataset.expression = top;
  }

  #makeCard(names) {
    const bars = new Bars(names, "The largest face, smoothed probability of each apparent expression");
    const [name, share] = [element("span"), element("span", "share")];
    const head = element("div", "head", {}, element("div", "", {}, element("h2", "", {}, name, share)));
    head.lastElementChild.append(element("p", "small", {}, "The largest face, smoothed over a second"));
    const node = element("li", "card chosen", {}, head, bars.table);
    this.#cards.replaceChildren(node);
    return { node, bars, name, share };
  }
}
