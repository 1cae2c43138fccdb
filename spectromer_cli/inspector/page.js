// What the reader does with a spectrum: steps through rows and redshifts, names lines, gives verdicts.

const STAR_REACH = 0.004; // ln(1+z) of the fastest stars of the Galaxy: 1200 km/s
const TYPED = 1000; // ms after which a comment is kept
const LOOK = 150; // ms that a spectrum is looked at before the best fits are sought
const KEPT = 24; // spectra that are kept at hand

const templates = {}; // unpacked when first wanted
let view, spectrum = null, coarse = 0, z = 0, tableGain = null, redshifts = [];
let showing = 0; // counts the rows that were shown
let typing = 0; // the timer of a comment that is being typed

// --- getting a spectrum ----------------------------------------------------------------------

const fetched = new Map(); // promises of spectra, by row

function spectrumOf(index) {
  if (!fetched.has(index)) {
    const promise = served ? fromServer(index) : fromPage(index);
    fetched.set(index, promise);
    promise.catch(() => fetched.delete(index));
    if (fetched.size > KEPT) fetched.delete(fetched.keys().next().value);
  }
  return fetched.get(index);
}

async function fromPage(index) {
  const element = $(`spectrum-${index}`), packed = element && JSON.parse(element.textContent);
  return packed ? { ...(await unpackSpectrum(packed)), importance: packed.importance } : null;
}

async function fromServer(index) {
  const answer = await fetch(`spectra/${index}`);
  if (!answer.ok) throw new Error("the server did not send the spectrum");
  const { packed, problem, position, row } = await answer.json();
  problems[index] = problem;
  positions[index] = position;
  for (const [name, value] of Object.entries(row)) rows[index][name] ??= value;
  return packed ? { ...(await unpackSpectrum(packed)), importance: packed.importance } : null;
}

// --- the spectrum that is shown --------------------------------------------------------------

async function select(index) {
  keepComment();
  closePicker();
  const turn = ++showing;
  selected = index;
  spectrum = null;
  forgetViews();
  bringIntoView(index);
  drawRows(true);
  const row = rows[index], verdict = verdictOf(row);
  $("comment").value = verdict?.comment ?? "";
  showAbout(index);
  $("view").classList.add("loading");
  showVerdict();
  let got = null, failed = "";
  try {
    got = await spectrumOf(index);
  } catch (error) {
    failed = served && error instanceof TypeError ? "the server does not respond" : error.message;
  }
  if (turn !== showing) return; // another row is wanted by now
  spectrum = got;
  showAbout(index, failed);
  $("view").classList.remove("loading");
  drawRows(true);
  const wanted = verdictOf(row)?.class || row.class || "";
  const options = new Set([...Object.keys(lines), "OTHER", ...classes, wanted]);
  $("class").replaceChildren(...[...options].map((name) => new Option(name, name, false, name === wanted)));
  listRedshifts(row, verdictOf(row));
  if (spectrum) view.show(spectrum, Number($("smooth").value));
  tableGain = spectrum && row.z != null && templatesOf(row.class)
    ? fitTemplates(spectrum, templatesOf(row.class), row.z)?.gain ?? null : null;
  setRedshift(verdictOf(row)?.z ?? row.z ?? 0);
  showVerdict();
  showBest(turn);
  const next = shown[shown.indexOf(index) + 1];
  if (served && next !== undefined) spectrumOf(next).catch(() => {});
}

const classes = new Set(rows.map((row) => row.class).filter(Boolean));

function showAbout(index, failed = "") {
  const row = rows[index], problem = failed || problems[index];
  $("name").textContent = nameOf(row);
  $("facts").textContent = factsOf(row);
  $("problem").textContent = problem ? `No spectrum: ${problem}` : "";
  $("view").classList.toggle("empty", Boolean(problem));
  describe($("all"), row);
  $("links").replaceChildren(...(positions[index] ? Object.entries(links) : []).map(([name, address]) => {
    const link = document.createElement("a"), [ra, dec] = positions[index];
    link.textContent = name;
    link.href = address.replaceAll("{ra}", ra.toFixed(6)).replaceAll("{dec}", dec.toFixed(6));
    Object.assign(link, { target: "_blank", rel: "noopener noreferrer", title: `ra ${ra.toFixed(6)}, dec ${dec.toFixed(6)}` });
    return link;
  }));
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
    text.dir = "auto";
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
    button.onclick = () => chooseRedshift(value);
    return button;
  }));
}

function nextRedshift() {
  if (!redshifts.length) return;
  const now = redshifts.findIndex(([, value]) => Math.abs(value - z) < 1e-7);
  chooseRedshift(redshifts[(now + 1) % redshifts.length][1]);
}

