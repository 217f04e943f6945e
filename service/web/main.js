// Main: the page's parts, made and put together.

import { element, strongest } from "./bars.js";
import { Camera } from "./camera.js";
import { Code } from "./code.js";
import { Faces, MovingFaces } from "./faces.js";
import { draw, prepare } from "./image.js";
import { Problems } from "./problems.js";
import { Problem, Service } from "./service.js";
import { Smoothing } from "./smoothing.js";
import { Timeline } from "./timeline.js";
import { cameraSentence, count, spoken } from "./words.js";

const HALF_LIFE = 350;
/** Milliseconds between two things said of a video; more would talk over itself. */
const SPEECH = 4_000;

const at = (id) => document.getElementById(id);
const service = new Service();
const code = new Code({
  languages: document.querySelector(".languages"),
  snippet: at("snippet"),
  copy: at("copy"),
  copied: at("copied"),
});
const faces = new Faces(at("boxes"), at("cards"));
const moving = new MovingFaces(at("boxes"), at("cards"));
const timeline = new Timeline(at("timeline"));
const smoothing = new Smoothing(HALF_LIFE);
const problems = new Problems(
  { panel: at("problem"), words: at("problem-words"), again: at("again"), form: at("key-form"), key: at("key") },
  (key) => {
    service.key = key;
    code.needsKey();
    tellModel();
  },
);
let asking = new AbortController();

function view(name) {
  document.body.dataset.view = name;
}

function say(words, heard = "") {
  at("status").replaceChildren(words, ...(heard ? [element("span", "unseen", {}, ` ${heard}`)] : []));
}

/** Leave what is shown, whatever it is, for something new. */
function leave() {
  asking.abort();
  asking = new AbortController();
  camera.stop();
  problems.clear();
  faces.clear();
  moving.clear();
  at("boxes").setAttribute("role", "radiogroup");
  at("answer").hidden = true;
  at("note").textContent = "";
  document.body.dataset.busy = "";
  return asking.signal;
}

/** Fit the frame to an image of this size: as wide as there is room for, and no taller than a share of the window. */
function fit(width, height, percent) {
  at("frame").style.aspectRatio = `${width} / ${height}`;
  at("frame").style.maxInlineSize = `min(100%, ${(percent * width) / height}vh)`;
}

// A still image

async function look(file) {
  const signal = leave();
  say("Looking…");
  document.body.dataset.busy = "yes";
  const { bitmap, blob, note } = await prepare(file);
  if (signal.aborted) return;
  view(bitmap === null ? "nothing" : "image");
  at("note").textContent = note;
  if (bitmap !== null) {
    fit(bitmap.width, bitmap.height, 68);
    const canvas = at("image");
    Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(draw(bitmap, bitmap.width, bitmap.height), 0, 0);
  } else {
    Object.assign(at("image"), { width: 1, height: 1 }); // or the cards would show the image before
  }
  await ask(blob, signal);
}

async function ask(blob, signal) {
  document.body.dataset.busy = "yes";
  say("Looking…");
  const began = performance.now();
  try {
    const { answer, stages } = await service.predict(blob, signal);
    problems.clear();
    show(answer, stages, performance.now() - began);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Problem)) throw error;
    say("No answer.");
    problems.show(error, () => ask(blob, signal), service.key !== "");
  } finally {
    if (!signal.aborted) document.body.dataset.busy = "";
  }
}

function show(answer, stages, milliseconds) {
  faces.show(answer, at("image"));
  say(count(answer.faces, answer.faces_total), spoken(answer.faces));
  const words = { find: "finding faces", queue: "waiting", infer: "the network" };
  const parts = Object.entries(stages).map(([name, taken]) => `${words[name] ?? name} ${Math.round(taken)}`);
  const took = `Answered in ${Math.round(milliseconds)} ms`;
  const note = parts.length > 0 ? `${took}, of which ${parts.join(", ")}.` : `${took}.`;
  if (document.body.dataset.view === "nothing") at("note").append("The service reads this image; this browser cannot show it.");
  at("note").append(at("note").textContent ? " " : "", note);
  at("json").textContent = JSON.stringify(answer, null, 2);
  at("answer").hidden = false;
}

