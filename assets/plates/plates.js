// A page's pictures. Each plate is declared once in Python (pages/kit/plates.py): its kind, its values, and what its
// axes stand for. Drawing, hover, keys, CSV and the light that runs from plate to plate all follow from that: a cell
// whose axis is "room" and number 12 is lit in every plate that has an axis of that name. Between plates, and to the
// server, an index travels as the number that people call it by: index + the axis' offset.

const base = await import(new URL("../kit/base.js" + new URL(import.meta.url).search, import.meta.url).href);
const { el, bytes, floats, clamp, fill, download, letter, share } = base;
const picture = () => import(new URL("../kit/picture.js" + new URL(import.meta.url).search, import.meta.url).href); // when it is asked for

const LIT = 1, CLOSED = 2; // bits of a mask
const LONG = 44; // letters of a table's cell that had better break into lines
const WIDE = /[\u3000-\u303f\uff00-\uffef]$/; // ends with a Chinese sign, which brings its own space
const FIGURE = /^([–?]|[<>]?−?\d[\d,.]*(–\d[\d,.]*)?(\s?[^\d\s(\uff08]{1,6})?)$/; // a number or two, with a unit or without; or none, or what is not told yet
// Lines are told apart without colour too; the key draws the same strokes and gaps.
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3], [14, 5]];
// The desk's pale gold is for areas; by day a line of it would hardly be seen.
const inked = (role) => (role === "desk" ? "desk-edge" : role);

const shown = new Set(); // all views of the page: the pointer's light reaches every one of them

class View {
  constructor(host) {
    this.host = host;
    this.plates = [];
    this.hover = {};
    this.number = 0;
    host.replaceChildren((this.grid = el("div", { class: "plates" })), (this.spoken = el("p", { class: "hidden", "aria-live": "polite" })));
    this.resize = new ResizeObserver(() => this.plates.forEach((plate) => plate.draw()));
  }

  stop() {
    clearTimeout(this.later);
    this.resize.disconnect();
    shown.delete(this);
  }

  update(data) {
    this.data = data;
    shown.add(this);
    this.number = Math.max(this.number, data.heard ?? 0);
    if ((data.heard ?? 0) >= this.number) this.picked = { ...data.picked };
    const old = new Map(this.plates.map((plate) => [plate.d.id, plate]));
    const same = this.plates.map((p) => p.d.id + p.d.kind).join() === data.plates.map((d) => d.id + d.kind).join();
    this.plates = data.plates.map((d) => {
      const kept = same ? old.get(d.id) : null;
      const plate = kept ?? new (KINDS[d.kind])(this);
      plate.take(d);
      return plate;
    });
    if (!same) {
      this.resize.disconnect();
      this.grid.replaceChildren(...this.plates.map((plate) => plate.node));
      this.plates.forEach((plate) => this.resize.observe(plate.node));
    }
    this.redraw();
  }

  redraw() {
    this.colours = new Map();
    this.plates.forEach((plate) => plate.draw());
  }

  get projected() { return this.host.hasAttribute("data-projector"); }

  colour(name) {
    if (!this.colours.has(name)) this.colours.set(name, getComputedStyle(this.host).getPropertyValue(`--${name}`).trim());
    return this.colours.get(name);
  }

  say(key, values = {}) { return fill(this.data.words[key] ?? key, values); }

  // What an index of an axis is called: its label where it has one, with the axis' own words around it.
  nameOf(axis, index) {
    const number = index + (axis.offset ?? 0), said = axis.labels?.[index] ?? number, one = `axis_${axis.name}_one`;
    return this.say(String(said) === "1" && one in this.data.words ? one : `axis_${axis.name}`, { index: number, label: said });
  }

  point(at) { // at: {axis name: index}; the same things light up everywhere
    const now = JSON.stringify(at ?? {});
    for (const view of shown) {
      if (JSON.stringify(view.hover) === now) continue;
      view.hover = at ?? {};
      view.plates.forEach((plate) => plate.draw());
    }
  }

  pick(at) {
    const wanted = Object.fromEntries(Object.entries(at).filter(([name]) => this.data.picks.includes(name)));
    if (!Object.keys(wanted).length) return;
    this.picked = { ...this.picked, ...wanted };
    this.plates.forEach((plate) => plate.draw());
    this.number += 1;
    clearTimeout(this.later);
    this.later = setTimeout(() => {
      this.report("pick", { page: this.data.page, number: this.number, ...this.picked });
    }, 120);
  }
}

function index(axis, number) {
  const at = number == null ? -1 : number - (axis.offset ?? 0);
  return at >= 0 && at < axis.count ? at : null;
}

// New children in place of the old; who worked with the keyboard in the old ones goes on in the same place of the new.
function renew(list, children) {
  const active = list.getRootNode().activeElement, at = [...list.children].findIndex((child) => child.contains(active));
  const where = (child) => (child?.matches("button") ? child : child?.querySelector("button"));
  list.replaceChildren(...children);
  if (at >= 0) where(list.children[at])?.focus();
}

// -- one plate --------------------------------------------------------------------------------------------------------

class Plate {
  constructor(view) {
    this.view = view;
    this.title = el("h3");
    this.from = el("p", { class: "from" });
    this.body = el("div");
    this.note = el("p", { class: "note" });
    this.legend = el("ul", { class: "key" });
    this.copy = el("button", { type: "button", onclick: () => this.toClipboard() });
    this.save = el("button", { type: "button", onclick: () => this.toFile() });
    this.snap = el("button", { type: "button", onclick: () => this.toPicture() });
    this.tools = el("div", { class: "take" }, this.copy, this.save, this.snap);
    this.head = el("header", {}, this.title, this.tools);
    this.node = el("section", {}, this.from, this.head, this.body, this.legend, this.note);
  }

  take(d) {
    this.d = d;
    this.node.className = `plate ${d.width ?? "full"}`;
    this.node.dataset.plate = d.id;
    this.node.style.setProperty("--role", `var(--${d.role ?? "soft"})`);
    this.title.textContent = d.title ?? "";
    if (d.level) this.title.setAttribute("aria-level", d.level);
    this.from.textContent = d.from ?? "";
    this.from.hidden = !d.from;
    // **strong** is the only mark-up that a sentence may have.
    this.note.replaceChildren(...(d.note ?? "").split("**").map((part, i) => (i % 2 ? el("strong", { text: part }) : part)));
    this.note.hidden = !d.note;
    this.tools.hidden = !this.rows;
    this.head.hidden = !d.title;
    const say = (key, values) => this.view.say(key, values);
    this.copy.textContent = say("copy");
    this.save.textContent = say("csv");
    this.snap.textContent = say("png");
    this.copy.setAttribute("aria-label", say("copy_of", { title: d.title }));
    this.save.setAttribute("aria-label", say("csv_of", { title: d.title }));
    this.snap.setAttribute("aria-label", say("png_of", { title: d.title }));
    const key = d.key ?? [];
    let lines = 0;
    this.legend.hidden = !key.length;
    this.legend.replaceChildren(...key.map(({ role, text, mark }) => {
      const swatch = el("i", { class: mark ?? "" });
      if (mark === "line") {
        const dashes = DASHES[lines++ % DASHES.length], strokes = dashes.length === 4 ? [dashes[0], dashes[2], dashes[0]] : dashes.length ? Array(Math.round((28 + dashes[1]) / (dashes[0] + dashes[1]))).fill(dashes[0]) : [28];
        swatch.style.gap = `${dashes[1] ?? 0}px`;
        swatch.append(...strokes.map((wide) => { const stroke = el("b"); stroke.style.width = `${wide}px`; stroke.style.background = `var(--${inked(role)})`; return stroke; }));
      }
      else swatch.style.background = `var(--${role})`;
      return el("li", {}, swatch, text);
    }));
  }