// What the reader chooses can be undone.
function chooseRedshift(value, name = classShown) {
  remember({ z, class: classShown });
  setClass(name);
  setRedshift(value);
}

let classShown = "";
function setClass(name) {
  if (![...$("class").options].some((option) => option.value === name)) $("class").add(new Option(name, name));
  $("class").value = name;
}

// A redshift chosen outright: the coarse slider goes there, the fine one to its middle.
function setRedshift(value) {
  coarse = value;
  classShown = $("class").value;
  const isStar = classShown === "STAR";
  const x = Math.log1p(value), least = isStar ? -STAR_REACH : -0.01, most = isStar ? STAR_REACH : Math.log(8);
  Object.assign($("coarse"), { min: Math.min(least, x), max: Math.max(most, x), step: isStar ? 1e-5 : 1e-4 });
  $("coarse").value = x;
  $("fine").value = 0;
  drawRedshift(value);
}

function drawRedshift(value) {
  z = value;
  $("z").value = z.toFixed(5);
  [...$("redshifts").children].forEach((button, i) => {
    button.setAttribute("aria-pressed", Math.abs(redshifts[i][1] - z) < 1e-7);
  });
  showDiffers();
  if (!spectrum) { $("fit").textContent = ""; return; }
  const name = $("class").value;
  const fit = view.redshift(z, linesOf(name), templatesOf(name));
  $("fit").textContent = !fit ? "no template fit here" :
    `template fit: χ²/ν ${(fit.chi2 / fit.freedom).toFixed(2)}, Δχ² −${Math.max(0, fit.gain).toFixed(0)}` +
    (tableGain != null ? ` (predicted z: −${Math.max(0, tableGain).toFixed(0)})` : "");
}

