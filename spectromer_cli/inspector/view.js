// The plot: fills the sources that plot.py made, found by their names, and sets the colours
// (outputs/plotting.py has them).

const LABEL_HEIGHT = 12; // pixels that an upright name takes along the wavelength axis
// The plot is as high as the window leaves room for what belongs to a verdict, but names want some.
const LEAST_HEIGHT = 440, CONTROLS = 320;
const CLICK = 10; // pixels by which somebody may miss a line
const darkness = matchMedia("(prefers-color-scheme: dark)");

class View {
  static async start(plotJson, onPointer, onClick) {
    const manager = await Bokeh.embed.embed_item(plotJson, "plot");
    const view = new View();
    view.document = [...manager.roots][0].model.document;
    view.figure = view.model("figure");
    view.observed = view.model("observed");
    view.spectrum = null;
    view.lines = [];
    view.z = 0;
    view.observed.change.connect(() => view.followRange());
    view.figure.properties.inner_width.change.connect(() => view.spreadNames());
    view.figure.on_event("mousemove", ({ x }) => onPointer(x));
    view.figure.on_event("tap", onClick);
    view.figure.on_event("mouseleave", () => onPointer(NaN));
    darkness.addEventListener("change", () => view.paint());
    const fit = () => { view.figure.height = Math.max(LEAST_HEIGHT, Math.min(560, innerHeight - CONTROLS)); };
    window.addEventListener("resize", fit);
    fit();
    view.paint();
    return view;
  }

  model(name) { return this.document.get_model_by_name(name); }
  set(name, data) { this.model(name).data = data; }

  paint() {
    const colour = colours[darkness.matches ? "dark" : "light"];
    const { figure } = this;
    figure.setv({ background_fill_color: colour.ground, border_fill_color: colour.ground });
    for (const axis of [...figure.below, ...figure.left, ...figure.above]) {
      axis.setv({ axis_line_color: colour.text, major_tick_line_color: colour.text,
                  minor_tick_line_color: colour.text, major_label_text_color: colour.text,
                  axis_label_text_color: colour.text, axis_label_text_font_style: "normal" });
    }
    for (const grid of figure.center) grid.grid_line_color = null;
    const glyph = (name) => this.model(name).glyph;
    glyph("flux").line_color = colour.text;
    glyph("error").setv({ fill_color: colour.error, fill_alpha: 0.5 });
    glyph("template").line_color = colour.template;
    glyph("masked").fill_color = colour.masked;
    glyph("names paper").setv({ fill_color: colour.ground, line_color: null });
    for (const kind of ["emission", "absorption"]) {
      for (const part of ["marks", "leaders"]) {
        glyph(`${kind} ${part}`).setv({ line_color: colour[kind], line_alpha: 0.75 });
      }
      glyph(`${kind} names`).text_color = colour[kind];
    }
    if (this.spectrum) this.showImportance();
  }

  // Another spectrum. Who has zoomed in goes on to see the same wavelengths, where it has them.
  show(spectrum, width) {
    const zoomed = this.spectrum && this.observed.start !== this.observed.reset_start;
    const before = [this.observed.start, this.observed.end];
    this.spectrum = spectrum;
    const { wavelength, sigma } = spectrum;
    const at = (i) => wavelength[Math.max(0, Math.min(spectrum.n - 1, i))];
    const runs = badRuns(sigma);
    this.set("masks", {
      left: runs.map(([first]) => (at(first - 1) + at(first)) / 2),
      right: runs.map(([, last]) => (at(last) + at(last + 1)) / 2),
    });
    this.showImportance();
    this.smooth(width);
    const first = at(sigma.findIndex((s) => s > 0)), last = at(sigma.findLastIndex((s) => s > 0));
    const margin = 0.01 * (last - first) || 1;
    this.setRange(this.observed, first - margin, last + margin);
    this.setRange(this.model("height"), ...this.heights(-Infinity, Infinity));
    if (zoomed && before[0] < last && before[1] > first) {
      this.observed.setv({ start: before[0], end: before[1] });
      const [start, end] = this.heights(...before);
      this.model("height").setv({ start, end });
    }
  }

