// The plot: fills the sources that plot.py made, found by their names, and sets the colours
// (outputs/plotting.py has them).

const LABEL_HEIGHT = 12; // pixels that an upright name takes along the wavelength axis
const darkness = matchMedia("(prefers-color-scheme: dark)");

class View {
  static async start(plotJson, onPointer) {
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
    view.figure.on_event("mouseleave", () => onPointer(NaN));
    darkness.addEventListener("change", () => view.paint());
    view.paint();
    return view;
  }

  model(name) { return this.document.get_model_by_name(name); }
  set(name, data) { this.model(name).data = data; }

  paint() {
    const colour = colours[darkness.matches ? "dark" : "light"];
    const { figure } = this;
    figure.setv({ background_fill_color: colour.ground, border_fill_color: colour.ground,
                  outline_line_color: colour.rule });
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
    for (const kind of ["emission", "absorption"]) {
      glyph(`${kind} marks`).setv({ line_color: colour[kind], line_alpha: 0.75 });
      glyph(`${kind} names`).text_color = colour[kind];
    }
    if (this.spectrum) this.showImportance();
  }

  // Another spectrum; both axes show all of it.
  show(spectrum, width) {
    this.spectrum = spectrum;
    const { wavelength, level } = spectrum;
    const at = (i) => wavelength[Math.max(0, Math.min(spectrum.n - 1, i))];
    const runs = badRuns(spectrum.sigma);
    this.set("masks", {
      left: runs.map(([first]) => (at(first - 1) + at(first)) / 2),
      right: runs.map(([, last]) => (at(last) + at(last + 1)) / 2),
    });
    this.showImportance();
    this.smooth(width);
    const good = spectrum.sigma.filter((s) => s > 0);
    const limit = 3 * quantile(good, 0.5);
    const seen = spectrum.flux.filter((_, i) => spectrum.sigma[i] > 0 && spectrum.sigma[i] <= limit);
    const low = Math.min(0, quantile(seen, 0.002)), high = quantile(seen, 0.998);
    const room = Math.max(high - low, 0.01);
    const ends = [(low - 0.1 * room) * level, (high + 0.45 * room) * level]; // room for the names
    this.setRange(this.model("height"), ...ends);
    const firstGood = spectrum.sigma.findIndex((s) => s > 0);
    const lastGood = spectrum.sigma.findLastIndex((s) => s > 0);
    const margin = 0.01 * (wavelength[lastGood] - wavelength[firstGood]);
    this.setRange(this.observed, wavelength[firstGood] - margin, wavelength[lastGood] + margin);
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
      members.forEach((name, i) => {
        name.offset = centre + (i - (members.length - 1) / 2) * LABEL_HEIGHT - name.at;
      });
    }
    for (const kind of ["emission", "absorption"]) {
      const own = names.filter((line) => line.emission === (kind === "emission"));
      this.set(kind, {
        x: own.map((line) => line.x), name: own.map((line) => line.name), offset: own.map((line) => line.offset),
      });
    }
  }

  visible(part, yes) {
    const parts = { lines: ["emission marks", "emission names", "absorption marks", "absorption names"] };
    for (const name of parts[part] ?? [part]) this.model(name).visible = yes;
  }
}