// A mark where the z or the class that a verdict would take is not what the table has.
function showDiffers() {
  const row = rows[selected], marks = [];
  if (!sameRedshift(row.z, z)) {
    const by = (z - row.z) / (1 + row.z), velocity = SPEED_OF_LIGHT * by;
    const far = Math.abs(by) > 0.05; // a velocity would say nothing
    const size = far ? Math.abs(z - row.z).toFixed(4) : `${Math.abs(velocity).toFixed(0)} km/s`;
    marks.push(`≠ predicted z, ${row.z.toFixed(5)}: by ${by < 0 ? "−" : "+"}${size}`);
  }
  if (row.class && $("class").value !== row.class) marks.push(`≠ predicted class, ${row.class}`);
  $("differs").textContent = marks.join("  ·  ");
  $("z").classList.toggle("differs", !sameRedshift(row.z, z));
  $("class").classList.toggle("differs", Boolean(row.class) && $("class").value !== row.class);
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

// --- the best fits of all classes, side by side ------------------------------------------------

async function showBest(turn) {
  const names = Object.keys(lines).filter((name) => templatesOf(name));
  $("best").replaceChildren();
  if (!spectrum || !names.length) return;
  const isOver = () => turn !== showing;
  const cards = new Map(names.map((name) => {
    const card = document.createElement("button"), canvas = document.createElement("canvas");
    card.type = "button";
    card.disabled = true;
    card.append(`${name} …`, canvas);
    $("best").append(card);
    return [name, card];
  }));
  const fits = new Map(), fitted = spectrum;
  await new Promise((later) => setTimeout(later, LOOK));
  if (isOver()) return;
  for (const [name, card] of cards) {
    const reach = name === "STAR" ? [-STAR_REACH, STAR_REACH] : [-0.01, Math.log(8)];
    const fit = await bestFit(fitted, templatesOf(name), ...reach, isOver);
    if (isOver()) return;
    card.replaceChildren(name, " no fit");
    if (!fit) continue;
    fits.set(name, fit);
    const facts = document.createElement("span"), canvas = document.createElement("canvas");
    facts.textContent = `χ²/ν ${(fit.chi2 / fit.freedom).toFixed(2)}, Δχ² −${Math.max(0, fit.gain).toFixed(0)}`;
    card.replaceChildren(document.createElement("b"), ` z ${fit.z.toFixed(5)}`, facts, canvas);
    card.firstChild.textContent = name;
    card.title = `χ² lower by ${fit.gain.toFixed(0)} than for polynomials alone; click to show this fit`;
    card.disabled = false;
    card.onclick = () => chooseRedshift(fit.z, name);
    sketch(canvas, fitted, fit.model);
  }
  const best = [...fits].reduce((top, one) => (!top || one[1].gain > top[1].gain ? one : top), null);
  if (best) cards.get(best[0]).firstChild.textContent = `${best[0]} ✓`;
  $("best").dataset.row = selected; // all are there
  redrawBest = () => {
    if (!isOver()) for (const [name, fit] of fits) sketch(cards.get(name).querySelector("canvas"), fitted, fit.model);
  };
}
let redrawBest = () => {};

// --- naming a line -----------------------------------------------------------------------------

let clicked = NaN;

const plainName = (name) => name.toLowerCase().replaceAll(/[αβγδε]/g, (letter) => "abgde"["αβγδε".indexOf(letter)])
  .replaceAll(/[^a-z0-9]/g, "");

// The lines that there may be: those of the class first. Each with the redshift that it would mean.
function candidates() {
  const name = $("class").value, isStar = name === "STAR", known = Object.hasOwn(lines, name) ? name : "GALAXY";
  const others = isStar ? [] : ["GALAXY", "QSO"].filter((one) => one !== known).flatMap((one) => lines[one]);
  const byName = new Map();
  for (const line of [...lines[known], ...others]) if (!byName.has(line.name)) byName.set(line.name, line);
  return [...byName.values()].filter((line) => !line.molecular || $("show-bands").checked).map((line) => {
    const centre = view.centre(clicked, line.emission);
    return { line, z: centre / line.wavelength - 1 };
  }).filter(({ z: found }) => (isStar ? Math.abs(found) < 2 * STAR_REACH : found > -0.01 && found < 7.5));
}

function openPicker({ x, sx, sy }) {
  if (!spectrum || !(x >= spectrum.wavelength[0] && x <= spectrum.wavelength.at(-1))) { closePicker(); return; }
  clicked = x;
  $("picker").hidden = false;
  $("picker-filter").value = "";
  fillPicker();
  const room = $("drawing").clientWidth - $("picker").offsetWidth;
  $("picker").style.left = `${Math.max(0, Math.min(room, sx + 12))}px`;
  $("picker").style.top = `${Math.max(0, Math.min(150, sy))}px`;
  $("picker-filter").focus();
}

function fillPicker() {
  const wanted = plainName($("picker-filter").value);
  const found = candidates().filter(({ line }) => plainName(line.name).includes(wanted));
  // What begins so stands before what has it within.
  found.sort((a, b) => plainName(b.line.name).startsWith(wanted) - plainName(a.line.name).startsWith(wanted));
  $("picker-lines").replaceChildren(...found.map(({ line, z: value }) => {
    const button = document.createElement("button"), note = document.createElement("span");
    button.type = "button";
    note.textContent = `z ${value.toFixed(5)}`;
    button.append(line.name, " ", note);
    button.onclick = () => { closePicker(); chooseRedshift(value); };
    return button;
  }));
  if (!found.length) $("picker-lines").textContent = "no line of this class matches here";
}

function closePicker() {
  if ($("picker").contains(document.activeElement)) document.activeElement.blur();
  $("picker").hidden = true;
}

// --- verdicts ----------------------------------------------------------------------------------

function record(change) {
  if (selected < 0 || !canRecord()) return;
  if ($("view").classList.contains("loading")) { say("Spectrum still loading: nothing recorded."); return; }
  clearTimeout(typing);
  typing = 0;
  const row = rows[selected], before = verdictOf(row);
  remember({ index: selected, before, z, class: classShown });
  put(idOf(row), { ...before, class: $("class").value, z: Number(z.toFixed(7)), comment: $("comment").value,
                   date: new Date().toISOString().slice(0, 19) + "Z", ...change });
  drawRows(true);
  showVerdict();
}

function clearVerdict() {
  if (selected < 0 || !canRecord()) return;
  clearTimeout(typing);
  typing = 0;
  const row = rows[selected], before = verdictOf(row);
  $("comment").value = "";
  if (!before) return;
  remember({ index: selected, before, z, class: classShown });
  put(idOf(row), null);
  drawRows(true);
  showVerdict();
}

// A comment is kept when nobody types any more.
function typed() {
  clearTimeout(typing);
  typing = setTimeout(keepComment, TYPED);
}

function keepComment() {
  if (!typing) return;
  clearTimeout(typing);
  typing = 0;
  if (selected >= 0 && $("comment").value !== (verdictOf(rows[selected])?.comment ?? "")) record({});
}

function showVerdict() {
  const row = rows[selected], verdict = verdictOf(row);
  [...$("qualities").children].forEach((button, quality) => {
    button.setAttribute("aria-pressed", verdict?.quality === quality);
  });
  $("recorded").textContent = verdict
    ? `recorded: ${verdict.class || "no class"}, z = ${verdict.z?.toFixed(5) ?? "–"}, ` +
      (verdict.quality != null ? `quality ${verdict.quality} (${QUALITIES[verdict.quality]})` : "no quality yet")
    : "nothing recorded for this spectrum";
  $("recorded").classList.toggle("differs", changed(row, verdict));
  showOthers(row, verdict);
  $("export").disabled = ![...everyone.values()].some((one) => one.size);
}

// What others say is shown to who has judged: each looks for themselves first.
function showOthers(row, verdict) {
  const others = served ? [...everyone].filter(([name, all]) => name !== inspector && all.has(idOf(row))) : [];
  const told = verdict?.quality != null ? others.map(([name, all]) => {
    const one = all.get(idOf(row));
    return `${name}: ${one.class || "no class"}, z = ${one.z?.toFixed(5) ?? "–"}, quality ${one.quality ?? "–"}` +
      (one.comment ? `, “${one.comment}”` : "");
  }) : others.length ? [`${others.length} other${others.length > 1 ? "s have" : " has"} a verdict, shown after yours`] : [];
  $("others").replaceChildren(...told.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    item.dir = "auto";
    return item;
  }));
}

