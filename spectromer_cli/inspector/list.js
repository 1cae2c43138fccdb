// The list of rows: its columns, sorting, the filter, and only as many rows in the page as are seen.

const ROW_HEIGHT = 27; // pixels, as page.css has it
const BEYOND = 10; // rows that are kept above and below the seen ones

const idOf = (row) => `${row.file ?? ""}[${row.row ?? 0}]`;
const confidenceOf = (row) => row.z_prob ?? row.class_prob ??
  [row.p_star, row.p_galaxy, row.p_qso].reduce((a, p) => (p == null ? a : Math.max(a ?? 0, p)), null);
const nameOf = (row) => row.object_id || `${String(row.file ?? "").split("/").at(-1)}${row.row ? `[${row.row}]` : ""}`;
const fixed = (digits) => (value) => (typeof value === "number" ? value.toFixed(digits) : value ?? "");

// The bits of zwarn by name; those of a catalogue are not ours and stay a number.
const bitsOf = (value) => Object.keys(zwarn).filter((bit) => value & bit).map((bit) => zwarn[bit]);
const inWords = (value) => bitsOf(value).join(", ") || (value ?? "");

// As five decimals show it.
const sameRedshift = (a, b) => a == null || b == null || a.toFixed(5) === b.toFixed(5);
function changed(row, verdict) {
  return Boolean(verdict) && (!sameRedshift(verdict.z, row.z) || (row.class ?? "") !== verdict.class);
}

const COLUMNS = [
  { name: "#", width: "4.6ch", of: (row, i) => i + 1, title: "place in the results" },
  { name: "object", of: (row, i) => differing[i], text: true, title: "object, or file name as far as it differs from the others" },
  { name: "class", width: "7.8ch", of: (row) => row.class, text: true, title: "class" },
  { name: "z", width: "8.6ch", of: (row) => row.z, show: fixed(5), title: "redshift" },
  { name: "conf.", width: "5.8ch", of: confidenceOf, show: fixed(3), title: "probability of the redshift, or of the class if the results have no redshift" },
  { name: "zwarn", width: "7ch", of: (row) => row.zwarn, title: "warnings about the redshift, 0 if none" },
  { name: "S/N", width: "5.6ch", of: (row) => row.sn_median, show: fixed(1), title: "median signal-to-noise ratio per pixel" },
  { name: "you", width: "5.4ch", of: (row) => verdictOf(row)?.quality, title: "quality of your verdict; ≠ if your z or class differs from the prediction" },
  ...(served ? [{ name: "all", width: "4.6ch", of: (row) => inspectorsOf(row) || null, title: "number of inspectors with a verdict" }] : []),
];
const ALIASES = { sn: (row) => row.sn_median, confidence: confidenceOf, "conf.": confidenceOf,
                  quality: (row) => verdictOf(row)?.quality, inspectors: (row) => inspectorsOf(row),
                  changed: (row) => Number(changed(row, verdictOf(row))) };

const differing = differingNames(rows);
let shown = []; // rows that pass the filter, in the order of the table
let selected = -1;
let sorting = { column: 0, down: false };
let passes = () => true;
let drawn = ""; // which rows are in the page

// Of names that begin or end alike, what is between, whole words.
function differingNames(every) {
  const counts = new Map();
  for (const row of every) counts.set(nameOf(row), (counts.get(nameOf(row)) ?? 0) + 1);
  const names = every.map((row) => (counts.get(nameOf(row)) > 1 && row.object_id ? `${nameOf(row)} ${idOf(row)}` : nameOf(row)));
  if (new Set(names).size < 2) return names;
  const common = (reversed) => {
    const letters = names.map((name) => (reversed ? [...name].reverse() : [...name]));
    let length = 0;
    while (letters.every((one) => length < one.length && one[length] === letters[0][length])) length++;
    while (length && /[\p{L}\p{N}]/u.test(letters[0][length - 1])) length--;
    return letters[0].slice(0, length);
  };
  const before = common(false).join("").length, after = common(true).join("").length;
  return names.map((name) => {
    const middle = name.slice(before, name.length - after);
    return middle && before + after < name.length ? (before ? "…" : "") + middle : name;
  });
}

