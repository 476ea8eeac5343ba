// Resizing and centre crop as in training. Browsers smooth images each in its own way, which changes
// the class of some photos; this computes what torchvision does with antialiasing, up to rounding.

const FILTERS = {
  bilinear: { radius: 1, weight: (t) => 1 - t },
  bicubic: {
    radius: 2,
    weight: (t) => (t < 1 ? (1.5 * t - 2.5) * t * t + 1 : ((-0.5 * t + 2.5) * t - 4) * t + 2),
  },
};

/**
 * RGB bytes, side * side * 3, from ImageData: its shorter side is resized to `target`, then the
 * central square is kept. Only pixels of that square are computed.
 */
export function resizeAndCrop({ data, width, height }, side, target, interpolation) {
  const filter = FILTERS[interpolation];
  const shorter = Math.min(width, height);
  const columns = taps(width, Math.floor((target * width) / shorter), side, filter);
  const rows = taps(height, Math.floor((target * height) / shorter), side, filter);

  // First along x, [height, side, 3], then along y. Clamped arrays round, as 8-bit images do.
  const narrow = new Uint8ClampedArray(height * side * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < side; x++) {
      const from = 4 * (y * width + columns[x].first);
      mix(data, from, 4, columns[x].weights, narrow, 3 * (y * side + x), 3);
    }
  }
  const pixels = new Uint8ClampedArray(side * side * 3);
  const stride = 3 * side;
  for (let y = 0; y < side; y++) {
    mix(narrow, rows[y].first * stride, stride, rows[y].weights, pixels, y * stride, stride);
  }
  return new Uint8Array(pixels.buffer);
}

/** target[to + c] = sum of weights[i] * source[from + i * step + c], for c below count. */
function mix(source, from, step, weights, target, to, count) {
  for (let c = 0; c < count; c++) {
    let sum = 0;
    for (let i = 0; i < weights.length; i++) sum += weights[i] * source[from + i * step + c];
    target[to + c] = sum;
  }
}

/** For each of the central `side` of `resized` pixels: the first of `size` it mixes, and weights. */
function taps(size, resized, side, { radius, weight }) {
  const scale = size / resized;
  const stretch = Math.max(1, scale); // antialiasing: the filter covers what a pixel replaces
  const offset = roundHalfToEven((resized - side) / 2);
  return Array.from({ length: side }, (_, index) => {
    const centre = (offset + index + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - radius * stretch + 0.5));
    const end = Math.min(size, Math.floor(centre + radius * stretch + 0.5));
    const weights = Array.from({ length: end - first }, (_, i) =>
      weight(Math.min(radius, Math.abs(first + i + 0.5 - centre) / stretch)),
    );
    const sum = weights.reduce((a, b) => a + b);
    return { first, weights: weights.map((w) => w / sum) };
  });
}

/** As Python rounds. */
function roundHalfToEven(x) {
  return x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x);
}