// --- keys and buttons ------------------------------------------------------------------------

function step(by) {
  if (!shown.length) return;
  const at = shown.indexOf(selected);
  const next = shown[at < 0 ? 0 : Math.max(0, Math.min(shown.length - 1, at + by))];
  if (next !== selected) select(next);
}

function onKey(event) {
  const { target, key: pressed } = event;
  if (pressed === "Escape") { closePicker(); target.blur(); }
  if (pressed === "Enter" && target.id === "inspector") target.blur(); // keys are verdicts again
  if (event.isComposing) return;
  const writing = target.matches("input[type=search], input[type=text], input[type=number]");
  if ((event.ctrlKey || event.metaKey) && pressed === "z" && !event.shiftKey && !writing) {
    event.preventDefault();
    undo();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (pressed === "Enter" && target.id === "picker-filter") $("picker-lines").querySelector("button")?.click();
  const actions = { ArrowDown: () => step(1), ArrowUp: () => step(-1), a: nextRedshift, u: undo, r: () => view.whole(),
                    c: () => $("comment").focus(), "/": () => $("filter").focus() };
  for (let quality = 0; quality < QUALITIES.length; quality++) actions[quality] = () => record({ quality });
  // Up and down change the row, whatever has the focus.
  if (writing && pressed !== "ArrowUp" && pressed !== "ArrowDown") return;
  const action = Object.hasOwn(actions, pressed) && actions[pressed];
  if (!action) return;
  event.preventDefault();
  action();
}

// However often a slider moves, it is undone at once.
function slide(slider, value) {
  if (done.at(-1)?.slider !== slider) remember({ z, class: classShown, slider });
  drawRedshift(value);
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
  for (const id of ["filter", "filter-class", "filter-warned", "filter-unjudged"]) $(id).oninput = applyFilter;
  $("coarse").oninput = () => {
    coarse = Math.expm1(Number($("coarse").value));
    $("fine").value = 0;
    slide("coarse", coarse);
  };
  $("fine").oninput = () => slide("fine", (1 + coarse) * (1 + Number($("fine").value) / SPEED_OF_LIGHT) - 1);
  $("z").onchange = () => {
    const value = $("z").valueAsNumber;
    if (value > -0.9 && value.toFixed(5) !== z.toFixed(5)) chooseRedshift(value);
    else $("z").value = z.toFixed(5);
  };
  $("class").onchange = () => chooseRedshift(z, $("class").value);
  $("smooth").oninput = () => {
    $("smooth-shown").textContent = $("smooth").value;
    if (spectrum) view.smooth(Number($("smooth").value));
  };
  for (const part of ["lines", "template", "error"]) {
    $(`show-${part}`).onchange = () => view.visible(part, $(`show-${part}`).checked);
  }
  $("show-bands").onchange = () => drawRedshift(z);
  $("whole").onclick = () => view.whole();
  $("picker-filter").oninput = fillPicker;
  document.addEventListener("pointerdown", ({ target }) => { if (!$("picker").contains(target)) closePicker(); });
  $("comment").oninput = typed;
  $("comment").onchange = keepComment;
  window.addEventListener("pagehide", keepComment);
  $("undo").onclick = undo;
  $("clear").onclick = clearVerdict;
  $("inspector").onchange = () => {
    setInspector($("inspector").value);
    if (!served) return;
    forgetAll();
    drawRows(true);
    if (selected < 0) return;
    if (verdictOf(rows[selected])) select(selected);
    else showVerdict(); // z and comment that were chosen before the name stay
  };
  $("verdict").onsubmit = (event) => event.preventDefault();
  $("export").onclick = exportVerdicts;
  document.addEventListener("keydown", onKey);
  darkness.addEventListener("change", () => redrawBest());
}

async function start() {
  await loadVerdicts();
  makeTable();
  connect();
  fillTable();
  describe($("provenance"), provenance);
  view = await View.start(jsonOf("plot-json"), readPointer, openPicker);
  if (shown.length) await select(shown[0]);
  document.documentElement.dataset.ready = "yes";
}

start();
