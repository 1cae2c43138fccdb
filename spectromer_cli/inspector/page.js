// What the reader does: sort, filter, step through rows and redshifts, give verdicts, export.

const $ = (id) => document.getElementById(id);
const jsonOf = (id) => JSON.parse($(id).textContent);
const { rows, problems, templates: packedTemplates, lines, shownBy, colours, zwarn, key, stem, provenance } =
  jsonOf("data");
const SPEED_OF_LIGHT = 299792.458; // km/s
// Lan et al. 2023, ApJ 943, 68: the scale of DESI's visual inspections.
const QUALITIES = [
  "no signal", "a signal, but nothing to tell what it is", "possible: unsure features",
  "probable: one secure feature, or several weak ones", "certain: two or more secure features",
];
const STAR_REACH = 0.004; // ln(1+z) of the fastest stars of the Galaxy: 1200 km/s

// --- rows ------------------------------------------------------------------------------------

const idOf = (row) => `${row.file ?? ""}[${row.row ?? 0}]`;
const confidenceOf = (row) => row.z_prob ?? row.class_prob ??
  [row.p_star, row.p_galaxy, row.p_qso].reduce((a, p) => (p == null ? a : Math.max(a ?? 0, p)), null);
const nameOf = (row) => row.object_id || `${String(row.file ?? "").split("/").at(-1)}${row.row ? `[${row.row}]` : ""}`;
const fixed = (digits) => (value) => (typeof value === "number" ? value.toFixed(digits) : value ?? "");

// The bits of zwarn by name; those of a catalogue are not ours and stay a number.
const bitsOf = (value) => Object.keys(zwarn).filter((bit) => value & bit).map((bit) => zwarn[bit]);
const inWords = (value) => bitsOf(value).join(", ") || (value ?? "");

const COLUMNS = [
  { name: "#", of: (row, i) => i + 1, title: "place in the results" },
  { name: "object", of: nameOf, text: true, title: "object, or file" },
  { name: "class", of: (row) => row.class, text: true, title: "class" },
  { name: "z", of: (row) => row.z, show: fixed(5), title: "redshift" },
  { name: "conf.", of: confidenceOf, show: fixed(3), title: "probability of the redshift; of the class where results have no redshift" },
  { name: "zwarn", of: (row) => row.zwarn, show: inWords, title: "doubts about the redshift, 0 if there are none" },
  { name: "S/N", of: (row) => row.sn_median, show: fixed(1), title: "median signal-to-noise ratio per pixel" },
  { name: "you", of: (row) => verdicts[idOf(row)]?.quality, title: "quality of your verdict" },
];
const ALIASES = { sn: (row) => row.sn_median, confidence: confidenceOf, "conf.": confidenceOf,
                  quality: (row) => verdicts[idOf(row)]?.quality };

let shown = []; // rows that pass the filter, in the order of the table
let selected = -1;
let sorting = { column: 0, down: false };
const cells = []; // table rows, made once

function makeTable() {
  COLUMNS.forEach((column, c) => {
    const head = document.createElement("th"), button = document.createElement("button");
    head.scope = "col";
    if (!column.text) head.className = "number";
    button.type = "button";
    button.textContent = column.name;
    button.title = column.title;
    button.onclick = () => {
      sorting = { column: c, down: sorting.column === c && !sorting.down };
      fillTable();
    };
    head.append(button);
    $("columns").append(head);
  });
  rows.forEach((row, i) => {
    const line = document.createElement("tr");
    line.dataset.index = i;
    for (const column of COLUMNS) {
      const cell = line.insertCell();
      cell.className = column.text ? "text" : "number";
      const value = column.of(row, i);
      cell.textContent = column.show ? column.show(value) : value ?? "";
      if (column.name === "object") cell.title = idOf(row);
    }
    if (row.zwarn) {
      line.cells[5].classList.add("warned");
      line.cells[5].title = inWords(row.zwarn);
    }
    if (problems[i]) line.classList.add("unread");
    cells.push(line);
  });
  $("rows").onclick = (event) => {
    const line = event.target.closest("tr");
    if (line) select(Number(line.dataset.index));
  };
  for (const name of new Set(rows.map((row) => row.class).filter(Boolean))) {
    $("filter-class").add(new Option(name, name));
  }
}

