// Camera: a video, sent frame by frame with one request in flight, so that the newest frame always wins.

import { Problem } from "./service.js";
import { draw } from "./image.js";

const LONGEST = 640;
const QUALITY = 0.8;
/** Milliseconds from one frame to the next at least: fifteen a second look fluent and leave room for others. */
const LEAST = 66;
/** Answers over which the rate is measured. */
const RECENT = 12;

/** Runs from `start` to `stop`; `predict(blob, signal)` asks the service, the listeners hear what becomes of it. */
export class Camera {
  #video;
  #predict;
  #listeners;
  #leaving = null;
  #times = [];

  /** @param listeners {answered(prediction, now), rate(perSecond, milliseconds), waiting(seconds), ended(problem)} */
  constructor(video, predict, listeners) {
    this.#video = video;
    this.#predict = predict;
    this.#listeners = listeners;
  }

  get running() {
    return this.#leaving !== null;
  }

  /** Start; throws the browser's error where there is no camera. */
  async start() {
    const leaving = new AbortController();
    this.#leaving = leaving;
    try {
      const wanted = { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 720 } };
      const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
      if (leaving.signal.aborted) return end(stream);
      leaving.signal.addEventListener("abort", () => end(stream));
      this.#video.srcObject = stream;
      await this.#video.play();
    } catch (error) {
      if (leaving.signal.aborted) return; // stopped while it was starting
      this.stop();
      throw error;
    }
    this.#run(leaving.signal);
  }

  /** Stop the loop and let the camera go. */
  stop() {
    this.#leaving?.abort();
    this.#leaving = null;
    this.#video.srcObject = null;
  }

  /** Return the frame that is seen now, whole, on a canvas; unmirrored, as the camera saw it. */
  frame(longest = Infinity) {
    const { videoWidth: width, videoHeight: height } = this.#video;
    const scale = Math.min(1, longest / Math.max(width, height));
    return draw(this.#video, Math.round(width * scale), Math.round(height * scale));
  }

  async #run(signal) {
    this.#times = [];
    while (!signal.aborted) {
      const began = performance.now();
      try {
        const blob = await new Promise((done) => this.frame(LONGEST).toBlob(done, "image/jpeg", QUALITY));
        const { answer } = await this.#predict(blob, signal);
        if (signal.aborted) return;
        this.#tellRate(began);
        this.#listeners.answered(answer, performance.now());
        await pause(LEAST - (performance.now() - began));
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof Problem) || error.retryAfter === null) {
          this.stop();
          this.#listeners.ended(error);
          return;
        }
        this.#listeners.waiting(error);
        await pause(1000 * error.retryAfter);
      }
    }
  }

  #tellRate(began) {
    const now = performance.now();
    this.#times = [...this.#times, now].slice(-RECENT);
    const [first, answers] = [this.#times[0], this.#times.length - 1];
    if (answers > 0) this.#listeners.rate((1000 * answers) / (now - first), now - began);
  }
}

function end(stream) {
  for (const track of stream.getTracks()) track.stop();
}

function pause(milliseconds) {
  return new Promise((done) => setTimeout(done, Math.max(0, milliseconds)));
}
