// Numbers: packed spectra unpacked, smoothed, and fitted with templates. Nothing here draws.
"use strict";

const $ = (id) => document.getElementById(id);
const jsonOf = (id) => JSON.parse($(id).textContent);
const { rows, problems, positions, links, templates: packedTemplates, lines, shownBy, colours, zwarn, key, stem,
        provenance, served } = jsonOf("data");
const SPEED_OF_LIGHT = 299792.458; // km/s

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer;
}

// Whole numbers as packing.py deflates them: differences of 32 bits, the lowest bytes first.
async function wholesOf(base64) {
  const packed = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(packed).arrayBuffer()), n = planes.length / 4;
  const values = new Int32Array(n);
  for (let i = 0, sum = 0; i < n; i++) {
    sum = (sum + (planes[i] | (planes[n + i] << 8) | (planes[2 * n + i] << 16) | (planes[3 * n + i] << 24))) | 0;
    values[i] = sum;
  }
  return values;
}

// The constants of packing.py.
const SIGMA_STEP = 0.01, LEAST_SIGMA = 1e-7;

// As packing.pack_spectrum packed it: fluxes in units of the level, sigma 0 at bad pixels.
async function unpackSpectrum(packed) {
  const { n, axis, step } = packed;
  let wavelength;
  if (axis.kind === "listed") {
    let place = 0;
    wavelength = Float64Array.from(await wholesOf(axis.data), (d) => axis.first + axis.step * (place += d));
  } else {
    wavelength = Float64Array.from({ length: n }, (_, i) => {
      const value = axis.first + axis.step * i;
      return axis.kind === "log" ? 10 ** value : value;
    });
  }
  return {
    n, level: packed.level, wavelength, loglam: wavelength.map(Math.log10),
    flux: Float64Array.from(await wholesOf(packed.flux), (whole) => whole * step),
    sigma: Float64Array.from(await wholesOf(packed.sigma), (s) => s && LEAST_SIGMA * Math.exp(SIGMA_STEP * (s - 1))),
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

// --- the best fit of a class, wherever it is -----------------------------------------------

const LN10 = Math.LN10;
const COARSE = 4; // template pixels that are taken together to find where templates fit
const PLACES = 2; // so many of the best of those places are looked at in full
const APART = 0.01; // ln(1+z) between two places
const SLICE = 10; // ms after which the browser may do other things

// Where ln(1+z) lies between `least` and `most`, the templates' greatest gain; null if they reach
// nowhere, or `isOver` says that nobody waits any more.
async function bestFit(spectrum, templates, least, most, isOver) {
  let since = performance.now();
  const rest = async () => {
    if (performance.now() - since < SLICE) return isOver();
    await new Promise((done) => setTimeout(done));
    since = performance.now();
    return isOver();
  };
  const coarse = coarsened(spectrum, templates), per = LN10 * templates.dloglam;
  const gains = [];
  for (let shift = Math.ceil(least / (COARSE * per)); shift <= most / (COARSE * per); shift++) {
    if (await rest()) return null;
    const gain = coarseGain(coarse, shift);
    if (gain !== null) gains.push({ x: shift * COARSE * per, gain });
  }
  gains.sort((a, b) => b.gain - a.gain);
  const places = [];
  for (const { x } of gains) {
    if (places.length < PLACES && places.every((place) => Math.abs(place - x) > APART)) places.push(x);
  }
  let best = null;
  for (const place of places) {
    const tried = [];
    for (let step = -COARSE; step <= COARSE; step++) {
      if (await rest()) return null;
      const x = Math.min(most, Math.max(least, place + step * per));
      tried.push({ x, gain: fitTemplates(spectrum, templates, Math.expm1(x))?.gain ?? -Infinity });
    }
    const i = tried.reduce((top, one, k) => (one.gain > tried[top].gain ? k : top), 0);
    let { x } = tried[i];
    if (i > 0 && i < tried.length - 1) { // a parabola through the three highest points
      const [left, middle, right] = [-1, 0, 1].map((d) => tried[i + d].gain);
      const curvature = left - 2 * middle + right;
      if (curvature < 0 && Number.isFinite(curvature)) x += (0.5 * per * (left - right)) / curvature;
    }
    const fit = fitTemplates(spectrum, templates, Math.expm1(x));
    if (fit && (!best || fit.gain > best.gain)) best = { ...fit, z: Math.expm1(x) };
  }
  return best;
}

// The spectrum in bins of the templates' grid, and the templates in the same bins.
function coarsened(spectrum, templates) {
  const { n, loglam, flux, sigma } = spectrum, step = COARSE * templates.dloglam;
  const bin = (i) => Math.floor((loglam[i] - templates.loglam0) / step);
  const first = bin(0), count = bin(n - 1) - first + 1;
  const sum = new Float64Array(count), weight = new Float64Array(count);
  for (let i = 0; i < n; i++) {
    if (!(sigma[i] > 0)) continue;
    const w = Math.min(1 / (sigma[i] * sigma[i]), MAX_WEIGHT);
    weight[bin(i) - first] += w;
    sum[bin(i) - first] += w * flux[i];
  }
  const vectors = templates.vectors.map((vector) => Float64Array.from(
    { length: Math.floor(templates.length / COARSE) },
    (_, j) => vector.subarray(COARSE * j, COARSE * (j + 1)).reduce((a, b) => a + b) / COARSE));
  const line = Float64Array.from({ length: count }, (_, i) => -1 + (2 * i) / Math.max(count - 1, 1));
  const smooth = [line.map(() => 1), line, line.map((t) => 1.5 * t * t - 0.5)];
  return { first, weight, vectors, smooth, flux: sum.map((s, i) => (weight[i] > 0 ? s / weight[i] : 0)) };
}

function coarseGain({ first, weight, flux, vectors, smooth }, shift) {
  const from = first - shift, count = flux.length; // the first bin of the spectrum in the templates
  const low = Math.max(0, -from), high = Math.min(count, vectors[0].length - from);
  const own = weight.map((w, i) => (i >= low && i < high && Number.isFinite(vectors[0][from + i]) ? w : 0));
  const good = weight.reduce((number, w) => number + (w > 0), 0);
  const used = own.reduce((number, w) => number + (w > 0), 0);
  const size = vectors.length + POLYNOMIALS;
  if (!(used >= MIN_OVERLAP * good) || used <= size) return null;
  const shifted = vectors.map((vector) => flux.map((_, i) => (own[i] > 0 ? vector[from + i] : 0)));
  const whole = leastSquares([...shifted, ...smooth], flux, own).chi2;
  return (leastSquares(smooth, flux, own).chi2 - whole) / Math.max(whole / (used - size), 1);
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