function fillTable() {
  const { of } = COLUMNS[sorting.column], way = sorting.down ? -1 : 1;
  const passes = filterOf($("filter").value);
  shown = rows.map((_, i) => i).filter((i) => passes(rows[i]));
  const keys = rows.map((row, i) => of(row, i));
  shown.sort((a, b) => compare(keys[a], keys[b], way) || a - b);
  $("rows").replaceChildren(...shown.map((i) => cells[i]));
  [...$("columns").children].forEach((head, c) => {
    head.setAttribute("aria-sort", c !== sorting.column ? "none" : sorting.down ? "descending" : "ascending");
  });
  $("count").textContent = `${shown.length} of ${rows.length} spectra`;
}

// Rows without a value stand last, whichever way the others are sorted.
function compare(a, b, way) {
  const hasA = a != null && a !== "", hasB = b != null && b !== "";
  if (!hasA || !hasB) return hasB - hasA;
  return way * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
}

function filterOf(text) {
  const tests = text.trim().split(/\s+/).filter(Boolean).map(testOf);
  const wanted = $("filter-class").value;
  if (wanted) tests.push((row) => row.class === wanted);
  if ($("filter-warned").checked) tests.push((row) => row.zwarn !== 0);
  if ($("filter-unjudged").checked) tests.push((row) => verdicts[idOf(row)]?.quality == null);
  return (row) => tests.every((test) => test(row));
}

// COLUMN>VALUE, or else a word to be found in the row.
function testOf(term) {
  const parts = /^([\w.]+)(!=|<=|>=|=|<|>)(.*)$/.exec(term);
  const of = parts && (ALIASES[parts[1].toLowerCase()] ?? (Object.hasOwn(rows[0], parts[1]) && ((row) => row[parts[1]])));
  if (!of) {
    const word = term.toLowerCase();
    return (row) => [idOf(row), row.object_id, row.class, row.subclass, row.survey, row.flags]
      .some((value) => String(value ?? "").toLowerCase().includes(word));
  }
  const [, , sign, limit] = parts, number = Number(limit);
  return (row) => {
    const value = of(row);
    if (value == null || value === "") return sign === "!=" || (sign === "=" && limit === "");
    const [a, b] = typeof value === "number" && limit !== "" && !Number.isNaN(number)
      ? [value, number] : [String(value).toLowerCase(), limit.toLowerCase()];
    return { "=": a === b, "!=": a !== b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b }[sign];
  };
}

// --- the spectrum that is shown --------------------------------------------------------------

const templates = {}; // unpacked when first wanted
let view, spectrum = null, coarse = 0, z = 0, tableGain = null, redshifts = [];

function select(index) {
  cells[selected]?.removeAttribute("aria-selected");
  selected = index;
  cells[index].setAttribute("aria-selected", "true");
  cells[index].scrollIntoView({ block: "nearest" });
  const row = rows[index], verdict = verdicts[idOf(row)];
  $("name").textContent = nameOf(row);
  $("facts").textContent = factsOf(row);
  $("problem").textContent = problems[index] ? `No spectrum: ${problems[index]}` : "";
  $("view").classList.toggle("empty", Boolean(problems[index]));
  describe($("all"), row);
  $("comment").value = verdict?.comment ?? "";
  const element = $(`spectrum-${index}`), packed = element && JSON.parse(element.textContent);
  spectrum = packed ? { ...unpackSpectrum(packed), importance: packed.importance } : null;
  const wanted = verdict?.class || row.class || "";
  const options = new Set([...Object.keys(lines), "OTHER", ...rows.map((r) => r.class).filter(Boolean), ...(wanted ? [wanted] : [""])]);
  $("class").replaceChildren(...[...options].map((name) => new Option(name, name, false, name === wanted)));
  listRedshifts(row, verdict);
  if (spectrum) view.show(spectrum, Number($("smooth").value));
  tableGain = spectrum && row.z != null && templatesOf(row.class)
    ? fitTemplates(spectrum, templatesOf(row.class), row.z)?.gain ?? null : null;
  setRedshift(verdict?.z ?? row.z ?? 0);
  showVerdict();
}

function factsOf(row) {
  const bits = bitsOf(row.zwarn);
  const words = String(row.flags ?? "").split(";").filter((word) => !bits.includes(word));
  const facts = [
    row.object_id ? idOf(row) : null,
    row.survey,
    row.class && `${row.class}${row.subclass ? ` ${row.subclass}` : ""}`,
    row.z != null && `z = ${row.z.toFixed(5)}${row.z_err != null ? ` ± ${row.z_err.toPrecision(2)}` : ""}`,
    row.sn_median != null && `S/N ${row.sn_median.toFixed(1)}`,
    bits.length && `zwarn: ${bits.join(", ")}`,
    words.join(";"),
  ];
  return facts.filter(Boolean).join("  ·  ");
}

