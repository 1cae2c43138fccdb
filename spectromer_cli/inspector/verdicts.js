// Verdicts: those of this inspector and, where the page is served, of all others; undoing them; and
// their way out as CSV. A page on disk keeps them in the browser's storage, a served one sends each
// to the server and keeps it until the server says that it has it.

// Lan et al. 2023, ApJ 943, 68: the scale of DESI's visual inspections.
const QUALITIES = [
  "no signal", "signal, but no identifiable features", "possible: uncertain features",
  "probable: one secure feature, or several weak ones", "certain: two or more secure features",
];
const POLL = 4000; // ms between two questions to the server
const STORE = `spectromer verdicts ${key}`, WAITING = `spectromer waiting ${key}`, NAME = "spectromer inspector";

const everyone = new Map(); // by inspector, and then by spectrum
let inspector = "";
let waiting = []; // what the server does not have yet
let seen = 0, sending = false;

const own = () => {
  const name = served ? inspector : ""; // a page on disk has one inspector, whatever the name
  if (!everyone.has(name)) everyone.set(name, new Map());
  return everyone.get(name);
};
const verdictOf = (row) => own().get(idOf(row));
const inspectorsOf = (row) => [...everyone.values()].filter((one) => one.get(idOf(row))?.quality != null).length;

function stored(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name) ?? "null") ?? otherwise;
  } catch (error) {
    return otherwise;
  }
}

function store(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch (error) {
    if (!served) $("saved").textContent = "This browser does not save verdicts: export them before leaving the page.";
  }
}

async function loadVerdicts() {
  inspector = String(stored(NAME, ""));
  $("inspector").value = inspector;
  if (!served) {
    everyone.set("", new Map(Object.entries(stored(STORE, {}))));
    store(STORE, Object.fromEntries(own()));
    return;
  }
  waiting = stored(WAITING, []);
  for (const one of waiting) take(one);
  await poll();
  setInterval(poll, POLL);
  window.addEventListener("beforeunload", (event) => { if (waiting.length) event.preventDefault(); });
}

function setInspector(name) {
  inspector = name.trim();
  store(NAME, inspector);
  if (inspector) say("");
}

function say(message) { $("saved").textContent = message; }

// Whether a verdict can be kept: of several inspectors each has to say who it is.
function canRecord() {
  if (!served || inspector) return true;
  say("Enter your name first.");
  $("inspector").focus();
  return false;
}

// Keeps a verdict on a spectrum, or takes it back (null).
function put(id, verdict) {
  if (verdict) own().set(id, verdict);
  else own().delete(id);
  if (!served) { store(STORE, Object.fromEntries(own())); return; }
  waiting.push({ spectrum: id, inspector, ...(verdict ?? { withdrawn: true }) });
  store(WAITING, waiting);
  send();
}

async function send() {
  if (sending) return;
  sending = true;
  try {
    let refused = "";
    while (waiting.length) {
      const body = JSON.stringify(waiting[0]);
      const answer = await fetch("verdicts", { method: "POST", body, headers: { "Content-Type": "application/json" } });
      if (!answer.ok) {
        const { error } = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
        if (answer.status !== 422) throw new Error(error);
        refused = error; // it will never be taken
      }
      waiting.shift();
      store(WAITING, waiting);
    }
    say(refused && `Verdict rejected: ${refused}`);
  } catch (error) {
    const reason = error instanceof TypeError ? "the server does not respond" : error.message;
    say(`${waiting.length} verdicts not saved yet: ${reason}`);
  }
  sending = false;
}

// What has come since, of all inspectors.
async function poll() {
  if (waiting.length) await send();
  let news;
  try {
    const answer = await fetch(`verdicts?since=${seen}`);
    if (!answer.ok) throw new Error("refused");
    news = await answer.json();
  } catch (error) {
    say(waiting.length ? $("saved").textContent : "The server does not answer; verdicts wait here until it does.");
    return;
  }
  if (!waiting.length) say("");
  const unsent = new Set(waiting.map((one) => `${one.inspector}\n${one.spectrum}`));
  for (const one of news) {
    seen = Math.max(seen, one.id);
    if (!unsent.has(`${one.inspector}\n${one.spectrum}`)) take(one);
  }
  if (!news.length) return;
  $("inspectors").replaceChildren(...[...everyone.keys()].filter(Boolean).map((name) => new Option(name)));
  drawRows(true);
  if (selected >= 0) showVerdict();
}

function take({ spectrum: id, inspector: name, withdrawn, ...verdict }) {
  if (!everyone.has(name)) everyone.set(name, new Map());
  if (withdrawn) everyone.get(name).delete(id);
  else everyone.get(name).set(id, verdict);
}

// --- undo ------------------------------------------------------------------------------------

// What can be undone, each with the z and the class that were shown: a verdict, with what there was
// `before` it; and, until the next row, the choice of another z or class.
let done = [];

function remember(what) {
  done.push(what);
  $("undo").disabled = false;
}

function forgetAll() {
  done = [];
  $("undo").disabled = true;
}

// Another row is shown: its z and class are its own.
function forgetViews() {
  done = done.filter((one) => "before" in one);
  $("undo").disabled = !done.length;
}

async function undo() {
  const last = done.pop();
  $("undo").disabled = !done.length;
  if (!last) return;
  if ("before" in last) {
    put(idOf(rows[last.index]), last.before ?? null);
    await select(last.index);
    if (selected !== last.index) return;
  }
  setClass(last.class);
  setRedshift(last.z);
}

// --- CSV -------------------------------------------------------------------------------------

// As outputs/formats.py writes it: what some readers take for the end of a line is escaped.
function verdictsCsv() {
  const escaped = (letter) => {
    const code = letter.codePointAt(0).toString(16);
    return code.length > 2 ? `\\u${code.padStart(4, "0")}` : `\\x${code.padStart(2, "0")}`;
  };
  const quoted = (value) => {
    const text = String(value ?? "").replaceAll(/[\v\f\x1c-\x1e\x85\u2028\u2029]/g, escaped);
    return /[",\r\n]|^[\s#]|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const found = ["file", "row", "object_id", "class", "z", "z_prob", "zwarn"];
  const records = [[...found, "vi_class", "vi_z", "vi_quality", "vi_comment", "vi_date", "vi_inspector"]];
  for (const row of rows) {
    for (const [name, verdicts] of everyone) {
      const verdict = verdicts.get(idOf(row));
      if (!verdict) continue;
      records.push([...found.map((column) => row[column]), verdict.class, verdict.z, verdict.quality,
                    verdict.comment, verdict.date, served ? name : inspector]);
    }
  }
  return records.map((line) => line.map(quoted).join(",") + "\n").join("");
}

function exportVerdicts() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([verdictsCsv()], { type: "text/csv" }));
  link.download = `${stem}-verdicts${inspector && !served ? `-${inspector.replaceAll(/[^\p{L}\p{N}_-]+/gu, "-")}` : ""}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
