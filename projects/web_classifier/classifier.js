// From a photo to the names of its classes: the network, and the way from an image to its input.

import * as ort from "onnxruntime-web";
import { resizeAndCrop } from "./resize.js";

// Times the size that the network wants.
const LARGE = 4;

// Several threads would need a server that sends the headers of cross-origin isolation.
ort.env.wasm.numThreads = 1;

export class Classifier {
  /** Load the model that prepare.py put into `folder` (a URL that ends in a slash). */
  static async load(folder) {
    const description = await (await get(new URL("model.json", folder))).json();
    const bytes = await (await get(new URL(description.file, folder))).arrayBuffer();
    const session = await ort.InferenceSession.create(bytes);
    const classifier = new Classifier(description, bytes.byteLength, session);
    const side = classifier.side;
    await classifier.run(new Uint8Array(side * side * 3)); // the first call is the slowest
    return classifier;
  }

  constructor(description, size, session) {
    this.name = description.name;
    this.classes = description.classes;
    this.preprocessing = description.preprocessing;
    this.size = size; // of the file, bytes
    this.session = session;
  }

  /** Side of the square input, px. */
  get side() {
    return this.preprocessing.input_size;
  }

  /** {guesses: [{name, probability}, ...] with the best first, ms} for an ImageBitmap. */
  async classify(bitmap, count = 5) {
    const pixels = toPixels(bitmap, this.preprocessing);
    const start = performance.now();
    const logits = await this.run(pixels);
    const ms = performance.now() - start;
    const guesses = softmax(logits)
      .map((probability, index) => ({ name: this.classes[index], probability }))
      .sort((a, b) => b.probability - a.probability)
      .slice(0, count);
    return { guesses, ms };
  }

  /** Logits of RGB pixels, Uint8Array of side * side * 3. */
  async run(pixels) {
    const images = new ort.Tensor("uint8", pixels, [1, this.side, this.side, 3]);
    const { logits } = await this.session.run({ images });
    return logits.data;
  }
}

/** RGB bytes of the centre of `bitmap`, after its shorter side was resized. */
function toPixels(bitmap, { input_size: side, crop_ratio: ratio, interpolation }) {
  // An image of exactly the input's size is taken as it is, as in training.
  const exact = bitmap.width === side && bitmap.height === side;
  const target = exact ? side : Math.round(side / ratio);
  // Large photos are first drawn smaller: it bounds time and memory, and browsers limit a canvas.
  const scale = Math.min(1, (LARGE * target) / Math.min(bitmap.width, bitmap.height));
  const width = Math.round(bitmap.width * scale);
  const height = Math.round(bitmap.height * scale);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  const image = context.getImageData(0, 0, width, height);
  return resizeAndCrop(image, side, target, interpolation);
}

function softmax(logits) {
  const highest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - highest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

async function get(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname}: ${response.status} ${response.statusText}`);
  return response;
}