function describe(list, values) {
  list.replaceChildren(...Object.entries(values).flatMap(([name, value]) => {
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value ?? "–";
    return [term, text];
  }));
}

function templatesOf(name) {
  if (!Object.hasOwn(packedTemplates, name)) return null;
  return (templates[name] ??= unpackTemplates(packedTemplates[name]));
}

function linesOf(name) {
  if (name === "") return [];
  const known = Object.hasOwn(lines, name) ? name : "GALAXY";
  const row = rows[selected], type = row.class === name ? row.star_type || row.subclass || "" : "";
  const shown = shownBy[known][type] ?? shownBy[known][""];
  const own = lines[known].filter((line) => shown.includes(line.name));
  return $("show-bands").checked ? own : own.filter((line) => !line.molecular);
}

function listRedshifts(row, verdict) {
  redshifts = [["z", row.z, row.z_prob]];
  for (let i = 1; `z_alt${i}` in row; i++) redshifts.push([`z_alt${i}`, row[`z_alt${i}`], row[`z_alt${i}_prob`]]);
  if (verdict?.z != null) redshifts.push(["yours", verdict.z, null]);
  redshifts = redshifts.filter(([, value]) => value != null);
  $("redshifts").replaceChildren(...redshifts.map(([name, value, probability]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `${name} ${value.toFixed(5)}${probability != null ? `  p ${probability.toFixed(2)}` : ""}`;
    button.onclick = () => setRedshift(value);
    return button;
  }));
}

function nextRedshift() {
  if (!redshifts.length) return;
  const now = redshifts.findIndex(([, value]) => Math.abs(value - z) < 1e-7);
  setRedshift(redshifts[(now + 1) % redshifts.length][1]);
}

// A redshift chosen outright: the coarse slider goes there, the fine one to its middle.
function setRedshift(value) {
  coarse = value;
  const isStar = $("class").value === "STAR";
  const x = Math.log1p(value), least = isStar ? -STAR_REACH : -0.01, most = isStar ? STAR_REACH : Math.log(8);
  Object.assign($("coarse"), { min: Math.min(least, x), max: Math.max(most, x), step: isStar ? 1e-5 : 1e-4 });
  $("coarse").value = x;
  $("fine").value = 0;
  drawRedshift(value);
}

function drawRedshift(value) {
  z = value;
  if (document.activeElement !== $("z")) $("z").value = z.toFixed(5);
  [...$("redshifts").children].forEach((button, i) => {
    button.setAttribute("aria-pressed", Math.abs(redshifts[i][1] - z) < 1e-7);
  });
  if (!spectrum) { $("fit").textContent = ""; return; }
  const name = $("class").value;
  const fit = view.redshift(z, linesOf(name), templatesOf(name));
  $("fit").textContent = !fit ? "no template fit here" :
    `template fit: χ²/ν ${(fit.chi2 / fit.freedom).toFixed(2)}, χ² lower by ${fit.gain.toFixed(0)} than polynomials` +
    (tableGain != null ? ` (z of the table: ${tableGain.toFixed(0)})` : "");
}

function readPointer(wavelength) {
  const inside = spectrum && wavelength >= spectrum.wavelength[0] && wavelength <= spectrum.wavelength.at(-1);
  if (!inside) { $("readout").textContent = "\u00a0"; return; }
  let i = spectrum.wavelength.findIndex((value) => value >= wavelength);
  if (i > 0 && wavelength - spectrum.wavelength[i - 1] < spectrum.wavelength[i] - wavelength) i--;
  const flux = spectrum.sigma[i] > 0
    ? `flux ${(spectrum.flux[i] * spectrum.level).toPrecision(4)} ± ${(spectrum.sigma[i] * spectrum.level).toPrecision(2)}`
    : "masked";
  $("readout").textContent = `λ ${wavelength.toFixed(1)} Å   rest ${(wavelength / (1 + z)).toFixed(1)} Å   ${flux}`;
}

// --- verdicts: in memory and, where the browser lets us, in its storage ----------------------

let verdicts = {};
const STORE = `spectromer verdicts ${key}`;

function loadVerdicts() {
  try {
    verdicts = JSON.parse(localStorage.getItem(STORE) ?? "{}");
  } catch (error) {
    $("saved").textContent = "This browser does not keep verdicts: export them before you leave.";
  }
}

function record(change) {
  if (selected < 0) return;
  const id = idOf(rows[selected]);
  verdicts[id] = { ...verdicts[id], class: $("class").value, z: Number(z.toFixed(7)),
                   comment: $("comment").value, date: new Date().toISOString().slice(0, 19) + "Z", ...change };
  keep();
}

