// Planes through the space of codes, ellipses in them, and ways between two codes.

const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);

/** The plane of two latents, or of the principal axes: {origin, a, b}, a and b of length 1 (b is 0 where there is one latent). */
export function planeOf(run, { x, y, principal }) {
  const n = run.model.latent;
  if (principal && n > 2) {
    const { mean, axes, share } = run.principal;
    const names = share.map((s, i) => `principal axis ${i + 1} (${Math.round(100 * s)}%)`);
    return { origin: mean, a: axes.slice(0, n), b: axes.slice(n), names, key: "principal" };
  }
  const unit = (k) => Float32Array.from({ length: n }, (_, i) => (i === k ? 1 : 0));
  const b = x === y ? new Float32Array(n) : unit(y);
  return { origin: new Float32Array(n), a: unit(x), b, names: [`z${x + 1}`, x === y ? "" : `z${y + 1}`], key: `${x},${y}` };
}

/** Where a code lies on the plane. */
export function project({ origin, a, b }, z) {
  const away = Array.from(z, (v, k) => v - origin[k]);
  return [dot(away, a), dot(away, b)];
}

/** The code moved within the plane to (u, v); what it is across the plane stays. */
export function moveTo(plane, z, u, v) {
  const [u0, v0] = project(plane, z);
  return Array.from(z, (value, k) => value + (u - u0) * plane.a[k] + (v - v0) * plane.b[k]);
}

/** The ellipse of one standard deviation of a Gaussian, on the plane: {centre, radii, angle} */
export function ellipse(plane, { mean, logvar }) {
  const covariance = (p, q) => p.reduce((sum, v, k) => sum + v * q[k] * Math.exp(logvar[k]), 0);
  const [aa, ab, bb] = [covariance(plane.a, plane.a), covariance(plane.a, plane.b), covariance(plane.b, plane.b)];
  const middle = (aa + bb) / 2;
  const half = Math.hypot((aa - bb) / 2, ab);
  return {
    centre: project(plane, mean),
    radii: [Math.sqrt(middle + half), Math.sqrt(Math.max(middle - half, 0))],
    angle: Math.atan2(2 * ab, aa - bb) / 2,
  };
}

/** (1 - t) a + t b */
export const lerp = (a, b, t) => Array.from(a, (v, k) => (1 - t) * v + t * b[k]);

/** [sin((1 - t) w) a + sin(t w) b] / sin w, w the angle between a and b; null where no arc is the one: an end is 0, or they are opposite */
export function slerp(a, b, t) {
  const [la, lb] = [Math.hypot(...a), Math.hypot(...b)];
  if (!(la > 0 && lb > 0)) return null;
  const apart = Math.hypot(...Array.from(a, (v, k) => v / la - b[k] / lb));
  const sum = Math.hypot(...Array.from(a, (v, k) => v / la + b[k] / lb));
  const angle = 2 * Math.atan2(apart, sum);
  if (angle > Math.PI - 1e-6) return null;
  if (angle < 1e-9) return lerp(a, b, t);
  const [p, q] = [Math.sin((1 - t) * angle) / Math.sin(angle), Math.sin(t * angle) / Math.sin(angle)];
  return Array.from(a, (v, k) => p * v + q * b[k]);
}