  number(value, { digits = 3, percent } = this.d) {
    if (!Number.isFinite(value)) return value === -Infinity ? "−∞" : value === Infinity ? "∞" : "–";
    if (percent) return share(value, this.view.data.lang);
    return new Intl.NumberFormat(this.view.data.lang, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value).replace("-", "−");
  }

  // A number beside an axis.
  short(value, digits = 2) {
    const style = this.d.percent ? "percent" : "decimal", notation = Math.abs(value) < 1e4 ? "standard" : "compact";
    return new Intl.NumberFormat(this.view.data.lang, { style, notation, maximumSignificantDigits: digits }).format(value).replace("-", "−");
  }

  csv(between = ",") {
    const quote = (cell) => (/[",\t\n\r]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
    return this.rows().map((row) => row.map((cell) => quote(String(cell))).join(between)).join("\r\n") + "\r\n";
  }

  toFile() { download(new Blob(["\ufeff", this.csv()], { type: "text/csv" }), `${this.d.id}.csv`); }

  // As it stands here, with its title, key and note, drawn finer than on screen.
  async toPicture() {
    const { FINE, painted, origin } = await picture();
    this.view.fine = FINE;
    this.draw();
    const image = painted(this.node, origin(this.view));
    this.view.fine = null;
    this.draw();
    image.toBlob((blob) => download(blob, `${this.d.id}.png`));
  }

  async toClipboard() {
    const text = this.csv("\t");
    try { await navigator.clipboard.writeText(text); } catch { // no clipboard without https
      const area = el("textarea", { class: "hidden" });
      area.value = text;
      this.node.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    this.copy.textContent = this.view.say("copied");
    setTimeout(() => { this.copy.textContent = this.view.say("copy"); }, 1500);
  }
}

// -- plates on a canvas -----------------------------------------------------------------------------------------------

class Drawn extends Plate {
  constructor(view) {
    super(view);
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.tip = el("div", { class: "tip", hidden: "" });
    this.stage = el("div", { class: "draw", tabindex: "0", role: "application" }, this.canvas, this.tip);
    this.body.append(this.stage);
    this.canvas.onpointermove = (event) => { if (event.pointerType !== "touch") this.over(event, false); };
    this.canvas.onpointerleave = () => { this.own = null; view.point(null); };
    this.canvas.onclick = (event) => this.over(event, true);
    this.stage.onkeydown = (event) => this.keyed(event);
    this.stage.onblur = () => { this.own = null; view.point(null); };
  }

  take(d) {
    super.take(d);
    this.values = d.values ? floats(d.values) : null;
    this.before = d.before ? floats(d.before) : null;
    this.mask = d.mask ? bytes(d.mask) : null;
    this.stage.setAttribute("aria-label", d.alt);
    this.stage.classList.toggle("picks", d.axes.some((axis) => this.view.data.picks.includes(axis.name)));
    this.own = null;
  }

  // As wide as there is room, in units of the page's type.
  get room() { return this.stage.clientWidth / this.view.unit; }

  // A picture as high as `height` is higher on a projector, where nothing else is to be seen beside it.
  tall(height) { return this.view.projected ? 1.4 * height : height; }

  get type() { return `${this.view.projected ? 12.5 : 11.5}px ${getComputedStyle(this.view.host).fontFamily}`; }

  // How wide words will be, before anything is drawn.
  widthOf(text) {
    const c = this.canvas.getContext("2d");
    c.font = this.type;
    return c.measureText(text).width;
  }

  // A drawing context in such units, cleared; null while there is no room.
  begin(height) {
    const width = this.room, unit = this.view.unit, dpr = (this.view.fine || window.devicePixelRatio || 1) * unit;
    if (!width) return null;
    const w = Math.round(width * dpr), h = Math.round(height * dpr);
    if (this.canvas.width !== w || this.canvas.height !== h) {
      this.canvas.width = w;
      this.canvas.height = h;
      this.canvas.style.height = `${height * unit}px`;
    }
    const c = this.canvas.getContext("2d");
    c.setTransform(dpr, 0, 0, dpr, 0, 0);
    c.clearRect(0, 0, width, height);
    c.font = this.type;
    c.textBaseline = "middle";
    this.width = width;
    this.height = height;
    return c;
  }

  // What the shades stand for, at the end of the key.
  scale(low, high, role = "intern") {
    const below = low < 0 ? "var(--soft), " : "", bar = el("i", { class: "scale", "aria-hidden": "true" });
    bar.style.background = `linear-gradient(to right, ${below}var(--closed), var(--${role}))`;
    this.legend.append(el("li", {}, this.number(low), bar, this.number(high)));
    this.legend.hidden = false;
  }

  // Where an axis is lit by hover or by choice: index or null.
  hot(axis) { return index(axis, this.view.hover[axis.name]); }
  chosen(axis) { return index(axis, this.view.picked?.[axis.name]); }

  over(event, click) {
    const box = this.canvas.getBoundingClientRect(), { unit } = this.view;
    const at = this.at((event.clientX - box.left) / unit, (event.clientY - box.top) / unit);
    this.own = at;
    this.view.point(at && this.named(at));
    if (click && at) this.view.pick(this.named(at));
  }

  named(at) { return Object.fromEntries(this.d.axes.map((axis, i) => [axis.name, at[i] + (axis.offset ?? 0)])); }

  keyed(event) {
    const axes = this.d.axes, last = axes.length - 1;
    const step = { ArrowLeft: [last, -1], ArrowRight: [last, 1], ArrowUp: [0, this.up ?? -1], ArrowDown: [0, -(this.up ?? -1)],
      Home: [last, -Infinity], End: [last, Infinity], PageUp: [last, -10], PageDown: [last, 10] }[event.key];
    if (event.key === "Escape") { this.own = null; return this.view.point(null); }
    if ((event.key === "Enter" || event.key === " ") && this.own) {
      event.preventDefault();
      return this.view.pick(this.named(this.own));
    }
    if (!step) return;
    event.preventDefault();
    const here = this.own ?? axes.map((axis) => this.chosen(axis) ?? 0);
    const [i, by] = step;
    if (this.own || Math.abs(by) > 1) here[i] = clamp(here[i] + by, 0, axes[i].count - 1);
    this.own = [...here];
    this.view.point(this.named(this.own));
    this.view.spoken.textContent = this.lines(this.own).join(". ");
  }

  // The words beside the pointer.
  lines(at) {
    const names = this.d.axes.map((axis, i) => this.view.nameOf(axis, at[i]));
    return [names.join(" · "), ...this.facts(at)];
  }

  showTip(x, y) {
    this.tip.hidden = !this.own;
    if (!this.own) return;
    this.tip.replaceChildren(...this.lines(this.own).map((text) => el("p", { text })));
    const box = this.tip.getBoundingClientRect(), { unit } = this.view, above = y * unit - box.height - 10;
    this.tip.style.left = `${clamp(x * unit - box.width / 2, 0, Math.max(0, this.width * unit - box.width))}px`;
    this.tip.style.top = `${above > -60 ? above : y * unit + 16}px`;
  }

  states(index) {
    const mask = this.mask?.[index] ?? 0;
    return mask & CLOSED ? [this.view.say("closed")] : mask & LIT ? [this.d.lit ?? this.view.say("lit")] : [];
  }
}

// Brightness (0 to 1, as contrast is reckoned) of one #rrggbb colour laid over another with some strength.
function mix(under, over, strength) {
  const part = (hex, at) => parseInt(hex.slice(at, at + 2), 16) / 255;
  return [[1, 0.2126], [3, 0.7152], [5, 0.0722]].reduce((sum, [at, share]) => {
    const value = part(under, at) + (part(over, at) - part(under, at)) * strength;
    return sum + share * (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  }, 0);
}

// What can be read on that brightness. One of the two always stands out by 4.5 to 1; ink and paper do not where a colour
// is half strong.
function clearest(light) { return (light + 0.05) / 0.05 > 1.05 / (light + 0.05) ? "#000000" : "#FFFFFF"; }

// One value for each index of one axis: standing bars, from 0 up or down.
class Bars extends Drawn {
  draw() {
    const d = this.d, axis = d.axes[0], n = axis.count;
    const c = this.begin(this.tall(d.height ?? 118));
    if (!c) return;
    const finite = [...this.values, ...(this.before ?? [])].filter(Number.isFinite);
    let [low, high] = d.domain ?? [Math.min(0, ...finite), Math.max(0, ...finite)];
    if (low === high) high = low + 1;
    const widest = Math.max(...[low, high].map((value) => c.measureText(this.short(value)).width));
    const top = axis.groups ? 18 : 6, bottom = this.height - (axis.labels && n <= 40 ? 20 : 6), left = Math.max(52, widest + 8), gap = axis.groups ? 4 : 0;
    const per = axis.groups ? n / axis.groups : n, step = (this.width - left - 2 - gap * (n / per - 1)) / n;
    this.x = (i) => left + i * step + Math.floor(i / per) * gap;
    this.step = step;
    const y = (v) => bottom - ((clamp(v, low, high) - low) / (high - low)) * (bottom - top);
    const v = this.view, zero = y(clamp(0, low, high));
    c.fillStyle = v.colour("soft");
    c.textAlign = "right";
    c.fillText(this.short(high), left - 6, top + 4);
    if (low < 0) c.fillText(this.short(low), left - 6, bottom - 3);
    c.fillText("0", left - 6, clamp(zero, top + 17, bottom - (low < 0 ? 16 : 3)));
    for (let g = 0; g < (axis.groups ?? 0); g++) {
      const x = this.x(g * per), open = !(this.mask?.[g * per] & CLOSED);
      c.fillStyle = v.colour(open ? "open" : "closed");
      c.globalAlpha = 0.55;
      c.fillRect(x, top, step * per, bottom - top);
      c.globalAlpha = 1;
      c.fillStyle = v.colour(open ? "ink" : "soft");
      c.textAlign = "center";
      c.fillText(letter(g), x + (step * per) / 2, 8);
    }
    const hot = this.hot(axis), chosen = this.chosen(axis), wide = Math.max(step * (step > 5 ? 0.78 : 0.9), 1);
    for (let i = 0; i < n; i++) {
      const value = this.values[i], mask = this.mask?.[i] ?? (this.mask ? 0 : LIT), x = this.x(i) + (step - wide) / 2;
      if (!Number.isFinite(value)) continue;
      c.fillStyle = v.colour(mask & LIT ? (d.roles?.[i] ?? d.role ?? "intern") : "soft");
      c.globalAlpha = mask & LIT ? 1 : mask & CLOSED ? 0.22 : 0.5;
      const w = this.mask && mask & LIT ? Math.max(wide, 3) : wide, a = y(value);
      c.fillRect(x - (w - wide) / 2, Math.min(a, zero), w, Math.max(Math.abs(a - zero), 1));
      if (this.before && this.before[i] !== value && Number.isFinite(this.before[i])) {
        c.globalAlpha = 1;
        c.fillStyle = v.colour("ink");
        c.fillRect(x - 1, y(this.before[i]) - 1, Math.max(wide, 3) + 2, 2);
      }
    }
    c.globalAlpha = 1;
    c.fillStyle = v.colour("line");
    c.fillRect(left, zero - 0.5, this.width - left, 1);
    if (axis.labels && n <= 40) {
      c.textAlign = "center";
      c.fillStyle = v.colour("soft");
      const names = axis.labels.map((one) => fit(one, 8));
      const every = Math.ceil(Math.min((Math.max(...names.map((one) => c.measureText(one).width)) + 6) / step, Math.max(axis.label_width ?? 40, step) / step));
      for (let i = 0; i < n; i += every) c.fillText(within(c, names[i], step * every - 4), this.x(i) + step / 2, this.height - 8);
    }
    for (const [i, colour] of [[chosen, "patient"], [hot, "ink"]]) {
      if (i == null || i >= n) continue;
      c.strokeStyle = v.colour(colour);
      c.lineWidth = 1.5;
      c.strokeRect(this.x(i) - 1.5, top - 1, step + 3, bottom - top + 2);
    }
    this.showTip(this.own ? this.x(this.own[0]) + step / 2 : 0, top);
  }

  at(x) {
    const n = this.d.axes[0].count;
    if (x < this.x(0) - 3) return null;
    let i = 0;
    while (i < n - 1 && this.x(i + 1) <= x) i += 1;
    if (this.mask && this.step < 6) { // a lit room within reach of the pointer is meant
      const reach = Math.ceil(3 / this.step);
      for (let near = 0; near <= reach; near++) for (const j of [i - near, i + near]) if (this.mask[j] & LIT) return [j];
    }
    return [i];
  }

  facts([i]) {
    const lines = [this.number(this.values[i]), ...this.states(i)];
    if (this.before) lines.push(this.view.say("before", { value: this.number(this.before[i]) }));
    return lines;
  }

  rows() {
    const axis = this.d.axes[0];
    return [[axis.name, "label", "value", ...(this.before ? ["before"] : []), ...(this.mask ? ["lit", "closed"] : [])],
      ...Array.from(this.values, (value, i) => [i + (axis.offset ?? 0), axis.labels?.[i] ?? "", value,
        ...(this.before ? [this.before[i]] : []), ...(this.mask ? [this.mask[i] & LIT ? 1 : 0, this.mask[i] & CLOSED ? 1 : 0] : [])])];
  }
}

// What an index is called, in so many characters, of which a Chinese one takes two.
function label(axis, i, most) { return fit(axis.labels?.[i] ?? String(i + (axis.offset ?? 0)), most); }

function fit(text, most) {
  let room = most;
  const fits = [...text].filter((char) => (room -= char > "\u2e80" ? 2 : 1) >= 0).join("");
  return fits === text ? text : fits.slice(0, -1) + "…";
}

// As much of it as fits a width.
function within(c, text, width) {
  const signs = [...text];
  if (c.measureText(text).width <= width) return text;
  while (signs.length > 1 && c.measureText(signs.join("") + "…").width > width) signs.pop();
  return signs.join("") + "…";
}

// One value for each pair of indices: rows by columns, the stronger the more colour; below 0 in grey.
class Grid extends Drawn {
  take(d) {
    super.take(d);
    const finite = this.values.filter(Number.isFinite);
    const [low, top] = d.domain ?? [finite.reduce((a, b) => Math.min(a, b), 0), finite.reduce((a, b) => Math.max(a, b), 0)];
    this.most = Math.max(Math.abs(low), Math.abs(top)) || 1;
    if (finite.length && new Set(d.roles).size < 2) this.scale(low < 0 ? -this.most : 0, this.most, d.roles?.[0] ?? d.role);
  }

  draw() {
    const d = this.d, [rows, cols] = d.axes, wanted = d.cell ?? clamp(Math.round(330 / rows.count), 5, 26);
    this.up = d.from_below ? 1 : -1;
    const left = d.left ?? 64, each = (this.room - left - 2) / cols.count;
    // A label that does not fit its column stands aslant, where that lets more of it be read.
    const slanted = each < 34 || (each < 52 && Boolean(cols.labels?.some((one) => fit(one, each / 6.5) !== one)));
    const foot = cols.labels && cols.count <= 64 ? (slanted ? 50 : 24) : 18;
    const c = this.begin(rows.count * wanted + foot + 4);
    if (!c) return;
    const v = this.view, high = wanted, step = (this.width - left - 2) / cols.count;
    const most = this.most;
    this.place = (r, k) => [left + k * step, 2 + (d.from_below ? rows.count - 1 - r : r) * high];
    this.step = step;
    this.high = high;
    const gapX = step > 6 ? 1 : 0, gapY = high > 6 ? 1 : 0;
    for (let r = 0; r < rows.count; r++) for (let k = 0; k < cols.count; k++) {
      const value = this.values[r * cols.count + k], [x, y] = this.place(r, k);
      c.globalAlpha = 1;
      c.fillStyle = v.colour("closed");
      if (Number.isFinite(value)) c.fillRect(x, y, step - gapX, high - gapY);
      else continue;
      c.fillStyle = v.colour(value < 0 ? "soft" : d.roles?.[r] ?? d.role ?? "intern");
      c.globalAlpha = clamp(Math.abs(value) / most, 0, 1);
      c.fillRect(x, y, step - gapX, high - gapY);
      if (d.written && step > 34) {
        c.textAlign = "center";
        const text = d.written === "texts" ? fit(d.texts[r * cols.count + k], step / 7) : this.number(value);
        const light = mix(v.colour("closed"), v.colour(value < 0 ? "soft" : d.roles?.[r] ?? d.role ?? "intern"), c.globalAlpha);
        c.globalAlpha = 1;
        c.fillStyle = clearest(light);
        c.fillText(text, x + (step - gapX) / 2, y + (high - gapY) / 2 + 0.5);
      }
      if (this.mask?.[r * cols.count + k] & LIT) {
        c.globalAlpha = 1;
        c.strokeStyle = v.colour("ink");
        c.lineWidth = 1.5;
        c.strokeRect(x + 0.75, y + 0.75, step - gapX - 1.5, high - gapY - 1.5);
      }
    }
    c.globalAlpha = 1;
    c.fillStyle = v.colour("soft");
    c.textAlign = "right";
    const everyRow = Math.ceil(13 / high);
    for (let r = 0; r < rows.count; r += 1) {
      const edge = r === rows.count - 1;
      if (r % everyRow && !edge) continue;
      if (!edge && rows.count - 1 - r < everyRow) continue;
      c.fillText(within(c, label(rows, r, Infinity), left - 8), left - 6, Math.max(this.place(r, 0)[1] + high / 2, 7)); // the topmost whole, however low its row
    }
    c.textAlign = "center";
    const bottom = rows.count * high + 4;
    if (cols.labels && cols.count <= 64) {
      for (let k = 0; k < cols.count; k++) {
        c.save();
        c.translate(left + (k + 0.5) * step, bottom + 4);
        if (slanted) { c.rotate(-Math.PI / 4); c.textAlign = "right"; } // to the left, where there is room beside the first
        if (k % Math.ceil((slanted ? 14 : 9) / step) === 0) c.fillText(slanted ? label(cols, k, 8) : within(c, label(cols, k, Infinity), step - 4), 0, 6); // a slanted line is as high as 14 are wide
        c.restore();
      }
    } else {
      const every = Math.ceil(cols.count / (this.width / 60));
      for (let k = 0; k < cols.count; k += every) {
        const text = label(cols, k, 9);
        c.fillText(text, Math.min(left + (k + 0.5) * step, this.width - c.measureText(text).width / 2), bottom + 7);
      }
    }
    for (const [r, k, colour] of [[this.chosen(rows), this.chosen(cols), "patient"], [this.hot(rows), this.hot(cols), "ink"]]) {
      // Where the cells have the frame's own colour, it stands out by an edge of paper.
      for (const [own, width] of [...((this.d.role ?? "intern") === colour || this.d.roles?.includes(colour) ? [["paper", Math.min(4.5, 1.5 + high / 4)]] : []), [colour, 1.5]]) {
        c.strokeStyle = v.colour(own);
        c.lineWidth = width;
        if (r != null && r < rows.count) c.strokeRect(left - 1, this.place(r, 0)[1] - 1, step * cols.count + 1, high + 1);
        if (k != null && k < cols.count) c.strokeRect(this.place(0, k)[0] - 1, 1, step + 1, rows.count * high + 1);
      }
    }
    if (this.own) { const [x, y] = this.place(...this.own); this.showTip(x + step / 2, y); } else this.showTip();
  }

  at(x, y) {
    const [rows, cols] = this.d.axes, k = Math.floor((x - this.place(0, 0)[0]) / this.step);
    let r = Math.floor((y - 2) / this.high);
    if (this.d.from_below) r = rows.count - 1 - r;
    return k >= 0 && k < cols.count && r >= 0 && r < rows.count ? [r, k] : null;
  }

  facts([r, k]) {
    const i = r * this.d.axes[1].count + k, text = this.d.texts?.[i];
    return [...(text ? [text] : []), this.number(this.values[i]), ...this.states(i)];
  }

  rows() {
    const [rows, cols] = this.d.axes, name = (axis, i) => axis.labels?.[i] ?? i + (axis.offset ?? 0);
    return [[rows.name, cols.name, `${rows.name}_label`, `${cols.name}_label`, "value", ...(this.d.texts ? ["text"] : [])],
      ...Array.from(this.values, (value, i) => {
        const r = Math.floor(i / cols.count), k = i % cols.count;
        return [r + (rows.offset ?? 0), k + (cols.offset ?? 0), name(rows, r), name(cols, k), value, ...(this.d.texts ? [this.d.texts[i]] : [])];
      })];
  }
}

// One panel for each index of the first axis, small, and the one that is lit or chosen large beside them. The other two
// axes are rows and columns; with `per`, a cell stands for that many of each. `lower`: only cells up to the diagonal.
class Grids extends Drawn {
  take(d) {
    super.take(d);
    this.per = d.per ?? 1;
    this.cells = d.axes.slice(1).map((axis) => Math.ceil(axis.count / this.per));
    this.most = d.domain?.[1] ?? (this.values.reduce((most, value) => (value > most ? value : most), 0) || 1);
    this.small = null;
    this.scale(0, this.most, d.role);
  }

  value(p, r, k) {
    const [n, m] = this.cells;
    if (!this.d.lower) return this.values[(p * n + r) * m + k];
    return k > r ? NaN : this.values[p * (n * (n + 1) / 2) + r * (r + 1) / 2 + k];
  }

  // A panel with one pixel a cell, to be drawn at any size; made once, since there may be many cells.
  image(p) {
    const [n, m] = this.cells, canvas = el("canvas", { width: m, height: n }), pixels = new ImageData(m, n);
    const rgb = (name) => [1, 3, 5].map((at) => parseInt(this.view.colour(name).slice(at, at + 2), 16));
    const [from, to] = [rgb("closed"), rgb(this.d.role ?? "intern")];
    for (let r = 0; r < n; r++) for (let k = 0; k < m; k++) {
      const value = this.value(p, r, k), share = clamp(value / this.most, 0, 1);
      if (Number.isFinite(value)) pixels.data.set([...from.map((part, i) => part + (to[i] - part) * share), 255], (r * m + k) * 4);
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  }

  draw() {
    const d = this.d, v = this.view, [panels, rows, cols] = d.axes, [n, m] = this.cells, { room } = this;
    const across = Math.ceil(Math.sqrt(panels.count)), down = Math.ceil(panels.count / across), wide = room >= 720;
    const named = rows.count <= 64, left = d.left ?? (named ? 72 : 64), name = 20;
    const side = (wide ? Math.min(room / 2, 600) : room) - left - 2, sx = side / m, sy = side / n;
    const text = (axis, i, most = Infinity) => label(axis, Math.min(i * this.per, axis.count - 1), most);
    const slanted = named && (sx < 40 || Array.from({ length: m }, (_, k) => this.widthOf(text(cols, k))).some((one) => one > sx - 6));
    const foot = slanted ? 58 : 20, tall = name + side + foot;
    const start = wide ? left + side + 30 : 3, space = room - start - 3;
    const little = Math.floor(Math.min((space - 6 * (across - 1)) / across, wide ? tall / down - name - 6 : 130));
    const apart = Math.min((space - little * across) / Math.max(across - 1, 1), 44);
    const c = this.begin(wide ? tall : tall + 12 + down * (little + name + 4));
    if (!c) return;
    this.small ??= Array.from({ length: panels.count }, (_, p) => this.image(p));
    const shown = this.shown = this.hot(panels) ?? this.chosen(panels) ?? 0;
    const cell = (axis, of) => { const at = this[of](axis); return at == null ? null : Math.floor(at / this.per); };
    const marks = [[cell(rows, "chosen"), null, "patient"], [cell(rows, "hot"), cell(cols, "hot"), "ink"]];
    this.large = { x: left, y: name, side };
    this.littles = Array.from({ length: panels.count }, (_, p) => ({
      x: start + (p % across) * (little + apart), y: (wide ? 0 : tall + 12) + Math.floor(p / across) * (little + name + (wide ? 6 : 4)) + name, side: little,
    }));

    const gapX = sx > 6 ? 1 : 0, gapY = sy > 6 ? 1 : 0;
    for (let r = 0; r < n; r++) for (let k = 0; k < m; k++) {
      const value = this.value(shown, r, k);
      if (!Number.isFinite(value)) continue;
      c.fillStyle = v.colour("closed");
      c.fillRect(left + k * sx, name + r * sy, sx - gapX, sy - gapY);
      c.fillStyle = v.colour(d.role ?? "intern");
      c.globalAlpha = clamp(value / this.most, 0, 1);
      c.fillRect(left + k * sx, name + r * sy, sx - gapX, sy - gapY);
      c.globalAlpha = 1;
    }
    c.fillStyle = v.colour("ink");
    c.textAlign = "left";
    c.fillText(v.nameOf(panels, shown), left, 8);
    c.fillStyle = v.colour("soft");
    const everyRow = Math.ceil(13 / sy), everyColumn = Math.ceil((named ? 11 : 34) / sx);
    for (let r = 0; r < n; r += everyRow) {
      c.textAlign = "right";
      c.fillText(named ? within(c, text(rows, r), left - 8) : String(r * this.per + (rows.offset ?? 0)), left - 6, name + (r + 0.5) * sy);
    }
    for (let k = 0; k < m; k += everyColumn) {
      c.save();
      c.translate(left + (k + 0.5) * sx, name + side + 10);
      c.textAlign = slanted ? "right" : "center";
      if (slanted) c.rotate(-Math.PI / 4);
      c.fillText(named ? text(cols, k, slanted ? 8 : Infinity) : String(k * this.per + (cols.offset ?? 0)), 0, 0);
      c.restore();
    }
    const frame = (box, width) => marks.forEach(([r, k, colour]) => {
      const [w, h] = [box.side / m, box.side / n];
      c.strokeStyle = v.colour(colour);
      c.lineWidth = width;
      if (r != null && r < n) c.strokeRect(box.x - 0.5, box.y + r * h - 0.5, d.lower ? w * (r + 1) : box.side, h);
      if (k != null && k < m) c.strokeRect(box.x + k * w - 0.5, box.y + (d.lower ? k * h : 0) - 0.5, w, d.lower ? box.side - k * h : box.side);
    });
    frame(this.large, 1.5);

    c.imageSmoothingEnabled = false;
    this.littles.forEach((box, p) => {
      c.textAlign = "left";
      c.fillStyle = v.colour(p === shown ? "ink" : "soft");
      c.fillText(v.nameOf(panels, p), box.x, box.y - 9);
      c.drawImage(this.small[p], box.x, box.y, box.side, box.side);
      frame(box, 0.75);
      const colour = this.hot(panels) === p ? "ink" : this.chosen(panels) === p ? "patient" : "line";
      c.strokeStyle = v.colour(colour);
      c.lineWidth = colour === "line" ? 1 : 2;
      c.strokeRect(box.x - 2, box.y - 2, box.side + 4, box.side + 4);
    });
    if (!this.own) return this.showTip();
    const [p, r, k] = this.own, box = this.inLarge ? this.large : this.littles[p];
    this.showTip(box.x + (k == null ? 0.5 : (k + 0.5) / m) * box.side, box.y + (r == null ? 0 : r / n) * box.side);
  }

  // [panel, row, column] in cells; row and column null where no number is.
  at(x, y) {
    const inside = (box) => x >= box.x && x < box.x + box.side && y >= box.y && y < box.y + box.side;
    this.inLarge = inside(this.large);
    const p = this.inLarge ? this.shown : this.littles.findIndex(inside);
    if (p < 0) return null;
    const box = this.inLarge ? this.large : this.littles[p], [n, m] = this.cells;
    const r = Math.floor((y - box.y) / box.side * n), k = Math.floor((x - box.x) / box.side * m);
    return Number.isFinite(this.value(p, r, k)) ? [p, r, k] : [p, null, null];
  }

  named(at) {
    return Object.fromEntries(this.d.axes.map((axis, i) => [axis.name, at[i] == null ? null : (i ? at[i] * this.per : at[i]) + (axis.offset ?? 0)])
      .filter(([, index]) => index != null));
  }

  // A small panel is too small to hit a row of it: a click there chooses the panel, and a row only in the large one.
  over(event, click) {
    super.over(event, false);
    if (!click || !this.own) return;
    const { [this.d.axes[0].name]: panel, ...cell } = this.named(this.own);
    this.view.pick(this.inLarge ? { ...cell, [this.d.axes[0].name]: panel } : { [this.d.axes[0].name]: panel });
  }

  keyed(event) { // from panel to panel
    const count = this.d.axes[0].count, across = Math.ceil(Math.sqrt(count));
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, Home: -count, End: count }[event.key];
    if (!by) return super.keyed(event);
    event.preventDefault();
    this.inLarge = false;
    this.own = [clamp((this.own?.[0] ?? this.chosen(this.d.axes[0]) ?? 0) + by, 0, count - 1), null, null];
    this.view.point(this.named(this.own));
    this.view.spoken.textContent = this.lines(this.own).join(". ");
  }

  name(i, at) {
    const axis = this.d.axes[i], first = this.view.nameOf(axis, i ? at * this.per : at);
    return i && this.per > 1 ? `${first} – ${this.view.nameOf(axis, Math.min((at + 1) * this.per, axis.count) - 1)}` : first;
  }

  lines(at) { return [at.map((one, i) => (one == null ? null : this.name(i, one))).filter(Boolean).join(" · "), ...this.facts(at)]; }

  facts([p, r, k]) { return r == null ? [] : [this.number(this.value(p, r, k))]; }

  rows() {
    const [panels, rows, cols] = this.d.axes, [n, m] = this.cells, table = [];
    const ends = (axis, i) => [i * this.per, Math.min((i + 1) * this.per, axis.count) - 1].map((at) => at + (axis.offset ?? 0));
    const cell = (axis, i) => (this.per > 1 ? ends(axis, i) : [ends(axis, i)[0], axis.labels?.[i] ?? ""]);
    const columns = (axis) => (this.per > 1 ? [`${axis.name}_first`, `${axis.name}_last`] : [axis.name, `${axis.name}_label`]);
    for (let p = 0; p < panels.count; p++) for (let r = 0; r < n; r++) for (let k = 0; k < m; k++) {
      const value = this.value(p, r, k);
      if (Number.isFinite(value)) table.push([p + (panels.offset ?? 0), ...cell(rows, r), ...cell(cols, k), value]);
    }
    return [[panels.name, ...columns(rows), ...columns(cols), "value"], ...table];
  }
}

// So many digits, from three on, that no two lines are called alike.
function apart(lines, said) {
  for (let digits = 3; digits < 6; digits++) if (new Set(lines.map((value) => said(value, digits))).size === lines.length) return digits;
  return 6;
}

// About five round numbers between two.
function ticks(low, high) {
  const rough = (high - low) / 4, size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * size).find((s) => s >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

// Round numbers between two on a scale on which ten times as much is one step: 1, 10, 100, with 2 and 5 where few fit.
function decades(low, high) {
  const first = Math.floor(Math.log10(low)), all = Array.from({ length: Math.ceil(Math.log10(high)) - first + 1 }, (_, i) => 10 ** (first + i));
  return (high / low > 300 ? all : all.flatMap((one) => [one, 2 * one, 5 * one])).filter((v) => v >= low * 0.999 && v <= high * 1.001);
}

// Several series over one axis.
class Lines extends Drawn {
  take(d) {
    this.series = d.series.map((one) => ({ ...one, values: floats(one.values), low: one.low && floats(one.low), high: one.high && floats(one.high) }));
    super.take(d);
  }

  draw() {
    const d = this.d, axis = d.axes[0], n = axis.count, c = this.begin(this.tall(d.height ?? 210));
    if (!c) return;
    const all = this.series.flatMap((one) => [...one.values, ...(one.low ?? []), ...(one.high ?? [])]).filter(Number.isFinite);
    let [low, high] = d.domain ?? [Math.min(...all), Math.max(...all)];
    if (d.from_zero) low = Math.min(0, low);
    if (low === high) high = d.log ? low * 10 : low + 1;
    const left = 52, top = 10, bottom = this.height - 26, right = this.width - 10, v = this.view, scale = d.log ? Math.log10 : Number;
    this.x = (i) => left + (n === 1 ? 0.5 : i / (n - 1)) * (right - left);
    const y = (value) => bottom - ((scale(value) - scale(low)) / (scale(high) - scale(low))) * (bottom - top);
    c.strokeStyle = v.colour("line");
    c.fillStyle = v.colour("soft");
    c.lineWidth = 1;
    const powers = d.log ? decades(low, high) : [], lines = powers.length > 1 ? powers : ticks(low, high), digits = apart(lines, (value, digits) => this.short(value, digits));
    for (const value of lines) {
      c.beginPath(); c.moveTo(left, y(value)); c.lineTo(right, y(value)); c.stroke();
      c.textAlign = "right";
      c.fillText(this.short(value, digits), left - 6, y(value));
    }
    c.textAlign = "center";
    const every = Math.max(1, Math.ceil(n / ((right - left) / 46))), wide = (text) => c.measureText(text).width;
    const step = (every * (right - left)) / Math.max(n - 1, 1) - 6;
    const mark = (i) => {
      const label = axis.labels?.[i] ?? String(i + (axis.offset ?? 0));
      return /^[−+]?[\d.,]+\D{0,3}$/.test(label) ? label : within(c, label, step); // of a number nothing may be missing
    };
    for (let i = 0; i < n; i += every) {
      let text = mark(i);
      if (!i && /^[\d.,]+\D{0,3}$/.test(text)) { // the first number says what is counted, where there is room for it
        const named = v.nameOf(axis, i), room = (n > every ? this.x(every) - wide(mark(every)) / 2 : this.width) - 8;
        if (this.x(0) + wide(named) / 2 < room && wide(named) / 2 < this.x(0)) text = named;
      }
      c.fillText(text, Math.min(this.x(i), this.width - wide(text) / 2), bottom + 14);
    }
    for (const [i, colour] of [[this.chosen(axis), "patient"], [this.hot(axis), "ink"]]) {
      if (i == null || i >= n) continue;
      c.strokeStyle = v.colour(colour);
      c.beginPath(); c.moveTo(this.x(i), top); c.lineTo(this.x(i), bottom); c.stroke();
    }
    this.series.forEach((one, at) => {
      c.strokeStyle = c.fillStyle = v.colour(inked(one.role));
      if (one.low) {
        c.globalAlpha = 0.18;
        c.beginPath();
        one.high.forEach((value, i) => c.lineTo(this.x(i), y(value)));
        for (let i = n - 1; i >= 0; i--) c.lineTo(this.x(i), y(one.low[i]));
        c.fill();
        c.globalAlpha = 1;
      }
      c.lineWidth = 2;
      c.setLineDash(DASHES[at % DASHES.length]);
      c.beginPath();
      let on = false;
      one.values.forEach((value, i) => {
        if (!Number.isFinite(value)) { on = false; return; }
        if (on) c.lineTo(this.x(i), y(value)); else c.moveTo(this.x(i), y(value));
        on = true;
      });
      c.stroke();
      c.setLineDash([]);
      one.values.forEach((value, i) => {
        if (!Number.isFinite(value) || (n > 20 && i !== this.hot(axis) && i !== this.chosen(axis))) return;
        c.beginPath(); c.arc(this.x(i), y(value), 3.4, 0, 7); c.fill();
      });
    });
    this.showTip(this.own ? this.x(this.own[0]) : 0, top + 20);
  }

  at(x) {
    const n = this.d.axes[0].count;
    return [clamp(Math.round(((x - this.x(0)) / ((this.x(n - 1) - this.x(0)) || 1)) * (n - 1)), 0, n - 1)];
  }

  facts([i]) { return [...(this.d.texts?.[i] ? [this.d.texts[i]] : []), ...this.series.map((one) => this.view.say("pair", { label: one.label, value: this.number(one.values[i]) }))]; }

  rows() {
    const axis = this.d.axes[0];
    return [[axis.name, "label", ...this.series.flatMap((one) => [one.label, ...(one.low ? [`${one.label} low`, `${one.label} high`] : [])]), ...(this.d.texts ? ["text"] : [])],
      ...Array.from({ length: axis.count }, (_, i) => [i + (axis.offset ?? 0), axis.labels?.[i] ?? "",
        ...this.series.flatMap((one) => [one.values[i], ...(one.low ? [one.low[i], one.high[i]] : [])]), ...(this.d.texts ? [this.d.texts[i]] : [])])];
  }
}

// Numbers as equal little squares, so that sizes can be seen.
class Squares extends Drawn {
  draw() {
    const d = this.d, v = this.view, most = Math.max(...this.values), left = 4;
    const size = clamp(Math.floor(Math.sqrt((this.room * 150) / Math.max(most, 1)) * 0.9), 1, 14), pitch = size + (size > 3 ? 1 : 0.5);
    const across = Math.max(1, Math.floor((this.room - left * 2) / pitch));
    const tall = Array.from(this.values, (count) => Math.ceil(count / across) * pitch);
    const c = this.begin(tall.reduce((a, b) => a + b + 30, 4));
    if (!c) return;
    let y = 4;
    this.tops = [];
    this.values.forEach((count, i) => {
      this.tops.push(y);
      c.fillStyle = v.colour(this.hot(d.axes[0]) === i ? "ink" : "soft");
      c.textAlign = "left";
      c.fillText(v.say("pair", { label: d.axes[0].labels[i], value: new Intl.NumberFormat(v.data.lang).format(count) }), left, y + 8);
      y += 20;
      c.fillStyle = v.colour(d.roles?.[i] ?? d.role ?? "patient");
      for (let j = 0; j < count; j++) c.fillRect(left + (j % across) * pitch, y + Math.floor(j / across) * pitch, size, size);
      y += tall[i] + 10;
    });
  }

  at(x, y) { const i = this.tops.findLastIndex((top) => y >= top); return i < 0 ? null : [i]; }
  facts([i]) { return [String(this.values[i])]; }
  rows() { return [["what", "numbers"], ...Array.from(this.values, (count, i) => [this.d.axes[0].labels[i], count])]; }
}

// -- plates of words --------------------------------------------------------------------------------------------------

// A list, best first, with a bar each; `before` puts an older value beside it.
class Rank extends Plate {
  constructor(view) { super(view); this.list = el("ol", { class: "rank" }); this.body.append(this.list); }

  draw() {
    const d = this.d, values = d.values_list, most = d.domain?.[1] ?? (d.percent ? 1 : Math.max(...values, ...(d.before_list ?? []), ...(d.high_list ?? []), 1e-9)), axis = d.axes?.[0];
    const least = d.dots ? d.domain?.[0] ?? 0 : 0; // a bar begins at 0; a dot may be looked at more closely
    this.list.setAttribute("aria-label", d.alt ?? d.title ?? "");
    this.list.classList.toggle("wrap", Boolean(d.wrap));
    renew(this.list, d.labels.map((label, i) => {
      const part = (value) => clamp((value - least) / (most - least), 0, 1) * 100;
      const bar = (value, name) => { const b = el("b"); b.style.width = `${part(value)}%`; return el("i", { class: d.dots ? `${name} dot` : name, "aria-hidden": "true" }, b); };
      const whisker = (low, high) => { const w = el("u", { "aria-hidden": "true" }); w.style.left = `${part(low)}%`; w.style.width = `${part(high) - part(low)}%`; return w; };
      const share = el("span", { class: "share", text: this.number(values[i]) });
      const pair = el("span", { class: "pair" }, bar(values[i], ""));
      if (d.low_list) pair.append(whisker(d.low_list[i], d.high_list[i]));
      if (d.before_list) {
        pair.append(bar(d.before_list[i], "before"));
        share.append(el("small", { text: this.view.say(d.before_words ?? "before", { value: this.number(d.before_list[i]) }) }));
      }
      const picks = axis && axis.indices[i] >= 0 && this.view.data.picks.includes(axis.name), chosen = axis && this.view.picked?.[axis.name] === axis.indices[i];
      const word = el(picks ? "button" : "span", { class: "word", dir: "auto", text: label, ...(picks ? { type: "button", "aria-pressed": chosen } : {}) });
      const row = el("li", { title: d.hints?.[i] ?? "" }, word, pair, share);
      if (d.roles) row.style.setProperty("--role", `var(--${d.roles[i]})`);
      if (axis) {
        const at = { [axis.name]: axis.indices[i] };
        row.classList.toggle("here", this.view.hover[axis.name] === axis.indices[i]);
        row.onpointerenter = () => this.view.point(at);
        row.onpointerleave = () => this.view.point(null);
        row.classList.toggle("chosen", chosen);
        row.classList.toggle("picks", picks);
        if (picks) row.onclick = () => this.view.pick(at); // the whole row for a pointer, its word for the keyboard
      }
      return row;
    }));
  }

  rows() {
    const d = this.d;
    return [["what", "value", ...(d.before_list ? [d.before_words ?? "before"] : []), ...(d.low_list ? ["low", "high"] : [])],
      ...d.labels.map((label, i) => [label, d.values_list[i], ...(d.before_list ? [d.before_list[i]] : []), ...(d.low_list ? [d.low_list[i], d.high_list[i]] : [])])];
  }
}

// Rows of numbers and words under named columns; a row may stand for an index of an axis, as in a list.
class Table extends Plate {
  constructor(view) {
    super(view);
    this.table = el("table");
    this.scroll = el("div", { class: "table" }, this.table);
    this.body.append(this.scroll);
  }

  take(d) {
    super.take(d);
    // A column of figures ends where its last digits stand, however they came: the sign for none among them does too.
    const figures = d.columns.map((_, i) => d.cells.every((row) => typeof row[i] !== "string" || FIGURE.test(row[i])));
    const cell = (value, i) => {
      const { digits, percent } = d.columns[i];
      const text = typeof value === "string" ? value : this.number(value, { digits, percent });
      return el("td", { class: figures[i] ? "" : text.length > LONG ? "word long" : "word", dir: "auto", text });
    };
    this.rowsShown = d.labels.map((label, r) => {
      const picks = d.axes[0] && this.view.data.picks.includes(d.axes[0].name);
      const name = (label.match(/[^_]*_|[^_]+/g) ?? [label]).flatMap((part) => [part, el("wbr")]); // a field's name may break between its words
      const row = el("tr", {}, el("th", { scope: "row" }, el(picks ? "button" : "span", picks ? { type: "button" } : {}, ...name)), ...d.cells[r].map(cell));
      if (d.axes[0]) {
        const at = { [d.axes[0].name]: d.axes[0].indices[r] };
        row.onpointerenter = () => this.view.point(at);
        row.onpointerleave = () => this.view.point(null);
        row.onclick = () => this.view.pick(at);
        row.classList.toggle("picks", picks);
      }
      return row;
    });
    const active = this.table.getRootNode().activeElement, here = [...this.table.querySelectorAll("button")].indexOf(active);
    this.table.replaceChildren(el("caption", { class: "hidden", text: d.alt ?? d.title }),
      el("thead", {}, el("tr", {}, el("td"), ...d.columns.map(({ label }, i) => el("th", { scope: "col", class: figures[i] ? "" : "word", text: label })))),
      el("tbody", {}, ...this.rowsShown));
    this.measured = null;
    if (here >= 0) this.table.querySelectorAll("button")[here]?.focus();
  }

  draw() {
    const axis = this.d.axes[0];
    if (this.measured !== this.scroll.clientWidth) {
      this.scroll.classList.remove("wide");
      const wide = this.scroll.scrollWidth > this.scroll.clientWidth;
      this.scroll.classList.toggle("wide", wide); // where one scrolls anyway, words out of sight need not make the head high
      // What can be scrolled must be reachable without a pointer.
      if (wide) this.scroll.tabIndex = 0; else this.scroll.removeAttribute("tabindex");
      this.measured = this.scroll.clientWidth;
    }
    if (axis) this.rowsShown.forEach((row, r) => {
      row.classList.toggle("here", this.view.hover[axis.name] === axis.indices[r]);
      row.classList.toggle("chosen", this.view.picked?.[axis.name] === axis.indices[r]);
      row.querySelector("button")?.setAttribute("aria-pressed", this.view.picked?.[axis.name] === axis.indices[r]);
    });
  }

  rows() {
    const d = this.d, axis = d.axes[0];
    return [[...(axis ? [axis.name] : []), "what", ...d.columns.map(({ label }) => label)],
      ...d.labels.map((label, r) => [...(axis ? [axis.indices[r]] : []), label, ...d.cells[r]])];
  }
}

// Big numbers with a word each.
class Facts extends Plate {
  constructor(view) { super(view); this.list = el("dl", { class: "facts" }); this.body.append(this.list); }

  draw() {
    this.list.replaceChildren(...this.d.facts.map(({ value, label, note }) => {
      const dd = el("dd", { text: value });
      return el("div", {}, el("dt", {}, label, ...(note ? [el("br"), el("small", { text: note })] : [])), dd);
    }));
  }
}

// Entries to read, one below the other: what is said on one side, what is told about it on the other.
class Cards extends Plate {
  constructor(view) {
    super(view);
    this.list = el("div", { class: "cards" });
    this.body.append(this.list);
    this.snap.hidden = true; // to be read, not to be looked at
  }

  take(d) {
    super.take(d);
    const axis = d.axes[0], active = this.list.getRootNode().activeElement, at = [...this.list.querySelectorAll("button, a")].indexOf(active);
    const lists = [];
    this.items = d.cards.map((card, i) => {
      if (card.group || !lists.length) {
        if (card.group) lists.push(el("h4", { text: card.group }));
        lists.push(el("ul"));
      }
      const item = this.item(card, axis?.indices[i], axis);
      lists.at(-1).append(item);
      return item;
    });
    this.list.classList.toggle("rail", Boolean(d.rail));
    this.list.replaceChildren(...lists);
    if (at >= 0) this.list.querySelectorAll("button, a")[at]?.focus();
  }

  item(card, number, axis) {
    const picks = axis && this.view.data.picks.includes(axis.name), { badge } = card;
    const head = el(picks ? "button" : "strong", { class: "head", ...(card.lang ? { lang: card.lang } : {}), ...(picks ? { type: "button" } : {}) }, ...this.marked(card.head));
    if (picks) head.onclick = () => this.view.pick({ [axis.name]: number });
    const left = el("div", {},
      ...(card.over ? [el("small", { text: card.over })] : []), head,
      ...(card.under ?? []).map(({ text, lang }) => el("small", { class: "under", ...(lang ? { lang } : {}) }, ...this.marked(text))),
      ...(badge ? [el("span", { class: `badge ${badge.look ?? ""}` }, el("i", { "aria-hidden": "true", text: badge.sign }), badge.text)] : []));
    if (badge?.role) left.lastChild.style.setProperty("--role", `var(--${badge.role})`);
    const right = el("div", { class: card.pair ? "pair" : "" }, ...(card.parts ?? []).map(({ label, text, lang, soft }) =>
      el("p", { class: soft ? "soft" : "", ...(lang ? { lang } : {}) }, ...(label ? [el("b", {}, ...this.marked(label)), WIDE.test(label) ? "" : " "] : []), ...this.coded(text))));
    const more = el("p", { class: "more" });
    for (const { text, href } of card.links ?? []) more.append(href ? el("a", { href, target: "_blank", rel: "noopener noreferrer", text }) : el("span", { text }));
    if (card.door) more.append(this.door(card.door));
    return el("li", {}, left, el("div", {}, right, ...(more.childNodes.length ? [more] : [])));
  }

  // A link to another page of the house. Followed here it keeps the visit; in a new tab it keeps what the link holds.
  door({ page, text }) {
    const link = el("a", { class: "door", text: `${text} →` });
    const address = () => { link.href = new URL(`./${page}${location.search}`, document.baseURI).href; };
    address();
    link.onfocus = link.onpointerenter = address;
    link.onclick = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      this.view.report("go", { page, from: this.view.data.page, number: Date.now() });
    };
    return link;
  }

  // What stands between backticks is code.
  coded(text) { return text.split("`").flatMap((part, i) => (i % 2 ? el("code", {}, ...this.marked(part)) : this.marked(part))); }

  // The text, with what was looked for marked in it.
  marked(text) {
    const low = text.toLowerCase(), words = (this.d.find ?? []).filter((word) => word && low.length === text.length);
    const nodes = [];
    let from = 0;
    while (words.length) {
      const [at, word] = words.reduce((best, one) => { const i = low.indexOf(one, from); return i >= 0 && (best[0] < 0 || i < best[0]) ? [i, one] : best; }, [-1, ""]);
      if (at < 0) break;
      nodes.push(text.slice(from, at), el("mark", { text: text.slice(at, at + word.length) }));
      from = at + word.length;
    }
    return [...nodes, text.slice(from)];
  }

  draw() {
    const axis = this.d.axes[0];
    if (axis) this.items.forEach((item, i) => item.classList.toggle("chosen", this.view.picked?.[axis.name] === axis.indices[i]));
  }

  rows() {
    return [["group", "what", "mark", "text", "source"], ...this.d.cards.reduce(({ rows, group }, card) => {
      const now = card.group ?? group;
      rows.push([now, [card.over, card.head, ...(card.under ?? []).map(({ text }) => text)].filter(Boolean).join(" "), card.badge?.text ?? "", (card.parts ?? []).map(({ label, text }) => [label, text].filter(Boolean).join(" ")).join(" | "), (card.links ?? []).map(({ text }) => text).join(" | ")]);
      return { rows, group: now };
    }, { rows: [], group: "" }).rows];
  }
}

// The patients: one chip a token, the followed one filled.
class Tokens extends Plate {
  constructor(view) {
    super(view);
    this.list = el("div", { class: "chips", role: "radiogroup" });
    this.body.append(this.list);
    this.list.onkeydown = (event) => {
      const axis = this.d.axes[0], last = this.d.tokens.length - 1, here = index(axis, this.view.picked[axis.name]) ?? 0;
      const to = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = (to + last + 1) % (last + 1);
      this.view.pick({ [axis.name]: next + (axis.offset ?? 0) });
      this.list.children[next].focus();
    };
  }

  take(d) {
    super.take(d);
    this.list.setAttribute("aria-label", d.title ?? d.alt);
    const axis = d.axes[0], offset = axis.offset ?? 0;
    renew(this.list, d.tokens.map(({ text, partial, special }, i) => {
      const chip = el("button", { type: "button", role: "radio", dir: partial ? "ltr" : "auto", class: "chip", title: this.view.nameOf(d.axes[0], i) });
      chip.classList.toggle("door", special);
      chip.classList.toggle("partial", partial);
      if (text.startsWith("␣") && text.length > 1) chip.append(el("span", { class: "gap", text: "␣" }), text.slice(1));
      else chip.textContent = text;
      chip.onclick = () => this.view.pick({ [axis.name]: i + offset });
      chip.onpointerenter = () => this.view.point({ [this.lights()]: i + offset });
      chip.onpointerleave = () => this.view.point(null);
      return chip;
    }));
  }

  draw() {
    const axis = this.d.axes[0], here = index(axis, this.view.picked?.[axis.name]), hot = this.view.hover[this.lights()];
    const fixed = !this.view.data.picks.includes(axis.name); // nothing can be chosen, whoever fixed it
    [...this.list.children].forEach((chip, i) => {
      chip.setAttribute("aria-checked", i === here);
      chip.tabIndex = i === here ? 0 : -1;
      chip.disabled = fixed;
      chip.dataset.here = hot === i + (axis.offset ?? 0);
    });
  }

  // The second patient of a comparison is one of the patients too.
  lights() { return this.d.axes[0].name === "other" ? "token" : this.d.axes[0].name; }
}

// A floor, a head, a rank: one number to step through.
class Stepper extends Plate {
  constructor(view) {
    super(view);
    this.down = el("button", { class: "push", type: "button", text: "−", onclick: () => this.by(-1) });
    this.more = el("button", { class: "push", type: "button", text: "+", onclick: () => this.by(1) });
    this.slide = el("input", { type: "range" });
    this.slide.oninput = () => this.pick(Number(this.slide.value));
    this.out = el("output");
    this.body.append(el("div", { class: "stepper" }, this.out, this.down, this.slide, this.more));
  }

  by(step) {
    const axis = this.d.axes[0];
    this.pick(clamp(Number(this.slide.value) + step, this.d.low ?? 0, axis.count - 1));
  }

  pick(at) { this.view.pick({ [this.d.axes[0].name]: at + (this.d.axes[0].offset ?? 0) }); }

  draw() {
    const axis = this.d.axes[0], here = index(axis, this.view.picked?.[axis.name]) ?? 0;
    this.slide.min = this.d.low ?? 0;
    this.slide.max = axis.count - 1;
    this.slide.value = here;
    this.slide.style.setProperty("--at", `${(100 * (here - this.slide.min)) / Math.max(this.slide.max - this.slide.min, 1)}%`);
    this.out.textContent = this.view.nameOf(axis, here);
    this.slide.setAttribute("aria-label", this.d.title ?? this.d.alt);
    this.slide.setAttribute("aria-valuetext", this.out.textContent);
    this.down.setAttribute("aria-label", this.view.say("less", { what: this.d.title ?? this.d.alt }));
    this.more.setAttribute("aria-label", this.view.say("more", { what: this.d.title ?? this.d.alt }));
    const fixed = !this.view.data.picks.includes(axis.name);
    this.slide.disabled = fixed;
    this.down.disabled = fixed || here <= (this.d.low ?? 0);
    this.more.disabled = fixed || here >= axis.count - 1;
  }
}

const KINDS = { bars: Bars, grid: Grid, grids: Grids, lines: Lines, squares: Squares, rank: Rank, facts: Facts, table: Table, cards: Cards, tokens: Tokens, stepper: Stepper };

export const render = base.rendering(View, "../plates/plates.css");
