// Image: what a person gave, upright, and as it is sent.

/** Longest side that is sent. Face detection runs at 640 pixels, so that nothing smaller than they can be is lost. */
export const LONGEST = 2048;

const READ_BY_SERVICE = [
  "image/jpeg",
  "image/png",
  "image/webp",
  "image/bmp",
  "image/gif",
  "image/tiff",
  "image/avif",
  "image/heic",
];
const QUALITY = 0.92;

/**
 * Return a file as `{bitmap, blob, note}`: pixels to show, bytes to send, and what was done to them in words.
 *
 * What the browser cannot draw has no bitmap and is sent as it is: the service knows best what is wrong with it.
 */
export async function prepare(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return { bitmap: null, blob: file, note: "" };
  }
  const { width, height } = bitmap;
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  if (scale === 1 && READ_BY_SERVICE.includes(file.type)) return { bitmap, blob: file, note: "" };
  const sent = draw(bitmap, Math.round(width * scale), Math.round(height * scale));
  const blob = await new Promise((done) => sent.toBlob(done, "image/jpeg", QUALITY));
  const size = `${sent.width} by ${sent.height}`;
  const note =
    scale < 1
      ? `Made smaller before it was sent: ${size} instead of ${width} by ${height} pixels.`
      : "Turned into a JPEG before it was sent.";
  bitmap.close();
  return { bitmap: await createImageBitmap(sent), blob, note };
}

/** Return a source of pixels on a canvas of its own, over white, as the service lays transparency. */
export function draw(source, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  return canvas;
}
