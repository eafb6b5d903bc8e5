// How much an answer tells: eff, the number of exact directional derivatives that a ranking is worth. With w_i the number
// of items known to be worse than i minus those known to be better, |E| the known pairs, and z_r the expected normal order
// statistics, c = sum w z / |E|, s^2 = sum w^2 / |E|^2, eff = c^2 / s^2: the rank-based gradient of Tang, Rybin and Chang
// (arXiv 2303.03751). z_r by Blom's formula (1958), good to 1.5 % of eff.

// Acklam's rational approximation of the normal quantile, relative error below 1.2e-9.
function quantile(p) {
  const a = [
    -39.69683028665376, 220.9460984245205, -275.9285104469687, 138.357751867269, -30.66479806614716, 2.506628277459239,
  ];
  const b = [-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572, 1];
  const c = [
    -0.007784894002430293, -0.3223964580411365, -2.400758277161838, -2.549732539343734, 4.374664141464968,
    2.938163982698783,
  ];
  const d = [0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1];
  const poly = (coefficients, x) => coefficients.reduce((sum, k) => sum * x + k, 0);
  if (p > 0.5) return -quantile(1 - p);
  if (p > 0.02425) return (poly(a, (p - 0.5) ** 2) * (p - 0.5)) / poly(b, (p - 0.5) ** 2);
  const q = Math.sqrt(-2 * Math.log(p));
  return poly(c, q) / poly(d, q);
}

// sizes: of the groups, best first; what was not looked at is not in them. 0 where nothing is told apart.
export function eff(sizes) {
  const m = sizes.reduce((sum, size) => sum + size, 0);
  let [better, edges, up, squares] = [0, 0, 0, 0];
  for (const size of sizes) {
    const worse = m - better - size;
    const w = worse - better;
    for (let r = better + 1; r <= better + size; r += 1) up += w * -quantile((r - 0.375) / (m + 0.25));
    squares += size * w * w;
    edges += size * worse;
    better += size;
  }
  return edges ? up ** 2 / squares : 0;
}