  // The range of fluxes between two wavelengths, without what errors are large of.
  heights(from, to) {
    const { wavelength, flux, sigma, level } = this.spectrum;
    const inside = (i) => sigma[i] > 0 && wavelength[i] >= from && wavelength[i] <= to;
    const seen = [...flux.keys()].filter(inside);
    if (seen.length < 3) return this.heights(-Infinity, Infinity);
    const limit = 3 * quantile(seen.map((i) => sigma[i]), 0.5);
    const values = seen.filter((i) => sigma[i] <= limit).map((i) => flux[i]);
    const low = Math.min(0, quantile(values, 0.002)), high = quantile(values, 0.998);
    const room = Math.max(high - low, 0.01);
    return [(low - 0.1 * room) * level, (high + 0.52 * room) * level]; // room for the names
  }

  whole() {
    for (const range of [this.observed, this.model("height")]) {
      range.setv({ start: range.reset_start, end: range.reset_end });
    }
  }

  // Where the line is that somebody has clicked on: the highest or lowest point close by.
  centre(clicked, emission) {
    const { wavelength } = this.spectrum;
    const { flux, sigma } = smoothed(this.spectrum, 1);
    const reach = (CLICK * (this.observed.end - this.observed.start)) / this.figure.inner_width;
    const near = [...wavelength.keys()].filter((i) => sigma[i] > 0 && Math.abs(wavelength[i] - clicked) <= reach);
    const sign = emission ? 1 : -1;
    const peak = near.reduce((best, i) => (best < 0 || sign * flux[i] > sign * flux[best] ? i : best), -1);
    // At the edge of what is close by there is a slope, no line.
    if (peak < 1 || near.length < 3 || peak === near[0] || peak === near.at(-1)) return clicked;
    const [left, middle, right] = [-1, 0, 1].map((d) => flux[peak + d]);
    const curvature = left - 2 * middle + right;
    const offset = curvature * sign < 0 ? (0.5 * (left - right)) / curvature : 0;
    return wavelength[peak] + (offset * (wavelength[peak + 1] - wavelength[peak - 1])) / 2;
  }

  // The band below the spectrum: the stronger, the less transparent.
  showImportance() {
    const { importance } = this.spectrum;
    const { supporting, opposing } = colours[darkness.matches ? "dark" : "light"];
    const bins = importance ? [...new Int8Array(bytesOf(importance.data))] : [];
    const edge = (i) => 10 ** (importance.first + importance.step * i);
    const opacity = (v) => (2 * Math.abs(v)).toString(16).padStart(2, "0");
    this.set("importance", {
      left: bins.map((_, i) => edge(i)),
      right: bins.map((_, i) => edge(i + 1)),
      colour: bins.map((v) => (v < 0 ? opposing : supporting) + opacity(v)),
    });
  }

  setRange(range, start, end) {
    range.setv({ start, end, reset_start: start, reset_end: end });
  }

  smooth(width) {
    const { wavelength, level } = this.spectrum;
    const { flux, sigma } = smoothed(this.spectrum, width);
    let last = 0; // at a bad pixel the line breaks and the error band has no width
    const drawn = flux.map((f, i) => (sigma[i] > 0 ? f * level : NaN));
    const middle = drawn.map((f) => (Number.isNaN(f) ? last : (last = f)));
    this.set("spectrum", {
      x: wavelength, flux: drawn,
      low: middle.map((f, i) => f - sigma[i] * level),
      high: middle.map((f, i) => f + sigma[i] * level),
    });
  }

  // Lines and the template fit at a redshift; returns the fit, or null.
  redshift(z, lines, templates) {
    const { wavelength, level } = this.spectrum;
    this.z = z;
    this.lines = lines.map((line) => ({ ...line, x: line.wavelength * (1 + z) }));
    const fit = templates ? fitTemplates(this.spectrum, templates, z) : null;
    this.set("model", fit ? { x: wavelength, y: fit.model.map((f) => f * level) } : { x: [], y: [] });
    this.followRange();
    return fit;
  }