// A video

let lastSaid = { words: "", at: -Infinity };

const camera = new Camera(at("video"), (blob, signal) => service.predict(blob, signal), {
  answered(answer, now) {
    problems.clear();
    const largest = answer.faces[0];
    const smoothed = largest === undefined ? null : smoothing.add(largest.probabilities, now);
    if (smoothed === null) smoothing.clear();
    moving.show(answer, smoothed);
    timeline.add(smoothed, now);
    const words = smoothed === null ? "No face in view." : `The largest face: ${strongest(smoothed)}.`;
    if (words !== lastSaid.words && now - lastSaid.at > SPEECH) {
      say(words);
      lastSaid = { words, at: now };
    }
  },
  rate(perSecond, milliseconds) {
    at("rate").textContent = `${perSecond.toFixed(1)} answers a second, each after ${Math.round(milliseconds)} ms`;
  },
  waiting(problem) {
    at("rate").textContent = `The service is busy; going on in ${problem.retryAfter} s`;
  },
  ended(error) {
    if (!(error instanceof Problem)) throw error;
    still("The camera stopped.");
    problems.show(error, startCamera, service.key !== "");
  },
});

async function startCamera() {
  leave();
  timeline.clear();
  smoothing.clear();
  at("rate").textContent = "";
  lastSaid = { words: "", at: -Infinity };
  if (!navigator.mediaDevices) {
    problems.tell(cameraSentence("insecure"));
    return;
  }
  at("boxes").setAttribute("role", "presentation");
  view("camera");
  say("The camera is starting…");
  try {
    await camera.start();
    fit(at("video").videoWidth, at("video").videoHeight, 46); // the timeline below it is to be seen as well
  } catch (error) {
    still("No camera.");
    problems.tell(cameraSentence(error.name));
    at("live").focus();
  }
}

/** Stop the camera and leave its timeline to be looked at. */
function still(words) {
  camera.stop();
  moving.clear();
  timeline.describe();
  view(at("rate").textContent === "" ? "empty" : "stopped");
  say(words);
}

function stopCamera(words) {
  if (!camera.running) return;
  still(words);
  at("live").focus();
}

function shoot() {
  const frame = camera.frame();
  leave();
  view("nothing"); // the camera's buttons are gone, the others are back to be focused
  at("choose").focus();
  frame.toBlob((blob) => look(blob), "image/jpeg", 0.92);
}

// What a person does

function firstFile(files) {
  if (files.length > 0) look(files[0]);
}

for (const [button, input] of [["choose", "file"], ["photo", "capture"]]) {
  at(button).addEventListener("click", () => at(input).click());
  at(input).addEventListener("change", (event) => {
    firstFile(event.target.files);
    event.target.value = "";
  });
}
at("drawn").addEventListener("click", async () => look(await (await fetch("web/drawn-faces.jpg")).blob()));
at("live").addEventListener("click", startCamera);
at("shoot").addEventListener("click", shoot);
at("stop").addEventListener("click", () => stopCamera("The camera stopped."));
at("easel").addEventListener("click", () => {
  if (document.body.dataset.view === "empty") at("file").click();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) stopCamera("The camera stopped, because this page was hidden.");
});
document.addEventListener("paste", (event) => firstFile(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.dataset.dragging = "yes";
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.dataset.dragging = "";
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.dataset.dragging = "";
  firstFile(event.dataTransfer.files);
});

// What is loaded

async function tellModel() {
  let model;
  try {
    model = await service.model();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return; // the page does without; the first image will say what is wrong
  }
  at("classes").replaceChildren(...model.classes.map((name) => element("li", "", { "data-expression": name }, name)));
  const [measured] = [...model.measured, ...model.published];
  const accuracy = measured && `right on ${measured.accuracy.toFixed(1)} % of ${measured.n.toLocaleString("en")} images of ${measured.dataset}`;
  at("measured").textContent = accuracy ? `Weights ${model.id}: ${accuracy}.` : `Weights ${model.id}.`;
  document.body.dataset.model = model.id;
}

tellModel();
