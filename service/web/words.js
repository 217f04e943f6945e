// Words: numbers, results and errors as sentences.

const THIN = "\u202f";

/** Return a share of 0..1 as people read it; what is not quite nothing or everything is not called so. */
export function percent(share) {
  const rounded = Math.round(100 * share);
  if (rounded === 0 && share > 0) return `<${THIN}1${THIN}%`;
  if (rounded === 100 && share < 1) return `>${THIN}99${THIN}%`;
  return `${rounded}${THIN}%`;
}

/** Return "1 face found." and its like; `total` faces were found, and some may not be answered. */
export function count(faces, total) {
  if (faces.length === 0) return "No face found in this image.";
  if (total > faces.length) {
    const shown = faces.length === 1 ? "the largest is shown" : `the ${faces.length} largest are shown`;
    return `${total} faces found; ${shown}.`;
  }
  return faces.length === 1 ? "1 face found." : `${faces.length} faces found.`;
}

const SPOKEN = 5;

/** Return the faces in words, for screen readers; the largest first, and no more than a few. */
export function spoken(faces) {
  const said = faces.slice(0, SPOKEN).map((face, at) => {
    return `Face ${at + 1}: ${face.expression}, ${Math.round(100 * face.confidence)} percent.`;
  });
  const rest = faces.length - said.length;
  return said.join(" ") + (rest > 0 ? ` And ${rest} more.` : "");
}

const SENTENCES = {
  unauthorized: "This service needs an API key.",
  "malformed-request": "The service could not read what was sent. Please try again.",
  "upload-timed-out": "The upload took too long. Try again, or with a smaller image.",
  "payload-too-large": "This image is larger than the service takes.",
  "unsupported-image": "This is not an image that the service can read. It takes JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF and HEIC.",
  "unsupported-encoding": "The upload was compressed in a way that the service does not read.",
  "invalid-parameter": "The service did not understand what was asked of it.",
  "broken-image": "This image is damaged: it is empty, ends too early or cannot be decoded.",
  overloaded: "The service has too much to do at the moment.",
  "rate-limited": "You have sent more than this service allows. Please wait a little.",
  "detection-failed": "Face detection failed on this image. Another image should work.",
  "face-failed": "The network failed on a face in this image. Another image should work.",
  "internal-error": "The service failed. That is its fault, not the image's.",
  "detector-unavailable": "Face detection is unavailable at the moment.",
  "not-ready": "The service is not ready yet.",
  draining: "The service is being stopped.",
  "deadline-exceeded": "The answer took too long, so the service gave up on it.",
  unreachable: "The service cannot be reached. Is it running, and are you online?",
};

const BY_STATUS = {
  401: SENTENCES.unauthorized,
  403: "This key may not do that.",
  413: SENTENCES["payload-too-large"],
  429: SENTENCES.overloaded,
  500: SENTENCES["internal-error"],
  502: "The service cannot be reached behind its gateway.",
  503: SENTENCES["not-ready"],
  504: SENTENCES["deadline-exceeded"],
};

/** Return what a problem means to the person who sent the image. */
export function sentence(problem) {
  const kind = problem.type.split(":").at(-1);
  return SENTENCES[kind] ?? BY_STATUS[problem.status] ?? `${problem.title}: ${problem.message}.`;
}

const CAMERA = {
  NotAllowedError: "The browser may not use the camera. Allow it for this page, then start again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera is in use by another program.",
  insecure: "Browsers give the camera only to pages over https or on this machine itself.",
};

/** Return why there is no image from the camera. */
export function cameraSentence(name) {
  return CAMERA[name] ?? "The camera could not be started.";
}