function makeTable() {
  COLUMNS.forEach((column, c) => {
    const width = document.createElement("col");
    if (column.width) width.style.width = column.width;
    $("widths").append(width);
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
  for (const space of ["above", "below"]) $(space).colSpan = COLUMNS.length;
  $("rows").onclick = (event) => {
    const line = event.target.closest("tr");
    if (line) select(Number(line.dataset.index));
  };
  $("scroll").onscroll = () => drawRows(false);
  new ResizeObserver(() => drawRows(false)).observe($("scroll"));
  for (const name of new Set(rows.map((row) => row.class).filter(Boolean))) {
    $("filter-class").add(new Option(name, name));
  }
}

function lineOf(i) {
  const row = rows[i], line = document.createElement("tr");
  line.dataset.index = i;
  if (i === selected) line.setAttribute("aria-selected", "true");
  if (problems[i]) line.classList.add("unread");
  for (const column of COLUMNS) {
    const cell = line.insertCell();
    const value = column.of(row, i), text = column.show ? column.show(value) : value ?? "";
    cell.className = column.text ? "text" : "number";
    if (column.name === "object") {
      const isolated = document.createElement("bdi"); // its direction of writing stays its own
      isolated.textContent = text;
      cell.append(isolated);
      cell.classList.add("object");
      cell.title = nameOf(row) === idOf(row) ? nameOf(row) : `${nameOf(row)}\n${idOf(row)}`;
    } else {
      cell.textContent = text;
    }
    if (column.name === "zwarn" && row.zwarn) {
      cell.classList.add("warned");
      cell.title = inWords(row.zwarn);
    }
    if (column.name === "you" && changed(row, verdictOf(row))) {
      cell.textContent += "≠";
      cell.classList.add("warned");
    }
  }
  return line;
}

function fillTable() {
  const { of } = COLUMNS[sorting.column], way = sorting.down ? -1 : 1;
  shown = rows.map((_, i) => i).filter((i) => passes(rows[i]));
  const keys = rows.map((row, i) => of(row, i));
  shown.sort((a, b) => compare(keys[a], keys[b], way) || a - b);
  [...$("columns").children].forEach((head, c) => {
    head.setAttribute("aria-sort", c !== sorting.column ? "none" : sorting.down ? "descending" : "ascending");
  });
  $("count").textContent = shown.length ? `${shown.length} of ${rows.length} spectra`
    : `no spectra match the filter (of ${rows.length})`;
  $("table").setAttribute("aria-rowcount", shown.length);
  drawRows(true);
}

// Without `always`, only if other rows are seen than before.
function drawRows(always) {
  const box = $("scroll");
  const first = Math.max(0, Math.floor(box.scrollTop / ROW_HEIGHT) - BEYOND);
  const last = Math.min(shown.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW_HEIGHT) + BEYOND);
  if (!always && drawn === `${first} ${last}`) return;
  drawn = `${first} ${last}`;
  $("above").style.height = `${first * ROW_HEIGHT}px`;
  $("below").style.height = `${(shown.length - last) * ROW_HEIGHT}px`;
  $("rows").replaceChildren(...shown.slice(first, last).map(lineOf));
}

function bringIntoView(index) {
  const box = $("scroll"), place = shown.indexOf(index) * ROW_HEIGHT;
  if (place < 0) return;
  const room = box.clientHeight - $("columns").offsetHeight - ROW_HEIGHT;
  if (place < box.scrollTop || place > box.scrollTop + room) {
    box.scrollTop = place < box.scrollTop ? place : place - room;
  }
}

// Rows without a value stand last, whichever way the others are sorted.
function compare(a, b, way) {
  const hasA = a != null && a !== "", hasB = b != null && b !== "";
  if (!hasA || !hasB) return hasB - hasA;
  return way * (typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b));
}
const collator = new Intl.Collator(undefined, { numeric: true });

// --- the filter ------------------------------------------------------------------------------

// The rows that pass now, of which the first is shown. What is not understood says so, and the list
// stays as it was.
function applyFilter() {
  let tests;
  try {
    tests = ($("filter").value.match(/(?:[^\s"]|"[^"]*"?)+/g) ?? []).map(testOf);
    $("filter-problem").textContent = "";
    $("filter").removeAttribute("aria-invalid");
  } catch (error) {
    if (!(error instanceof NotUnderstood)) throw error;
    $("filter-problem").textContent = `not understood: ${error.message}`;
    $("filter").setAttribute("aria-invalid", "true");
    return;
  }
  const wanted = $("filter-class").value;
  if (wanted) tests.push((row) => row.class === wanted);
  if ($("filter-warned").checked) tests.push((row) => row.zwarn !== 0);
  if ($("filter-unjudged").checked) tests.push((row) => verdictOf(row)?.quality == null);
  passes = (row) => tests.every((test) => test(row));
  $("scroll").scrollTop = 0;
  fillTable();
  if (shown.length && shown[0] !== selected) select(shown[0]);
}

class NotUnderstood extends Error {}

// By their names in lower case.
const named = new Map(rows.flatMap((row) => Object.keys(row)).map((name) => [name.toLowerCase(), name]));

// COLUMN>VALUE, or else a word to be found in the row; what stands in quotes is a word.
function testOf(term) {
  const parts = /^([^"<>=!]*)(!=|<=|>=|=|<|>)(.*)$/.exec(term);
  const bare = (text) => text.replaceAll('"', "");
  if (!parts) {
    const word = bare(term).toLowerCase();
    return (row) => [idOf(row), row.object_id, row.class, row.subclass, row.survey, row.flags]
      .some((value) => String(value ?? "").toLowerCase().includes(word));
  }
  const [, name, sign, quoted] = parts, limit = bare(quoted), lower = name.toLowerCase();
  const own = named.get(lower);
  const of = Object.hasOwn(ALIASES, lower) ? ALIASES[lower] : own !== undefined && ((row) => row[own]);
  if (!of) throw new NotUnderstood(`there is no column ${name || "before " + sign}; to search for this text, put it in quotes: "${bare(term)}"`);
  const isText = rows.some((row) => typeof of(row) === "string"), number = Number(limit);
  if (limit === "" && sign !== "=" && sign !== "!=") throw new NotUnderstood(`${term} has no value to compare with`);
  if (!isText && limit !== "" && Number.isNaN(number) && rows.some((row) => typeof of(row) === "number")) {
    throw new NotUnderstood(`${name} is a number, ${limit} is not`);
  }
  return (row) => {
    const value = of(row);
    if (value == null || value === "") return (sign === "!=") !== (limit === "") && (sign === "!=" || limit === "");
    const [a, b] = typeof value === "number" && limit !== "" && !Number.isNaN(number)
      ? [value, number] : [String(value).toLowerCase(), limit.toLowerCase()];
    return { "=": a === b, "!=": a !== b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b }[sign];
  };
}