function keep() {
  try {
    localStorage.setItem(STORE, JSON.stringify(verdicts));
  } catch (error) {
    $("saved").textContent = "This browser does not keep verdicts: export them before you leave.";
  }
  cells[selected].cells[7].textContent = verdicts[idOf(rows[selected])]?.quality ?? "";
  showVerdict();
}

function showVerdict() {
  const verdict = verdicts[idOf(rows[selected])];
  [...$("qualities").children].forEach((button, quality) => {
    button.setAttribute("aria-pressed", verdict?.quality === quality);
  });
  $("recorded").textContent = verdict
    ? `recorded: ${verdict.class || "no class"}, z = ${verdict.z.toFixed(5)}, ` +
      (verdict.quality != null ? `quality ${verdict.quality} (${QUALITIES[verdict.quality]})` : "no quality yet")
    : "nothing recorded for this spectrum";
  $("export").disabled = !Object.keys(verdicts).length;
}

function verdictsCsv() {
  const quoted = (value) => {
    const text = String(value ?? "");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const own = ["file", "row", "object_id", "class", "z", "z_prob", "zwarn"];
  const records = [[...own, "vi_class", "vi_z", "vi_quality", "vi_comment", "vi_date"]];
  for (const row of rows) {
    const verdict = verdicts[idOf(row)];
    if (verdict) {
      records.push([...own.map((name) => row[name]), verdict.class, verdict.z, verdict.quality, verdict.comment, verdict.date]);
    }
  }
  return records.map((line) => line.map(quoted).join(",") + "\n").join("");
}

function exportVerdicts() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([verdictsCsv()], { type: "text/csv" }));
  link.download = `${stem}-verdicts.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// --- keys and buttons ------------------------------------------------------------------------

function step(by) {
  if (!shown.length) return;
  const at = shown.indexOf(selected);
  select(shown[at < 0 ? 0 : Math.max(0, Math.min(shown.length - 1, at + by))]);
}

function onKey(event) {
  const writing = event.target.matches("input[type=search], input[type=text], input[type=number]");
  if (event.key === "Escape") event.target.blur();
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const actions = { ArrowDown: () => step(1), ArrowUp: () => step(-1), a: nextRedshift,
                    c: () => $("comment").focus(), "/": () => $("filter").focus() };
  for (let quality = 0; quality < QUALITIES.length; quality++) actions[quality] = () => record({ quality });
  const arrow = event.key.startsWith("Arrow");
  if (writing && !(arrow && event.target.type !== "number")) return;
  if (arrow && event.target.matches("select, input[type=range]")) return;
  const action = Object.hasOwn(actions, event.key) && actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

function connect() {
  QUALITIES.forEach((meaning, quality) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = quality;
    button.title = meaning;
    button.onclick = () => record({ quality });
    $("qualities").append(button);
  });
  for (const id of ["filter", "filter-class", "filter-warned", "filter-unjudged"]) $(id).oninput = fillTable;
  $("coarse").oninput = () => {
    coarse = Math.expm1(Number($("coarse").value));
    $("fine").value = 0;
    drawRedshift(coarse);
  };
  $("fine").oninput = () => drawRedshift((1 + coarse) * (1 + Number($("fine").value) / SPEED_OF_LIGHT) - 1);
  $("z").onchange = () => {
    const value = $("z").valueAsNumber;
    setRedshift(value > -0.9 ? value : z);
  };
  $("class").onchange = () => setRedshift(z);
  $("smooth").oninput = () => {
    $("smooth-shown").textContent = $("smooth").value;
    if (spectrum) view.smooth(Number($("smooth").value));
  };
  for (const part of ["lines", "template", "error"]) {
    $(`show-${part}`).onchange = () => view.visible(part, $(`show-${part}`).checked);
  }
  $("show-bands").onchange = () => drawRedshift(z);
  $("comment").oninput = () => record({ comment: $("comment").value });
  $("clear").onclick = () => {
    delete verdicts[idOf(rows[selected])];
    $("comment").value = "";
    keep();
  };
  $("verdict").onsubmit = (event) => event.preventDefault();
  $("export").onclick = exportVerdicts;
  document.addEventListener("keydown", onKey);
}

async function start() {
  loadVerdicts();
  makeTable();
  connect();
  fillTable();
  describe($("provenance"), provenance);
  view = await View.start(jsonOf("plot-json"), readPointer);
  if (shown.length) select(shown[0]);
  document.documentElement.dataset.ready = "yes";
}

start();