  followRange() {
    const { start, end } = this.observed;
    this.set("paper", { left: [2 * start - end], right: [2 * end - start] });
    this.model("rest").setv({ start: this.observed.start / (1 + this.z), end: this.observed.end / (1 + this.z) });
    this.spreadNames();
  }

  // Names of close lines move apart so that each can be read; the lines stay where they are.
  spreadNames() {
    const { start, end } = this.observed;
    const scale = this.figure.inner_width / (end - start);
    const names = this.lines
      .filter((line) => line.x > start && line.x < end)
      .map((line) => ({ ...line, at: (line.x - start) * scale }))
      .sort((a, b) => a.at - b.at);
    const groups = []; // runs of names that touch, each centred on its lines
    for (const name of names) {
      let group = { names: [name], centre: name.at };
      while (groups.length) {
        const before = groups.at(-1), both = before.names.length + group.names.length;
        if (group.centre - before.centre >= (both * LABEL_HEIGHT) / 2) break;
        groups.pop();
        const merged = [...before.names, ...group.names];
        group = { names: merged, centre: merged.reduce((sum, n) => sum + n.at, 0) / both };
      }
      groups.push(group);
    }
    for (const { names: members, centre } of groups) {
      const half = (members.length * LABEL_HEIGHT) / 2; // none leaves the frame
      const middle = Math.max(half, Math.min(this.figure.inner_width - half, centre));
      members.forEach((name, i) => {
        name.at = start + (middle - half + (i + 0.5) * LABEL_HEIGHT) / scale;
      });
    }
    for (const kind of ["emission", "absorption"]) {
      const own = names.filter((line) => line.emission === (kind === "emission"));
      this.set(kind, {
        x: own.map((line) => line.x), name: own.map((line) => line.name), at: own.map((line) => line.at),
      });
    }
  }

  visible(part, yes) {
    const ofLine = ["marks", "leaders", "names"];
    const parts = { lines: ["emission", "absorption"].flatMap((kind) => ofLine.map((part) => `${kind} ${part}`)) };
    for (const name of parts[part] ?? [part]) this.model(name).visible = yes;
  }
}

// A spectrum and its best fit, small: means over the pixels of each place of the canvas.
function sketch(canvas, spectrum, model) {
  const colour = colours[darkness.matches ? "dark" : "light"];
  const { n, flux, sigma } = spectrum, dense = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  Object.assign(canvas, { width: width * dense, height: height * dense });
  const draw = canvas.getContext("2d");
  draw.scale(dense, dense);
  const places = Math.max(1, Math.floor(width / 1.5));
  const means = (values) => {
    const sum = new Float64Array(places), number = new Float64Array(places);
    for (let i = 0; i < n; i++) {
      if (!(sigma[i] > 0) || !Number.isFinite(values[i])) continue;
      const place = Math.floor((i * places) / n);
      sum[place] += values[i];
      number[place]++;
    }
    return sum.map((s, i) => s / number[i]); // NaN where there is none
  };
  const curves = [[means(flux), colour.text, 0.8], [means(model), colour.template, 1.6]];
  const all = curves.flatMap(([values]) => [...values].filter(Number.isFinite));
  const low = Math.min(0, quantile(all, 0.01)), high = quantile(all, 0.995);
  for (const [values, ink, thick] of curves) {
    draw.strokeStyle = ink;
    draw.lineWidth = thick;
    draw.beginPath();
    let pen = false;
    values.forEach((value, i) => {
      const y = height - 3 - ((height - 6) * (value - low)) / (high - low || 1);
      if (Number.isFinite(y)) draw[pen ? "lineTo" : "moveTo"](((i + 0.5) * width) / places, y);
      pen = Number.isFinite(y);
    });
    draw.stroke();
  }
}
