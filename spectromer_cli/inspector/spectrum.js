// Numbers: packed spectra unpacked, smoothed, and fitted with templates. Nothing here draws.
"use strict";

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer;
}

// IEEE half precision, which not every browser knows.
function halves(base64) {
  const bits = new Uint16Array(bytesOf(base64));
  return Float64Array.from(bits, (h) => {
    const sign = h & 0x8000 ? -1 : 1;
    const exponent = (h >> 10) & 31;
    const fraction = h & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : fraction * 2 ** -24);
  });
}

// As packing.pack_spectrum packed it: fluxes in units of the level, sigma 0 at bad pixels.
function unpackSpectrum(packed) {
  const { n, axis } = packed;
  let wavelength;
  if (axis.kind === "listed") {
    wavelength = Float64Array.from(new Float32Array(bytesOf(axis.data)));
  } else {
    wavelength = Float64Array.from({ length: n }, (_, i) => {
      const value = axis.first + axis.step * i;
      return axis.kind === "log" ? 10 ** value : value;
    });
  }
  return {
    n, level: packed.level, wavelength, loglam: wavelength.map(Math.log10),
    flux: halves(packed.flux), sigma: halves(packed.sigma),
  };
}

function unpackTemplates(packed) {
  const values = new Float32Array(bytesOf(packed.data));
  const length = values.length / packed.count;
  const vectors = Array.from({ length: packed.count }, (_, k) => values.subarray(k * length, (k + 1) * length));
  return { loglam0: packed.loglam0, dloglam: packed.dloglam, length, vectors };
}

// Gaussian of `width` pixels; pixels weigh by their inverse variance, bad ones not at all.
function smoothed(spectrum, width) {
  const { n, flux, sigma } = spectrum;
  if (width === 0) return { flux, sigma };
  const reach = Math.ceil(4 * width);
  const kernel = Array.from({ length: reach + 1 }, (_, d) => Math.exp((-0.5 * d * d) / (width * width)));
  const weight = sigma.map((s) => (s > 0 ? 1 / (s * s) : 0));
  const out = { flux: new Float64Array(n), sigma: new Float64Array(n) };
  for (let i = 0; i < n; i++) {
    if (weight[i] === 0) continue; // a bad pixel stays bad
    let sum = 0, total = 0, squares = 0;
    for (let j = Math.max(0, i - reach); j <= Math.min(n - 1, i + reach); j++) {
      const share = kernel[Math.abs(i - j)];
      sum += share * weight[j] * flux[j];
      total += share * weight[j];
      squares += share * share * weight[j];
    }
    out.flux[i] = sum / total;
    out.sigma[i] = Math.sqrt(squares) / total;
  }
  return out;
}

// The constants and the method of spectromer_cli/model/template_fit.py.
const POLYNOMIALS = 3, MIN_OVERLAP = 0.3, MAX_WEIGHT = 1e4;

// Best sum of templates and polynomials at redshift z by weighted least squares; null where
// the templates cover too little. `gain` is by how much the templates lower χ².
function fitTemplates(spectrum, templates, z) {
  const { n, loglam, flux, sigma } = spectrum;
  const count = templates.vectors.length, size = count + POLYNOMIALS;
  const design = Array.from({ length: size }, () => new Float64Array(n));
  const weight = new Float64Array(n), covered = new Uint8Array(n);
  const shift = Math.log10(1 + z) + templates.loglam0;
  let good = 0, used = 0;
  for (let i = 0; i < n; i++) {
    const at = (loglam[i] - shift) / templates.dloglam, low = Math.floor(at), part = at - low;
    const usable = sigma[i] > 0;
    good += usable;
    const [first] = templates.vectors; // NaN where learned from too few spectra
    covered[i] = low >= 0 && low + 1 < templates.length && Number.isFinite(first[low] + first[low + 1]);
    if (!covered[i]) continue;
    for (let k = 0; k < count; k++) {
      const vector = templates.vectors[k];
      design[k][i] = (1 - part) * vector[low] + part * vector[low + 1];
    }
    const t = -1 + (2 * i) / (n - 1); // Legendre polynomials P0, P1, P2
    design[count][i] = 1;
    design[count + 1][i] = t;
    design[count + 2][i] = 1.5 * t * t - 0.5;
    if (usable) {
      weight[i] = Math.min(1 / (sigma[i] * sigma[i]), MAX_WEIGHT);
      used++;
    }
  }
  if (!(used >= MIN_OVERLAP * good) || used <= size) return null;
  const whole = leastSquares(design, flux, weight);
  const smooth = leastSquares(design.slice(count), flux, weight);
  const freedom = used - size;
  const model = new Float64Array(n).fill(NaN);
  for (let i = 0; i < n; i++) {
    if (!covered[i]) continue;
    model[i] = 0;
    for (let k = 0; k < size; k++) model[i] += whole.coefficients[k] * design[k][i];
  }
  const noise = Math.max(whole.chi2 / freedom, 1);
  return { model, chi2: whole.chi2, freedom, gain: (smooth.chi2 - whole.chi2) / noise };
}

function leastSquares(design, flux, weight) {
  const size = design.length, n = flux.length;
  const normal = design.map(() => new Float64Array(size));
  const right = new Float64Array(size);
  let total = 0;
  for (let i = 0; i < n; i++) {
    const w = weight[i];
    if (w === 0) continue;
    total += w * flux[i] * flux[i];
    for (let a = 0; a < size; a++) {
      const scaled = w * design[a][i];
      right[a] += scaled * flux[i];
      for (let b = 0; b <= a; b++) normal[a][b] += scaled * design[b][i];
    }
  }
  // Templates that a short spectrum cannot tell apart share the light.
  let trace = 0;
  for (let a = 0; a < size; a++) trace += normal[a][a];
  for (let a = 0; a < size; a++) normal[a][a] += 1e-12 * (trace + 1);
  const coefficients = choleskySolved(normal, right);
  let explained = 0;
  for (let a = 0; a < size; a++) explained += right[a] * coefficients[a];
  return { coefficients, chi2: total - explained };
}

// Solves for a symmetric positive matrix of which the lower half is given, and overwritten.
function choleskySolved(matrix, right) {
  const size = right.length, x = Float64Array.from(right);
  for (let a = 0; a < size; a++) {
    for (let b = 0; b <= a; b++) {
      let sum = matrix[a][b];
      for (let k = 0; k < b; k++) sum -= matrix[a][k] * matrix[b][k];
      matrix[a][b] = a === b ? Math.sqrt(Math.max(sum, 1e-300)) : sum / matrix[b][b];
    }
  }
  for (let a = 0; a < size; a++) {
    for (let k = 0; k < a; k++) x[a] -= matrix[a][k] * x[k];
    x[a] /= matrix[a][a];
  }
  for (let a = size - 1; a >= 0; a--) {
    for (let k = a + 1; k < size; k++) x[a] -= matrix[k][a] * x[k];
    x[a] /= matrix[a][a];
  }
  return x;
}

// First and last index of every run of bad pixels.
function badRuns(sigma) {
  const runs = [];
  for (let i = 0; i < sigma.length; i++) {
    if (sigma[i] > 0) continue;
    const first = i;
    while (i + 1 < sigma.length && !(sigma[i + 1] > 0)) i++;
    runs.push([first, i]);
  }
  return runs;
}

function quantile(values, share) {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.round(share * (sorted.length - 1))];
}
