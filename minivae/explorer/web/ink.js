// Strokes on a pad become an example of the model's size.

/** The mean of each cell of a grid: (H, W, C) at a high resolution -> (h, w, C), by the areas that overlap */
export function shrink(values, [height, width, channels], [h, w]) {
  const out = new Float32Array(h * w * channels);
  const share = (n, m) => {
    const scale = n / m;
    return Array.from({ length: m }, (_, i) => {
      const found = [];
      for (let p = Math.floor(i * scale); p < Math.min(n, (i + 1) * scale); p++)
        found.push([p, (Math.min(p + 1, (i + 1) * scale) - Math.max(p, i * scale)) / scale]);
      return found;
    });
  };
  const [rows, columns] = [share(height, h), share(width, w)];
  for (let i = 0; i < h; i++)
    for (let j = 0; j < w; j++)
      for (const [p, a] of rows[i])
        for (const [q, b] of columns[j])
          for (let c = 0; c < channels; c++) out[(i * w + j) * channels + c] += a * b * values[(p * width + q) * channels + c];
  return out;
}

/** Where there is ink: [top, bottom, left, right], the last ones excluded; null for none */
export function bounds(values, [height, width, channels]) {
  let [top, bottom, left, right] = [height, 0, width, 0];
  for (let i = 0; i < height; i++)
    for (let j = 0; j < width; j++)
      for (let c = 0; c < channels; c++)
        if (values[(i * width + j) * channels + c] > 0.1) {
          [top, bottom] = [Math.min(top, i), Math.max(bottom, i + 1)];
          [left, right] = [Math.min(left, j), Math.max(right, j + 1)];
        }
  return bottom > top ? [top, bottom, left, right] : null;
}

/** As MNIST was made: scaled to fit 20 of 28 pixels, then shifted so that the centre of mass lies in the middle.  Y. LeCun et al., 1998 */
export function centred(values, shape, [h, w]) {
  const box = bounds(values, shape);
  const [, width, channels] = shape;
  if (!box) return new Float32Array(h * w * channels);
  const [top, bottom, left, right] = box;
  const side = Math.max(bottom - top, right - left);
  const scale = (Math.min(h, w) * 20) / 28 / side; // pixels of the result a pixel of the pad
  const mass = [0, 0, 0];
  for (let i = top; i < bottom; i++)
    for (let j = left; j < right; j++) {
      let ink = 0;
      for (let c = 0; c < channels; c++) ink += values[(i * width + j) * channels + c];
      mass[0] += ink;
      mass[1] += ink * (i + 0.5);
      mass[2] += ink * (j + 0.5);
    }
  // the part of the pad that becomes the picture, as large as its pixels times so many
  const [tall, wide] = [Math.round(h / scale), Math.round(w / scale)];
  const from = [Math.round(mass[1] / mass[0] - tall / 2), Math.round(mass[2] / mass[0] - wide / 2)];
  const part = new Float32Array(tall * wide * channels);
  for (let i = Math.max(top, from[0]); i < Math.min(bottom, from[0] + tall); i++)
    for (let j = Math.max(left, from[1]); j < Math.min(right, from[1] + wide); j++)
      for (let c = 0; c < channels; c++) part[((i - from[0]) * wide + j - from[1]) * channels + c] = values[(i * width + j) * channels + c];
  return shrink(part, [tall, wide, channels], [h, w]);
}
