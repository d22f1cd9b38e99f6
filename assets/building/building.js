// The building: one canvas, the patients above it, the floor beside it. Drawn from one trace; see pages/kit/building.py.
// `render` is called again on every change of data or theme; a View keeps its nodes. User text only as textContent.

const base = await import(new URL("../kit/base.js" + new URL(import.meta.url).search, import.meta.url).href);
const { el, bytes, wide, clamp, fill } = base;

const FLOORS_A_SECOND = 7;
const STEADY = matchMedia("(prefers-reduced-motion: reduce)");

// -- the view --------------------------------------------------------------------------------------------------------

class View {
  constructor(host) {
    this.host = host;
    this.number = 0; // of the last choice made here
    this.hover = null; // {floor, room}
    this.walk = null; // {floor: fractional, running}
    this.walked = false;
    this.speed = 1;
    this.build();
    this.resize = new ResizeObserver(() => this.draw(true));
    this.resize.observe(this.stage);
  }

  stop() {
    this.walk = null;
    cancelAnimationFrame(this.frame);
    clearTimeout(this.later);
  }

  build() {
    const h = this.host;
    h.replaceChildren(
      el("section", { class: "queue" },
        el("div", { class: "queue-head" },
          (this.queueTitle = el("h3", { id: "patients" })), (this.queueHint = el("span", { class: "soft" }))),
        (this.chips = el("div", { class: "chips", role: "radiogroup", "aria-labelledby": "patients" }))),
      el("div", { class: "ground" },
        el("section", { class: "house" },
          el("div", { class: "house-head" }, (this.title = el("h2")), (this.caption = el("p", { class: "soft" }))),
          (this.stage = el("div", { class: "stage", tabindex: "0", role: "slider", "aria-orientation": "vertical" },
            (this.canvas = el("canvas", { "aria-hidden": "true" })),
            (this.tip = el("div", { class: "tip", hidden: "" })))),
          el("div", { class: "bar" },
            (this.go = el("button", { class: "push go", type: "button" })),
            el("label", { class: "speed" }, (this.speedLabel = el("span", { class: "soft" })),
              (this.speedBox = el("select", {}, ...[0.5, 1, 2, 4].map((v) => el("option", { value: v, text: `×${v}` }))))),
            (this.legend = el("ul", { class: "legend" }))),
          (this.keys = el("p", { class: "soft keys" })),
          (this.spoken = el("p", { class: "hidden", "aria-live": "polite" }))),
        el("aside", { class: "side" },
          (this.tiles = el("dl", { class: "tiles" })),
          (this.next = el("section", { class: "card" })),
          (this.panel = el("section", { class: "card floor" })))), // last: its height differs from floor to floor
    );
    this.speedBox.value = "1";
    this.speedBox.onchange = () => { this.speed = Number(this.speedBox.value); };
    this.go.onclick = () => this.toggleWalk();
    this.chips.onkeydown = (event) => this.chipKey(event);
    this.stage.onkeydown = (event) => this.floorKey(event);
    this.stage.onblur = () => { this.hover = null; this.draw(); };
    this.canvas.onpointermove = (event) => { if (event.pointerType !== "touch") this.point(event); };
    this.canvas.onpointerleave = () => { this.hover = null; this.draw(); };
    this.canvas.onclick = (event) => {
      this.point(event);
      const floor = this.floorAt(event);
      if (floor) { this.pause(); this.choose(this.token, floor); }
    };
    // The panel's buttons stay, so that the keyboard does not lose its place.
    this.up = el("button", { class: "push", type: "button", text: "▲", onclick: () => this.step(1) });
    this.down = el("button", { class: "push", type: "button", text: "▼", onclick: () => this.step(-1) });
    this.panelTitle = el("h3");
    this.panelBody = el("div");
    this.panel.append(el("div", { class: "floor-head" }, this.panelTitle, this.down, this.up), this.panelBody);
  }

  say(key, values = {}) {
    return fill(this.data.words[key] ?? key, values);
  }

  count(value) { return new Intl.NumberFormat(this.data.lang).format(value); }

  fixed(value, digits) {
    return value == null || Number.isNaN(value) ? "…" : value.toFixed(digits).replace("-", "−");
  }

  // -- new data

  update(data) {
    const fresh = !this.data || this.data.id !== data.id;
    const relabel = fresh || this.data.lang !== data.lang;
    const first = !this.data;
    this.data = data;
    if (fresh) {
      this.stop();
      this.chosen = data.wide ? wide(bytes(data.chosen)) : bytes(data.chosen);
      this.weights = bytes(data.weights);
      this.kept = bytes(data.kept);
    }
    if (this.detail?.from !== data.detail) {
      const d = data.detail;
      this.detail = { from: d, token: d.token, scores: wide(bytes(d.scores)), bias: wide(bytes(d.bias)) };
    }
    if (first) this.number = data.heard;
    if (fresh || data.heard >= this.number) {
      // What the server says counts, unless something was chosen here since.
      this.token = data.token;
      if (fresh || first || data.heard > this.accepted) this.floor = data.floor;
      this.accepted = data.heard;
    }
    if (relabel) this.label();
    this.showToken();
    this.draw(true);
  }

  // -- reading the trace

  get layers() { return this.data.shape.floors - this.data.shape.dense; }

  layerOf(floor) { return floor - 1 - this.data.shape.dense; } // below 0: a triage desk

  roomsOn(floor, token = this.token) {
    const m = this.layerOf(floor), k = this.data.shape.chosen;
    if (m < 0 || m >= this.layers) return [];
    const at = (token * this.layers + m) * k;
    const exact = this.detail.token === token ? this.data.detail.weights[m] : null;
    return Array.from({ length: k }, (_, i) => ({
      room: this.chosen[at + i],
      light: this.weights[at + i] / 255,
      weight: exact ? exact[i] : null,
    }));
  }

  isOpen(floor, corridor, token = this.token) {
    const size = (this.data.shape.corridors + 7) >> 3;
    const at = (token * this.layers + this.layerOf(floor)) * size;
    return Boolean(this.kept[at + (corridor >> 3)] & (1 << (corridor & 7)));
  }

  scoreOf(floor, room) {
    if (this.detail.token !== this.token) return {};
    const at = this.layerOf(floor) * this.data.shape.rooms + room;
    const [low, high] = this.data.detail.bias_range;
    return { score: this.detail.scores[at] / 65535, bias: low + (this.detail.bias[at] / 65535) * (high - low || 0) };
  }

  corridorOf(room) { return Math.floor(room / (this.data.shape.rooms / this.data.shape.corridors)); }

  letter(corridor) { return this.data.shape.corridors <= 26 ? String.fromCharCode(65 + corridor) : String(corridor + 1); }

  nameOf(token) {
    const piece = this.data.tokens[token];
    return piece.special ? this.say(token === 0 ? "door" : "end") : piece.text;
  }

  inProse(token) { return this.nameOf(token).replace(/^␣(?=.)/, ""); }

  // -- words and numbers

  label() {
    const { shape, counts, tokens } = this.data;
    this.queueTitle.textContent = this.say("patients");
    this.queueHint.textContent = this.say("patients_hint");
    this.keys.textContent = this.say("keys");
    this.speedLabel.textContent = this.say("speed");
    this.up.setAttribute("aria-label", this.say("floor_up"));
    this.down.setAttribute("aria-label", this.say("floor_down"));
    this.stage.setAttribute("aria-label", this.say("canvas"));
    this.stage.setAttribute("aria-valuemin", 1);
    this.stage.setAttribute("aria-valuemax", shape.floors);
    this.caption.textContent = this.say(shape.nurses === 1 ? "caption" : "caption_many_nurses", {
      ...shape, departments: this.layers });
    this.legend.replaceChildren(...["patient", "desk", "nurse", "intern", "open", "closed"].map((role) =>
      el("li", {}, el("span", { class: `mark ${role}` }), this.say(`legend_${role}`))));
    this.chips.replaceChildren(...tokens.map((piece, i) => {
      const chip = el("button", { type: "button", role: "radio", dir: piece.partial ? "ltr" : "auto", class: "chip",
        title: piece.special ? this.say("door_hint")
          : this.say(piece.partial ? "partial_hint" : "token_hint", { position: i, token: piece.text }) });
      chip.classList.toggle("door", piece.special);
      chip.classList.toggle("partial", piece.partial);
      const text = this.nameOf(i);
      if (text.startsWith("␣") && text.length > 1) {
        chip.append(el("span", { class: "gap", text: "␣" }), text.slice(1));
      } else chip.textContent = text;
      chip.onclick = () => this.choose(i, this.floor);
      return chip;
    }));
    const share = new Intl.NumberFormat(this.data.lang, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
    this.tiles.replaceChildren(
      this.tile("per_token", this.count(counts.per_token), { chosen: shape.chosen, nurses: shape.nurses, departments: this.layers }),
      this.tile("touched", this.count(counts.touched), { experts: this.count(counts.experts) }),
      this.tile("weights", share.format(counts.weights_touched / counts.weights_total), {
        touched: this.count(counts.weights_touched), total: this.count(counts.weights_total) }),
      this.tile("cache", this.count(counts.cached), { uncached: this.count(counts.uncached) }),
    );
  }

  tile(key, number, values) {
    return el("div", { class: "tile" },
      el("dt", {}, el("span", { class: "what hidden", text: this.say(`tile_${key}`) })),
      el("dd", {}, el("span", { class: "number", text: number }),
        el("span", { class: "what", "aria-hidden": "true", text: this.say(`tile_${key}`) }),
        el("p", { class: "note", text: this.say(`tile_${key}_note`, values) })));
  }

  showToken() {
    [...this.chips.children].forEach((chip, i) => {
      chip.setAttribute("aria-checked", String(i === this.token));
      chip.tabIndex = i === this.token ? 0 : -1;
    });
    const name = this.inProse(this.token);
    this.title.textContent = this.say("title", { perToken: this.count(this.data.counts.per_token), token: name });
    this.showNext(name);
    this.showFloor();
  }

  showNext(name) {
    const d = this.data.detail, current = d.token === this.token;
    this.next.classList.toggle("pending", !current);
    if (!current) return;
    const share = new Intl.NumberFormat(this.data.lang, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
    this.next.replaceChildren(
      el("h3", { text: this.say("next") }),
      el("p", { class: "soft", text: this.say("next_hint", { floors: this.data.shape.floors, token: name }) }),
      el("ol", { class: "next" }, ...d.next.map((guess) => {
        const bar = el("b");
        bar.style.width = `${100 * guess.probability}%`;
        return el("li", {},
          el("span", { class: "word", dir: "auto", text: guess.special ? this.say("end") : guess.text }),
          el("i", { "aria-hidden": "true" }, bar),
          el("span", { class: "share", text: share.format(guess.probability) }));
      })));
  }

  showFloor() {
    const { shape, detail } = this.data, floor = this.floor, m = this.layerOf(floor);
    this.up.disabled = floor >= shape.floors;
    this.down.disabled = floor <= 1;
    this.stage.setAttribute("aria-valuenow", floor);
    this.panelTitle.textContent = `${this.say("floor", { floor })} · ${this.say(m < 0 ? "desk" : "department")}`;
    if (m < 0) {
      this.panelBody.replaceChildren(el("p", { class: "soft", text: this.say("desk_text") }));
      this.stage.setAttribute("aria-valuetext", this.say("spoken_desk", { floor }));
      return;
    }
    const rooms = this.roomsOn(floor), known = detail.token === this.token;
    const heaviest = Math.max(...rooms.map((r) => r.light)) || 1;
    const table = el("table", { class: "rooms" },
      el("thead", {}, el("tr", {}, ...["room", "weight", "score", "bias"].map((k) => el("th", { scope: "col", text: this.say(`head_${k}`) })))),
      el("tbody", {}, ...rooms.map((r) => {
        const bar = el("b"), { score, bias } = this.scoreOf(floor, r.room);
        bar.style.width = `${(100 * r.light) / heaviest}%`;
        const row = el("tr", {},
          el("td", { text: this.say("room_short", { corridor: this.letter(this.corridorOf(r.room)), room: r.room }) }),
          el("td", { class: "weight" }, el("span", { class: "weigh" }, el("i", { "aria-hidden": "true" }, bar),
            el("span", { text: this.fixed(r.weight, 2) }))),
          el("td", { text: this.fixed(score, 2) }),
          el("td", { text: this.fixed(bias, 3) }));
        row.onpointerenter = () => { this.hover = { floor, room: r.room }; this.draw(); };
        row.onpointerleave = () => { this.hover = null; this.draw(); };
        row.dataset.room = r.room;
        return row;
      })));
    const total = rooms.reduce((sum, r) => sum + (r.weight ?? NaN), 0);
    this.panelBody.replaceChildren(
      ...(shape.nurses ? [el("p", { class: "nurse-line" }, el("span", { class: "mark nurse" }), this.say("nurse_on"))] : []),
      el("div", { class: known ? "" : "pending" }, table,
        el("p", { class: "soft", text: this.say("sum", { sum: this.fixed(total, 2) }) })),
      el("div", { class: "part" },
        el("h3", { text: this.say("corridors") }),
        el("p", { class: "soft", text: this.say("corridors_hint", { open: shape.open }) }),
        el("div", { class: "corridors", style: `--across: ${Math.min(8, shape.corridors)}` }, ...Array.from({ length: shape.corridors }, (_, g) => {
          const open = this.isOpen(floor, g);
          return el("div", { class: open ? "corridor open" : "corridor",
            title: this.say(open ? "legend_open" : "legend_closed") },
            this.letter(g), el("span", { text: known ? this.fixed(detail.corridors[m][g], 2) : "…" }),
            el("span", { class: "hidden", text: this.say(open ? "legend_open" : "legend_closed") }));
        }))));
    const list = rooms.map((r) => r.room).sort((a, b) => a - b).join(", ");
    this.stage.setAttribute("aria-valuetext", this.say("spoken_department", { floor, rooms: list }));
  }

  // -- choosing

  choose(token, floor) {
    if (token === this.token && floor === this.floor) return;
    const other = token !== this.token;
    this.token = token;
    this.floor = floor;
    this.number += 1;
    if (other) this.showToken(); else this.showFloor();
    this.draw(other);
    clearTimeout(this.later);
    this.later = setTimeout(() => this.tell(), other ? 0 : 250);
  }

  tell() {
    this.report("pick", { id: this.data.id, token: this.token, floor: this.floor, number: this.number });
  }

  step(by) {
    this.pause();
    this.choose(this.token, clamp(this.floor + by, 1, this.data.shape.floors));
  }

  chipKey(event) {
    const last = this.data.tokens.length - 1;
    const to = { ArrowRight: this.token + 1, ArrowDown: this.token + 1, ArrowLeft: this.token - 1,
      ArrowUp: this.token - 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.choose((to + last + 1) % (last + 1), this.floor);
    this.chips.children[this.token].focus();
  }

  floorKey(event) {
    const by = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity }[event.key];
    if (by !== undefined) {
      event.preventDefault();
      this.hover = null;
      this.step(by);
    } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      const rooms = this.roomsOn(this.floor).map((r) => r.room).sort((a, b) => a - b);
      if (!rooms.length) return;
      const here = this.hover?.floor === this.floor ? rooms.indexOf(this.hover.room) : -1;
      const way = event.key === "ArrowRight" ? 1 : -1;
      const at = here < 0 ? (way > 0 ? 0 : rooms.length - 1) : (here + way + rooms.length) % rooms.length;
      this.hover = { floor: this.floor, room: rooms[at] };
      this.draw();
      this.spoken.textContent = this.tipLines().join(". ");
    } else if (event.key === "Escape") {
      this.hover = null;
      this.draw();
    }
  }

  // -- the walk

  toggleWalk() {
    if (this.walk?.running) return this.pause();
    const top = this.data.shape.floors;
    this.walk = { floor: !this.walk || this.floor >= top ? 1 : this.floor, running: true };
    let before = performance.now();
    const frame = (now) => {
      if (!this.walk?.running) return;
      const steady = STEADY.matches;
      this.walk.floor += ((now - before) / 1000) * (steady ? 2 : FLOORS_A_SECOND) * this.speed;
      before = now;
      if (this.walk.floor >= top) {
        this.walk = null;
        this.walked = true; // from now on it is "again"
        this.moveTo(top);
        this.number += 1;
        this.tell();
        return this.draw();
      }
      this.moveTo(Math.floor(this.walk.floor));
      this.draw();
      this.frame = requestAnimationFrame(frame);
    };
    this.frame = requestAnimationFrame(frame);
    this.draw();
  }

  moveTo(floor) {
    if (floor === this.floor) return;
    this.floor = floor;
    this.showFloor();
  }

  pause() {
    if (!this.walk?.running) { this.walk = null; return; }
    this.walk = { floor: this.floor, running: false };
    cancelAnimationFrame(this.frame);
    this.number += 1;
    this.tell();
    this.draw();
  }

  // -- the picture

  layout() {
    const { floors, rooms, corridors } = this.data.shape;
    const width = this.stage.clientWidth, dpr = window.devicePixelRatio || 1;
    const narrow = width < 560;
    const px = (v) => Math.round(v * dpr);
    const labels = px(narrow ? 20 : 52), stairs = labels + px(narrow ? 9 : 13), nurse = stairs + px(narrow ? 11 : 15);
    const left = nurse + px(narrow ? 8 : 11), gap = px(narrow ? 2 : 4);
    const space = px(width) - left - px(2) - gap * (corridors - 1);
    // Whole pixels give an even row of windows; where that would leave much of the width empty, rooms are not whole.
    const whole = Math.floor(space / rooms), even = whole * rooms > 0.88 * space;
    const room = even ? whole : space / rooms;
    const pitch = px(clamp(Math.round((narrow ? 500 : 670) / floors), 7, 30));
    const top = px(28), size = rooms / corridors;
    return {
      dpr, px, narrow, labels, stairs, nurse, left, gap, room, even, pitch, top, size,
      wall: Math.max(1, Math.round(pitch * 0.18)),
      right: left + room * rooms + gap * (corridors - 1),
      bottom: top + floors * pitch, width: px(width), height: top + floors * pitch + px(14),
      x: (index) => Math.round(left + index * room) + Math.floor(index / size) * gap,
      y: (floor) => top + (floors - floor) * pitch,
    };
  }

  draw(again = false) {
    if (!this.data || !this.stage.clientWidth) return;
    const running = this.walk?.running;
    this.go.textContent = (running ? "❚❚ " : "▶ ")
      + this.say(running ? "pause" : this.walked && this.floor >= this.data.shape.floors && !this.walk ? "again" : "play");
    const g = this.layout();
    if (this.canvas.width !== g.width || this.canvas.height !== g.height) {
      this.canvas.width = g.width;
      this.canvas.height = g.height;
      this.canvas.style.height = `${g.height / g.dpr}px`;
      again = true;
    }
    this.g = g;
    const css = getComputedStyle(this.host);
    const colour = (name) => css.getPropertyValue(`--${name}`).trim();
    if (again || !this.walls) this.walls = this.drawWalls(g, colour);
    const c = this.canvas.getContext("2d");
    c.clearRect(0, 0, g.width, g.height);
    c.drawImage(this.walls, 0, 0);
    this.drawLights(c, g, colour);
    this.drawPatient(c, g, colour);
    this.drawTip(c, g, colour);
  }

  // What does not move: floors, corridors, dark windows, labels.
  drawWalls(g, colour) {
    const { floors, dense, corridors } = this.data.shape;
    const layer = el("canvas", { width: g.width, height: g.height }), c = layer.getContext("2d");
    const font = (size) => `${g.px(size)}px ${getComputedStyle(this.host).fontFamily}`;
    c.textBaseline = "middle";
    c.fillStyle = colour("soft");
    c.font = font(11.5);
    c.textAlign = "center";
    for (let i = 0; i < corridors; i++) {
      c.fillText(this.letter(i), (g.x(i * g.size) + g.x((i + 1) * g.size - 1) + g.room) / 2, g.top - g.px(13));
    }
    c.textAlign = "right";
    for (let f = 1; f <= floors; f++) {
      if (f === 1 || f === floors || (f % 10 === 0 && floors - f > 1 && f > dense + 1) || floors <= 12) {
        c.fillText(g.narrow ? String(f) : this.say("floor", { floor: f }), g.labels, g.y(f) + g.pitch / 2);
      }
    }
    const high = g.pitch - g.wall;
    for (let f = 1; f <= floors; f++) {
      const y = g.y(f);
      if (f <= dense) {
        c.fillStyle = colour("desk");
        c.fillRect(g.left, y, g.right - g.left, high);
        c.strokeStyle = colour("desk-edge");
        c.lineWidth = g.px(1);
        c.strokeRect(g.left + g.px(0.5), y + g.px(0.5), g.right - g.left - g.px(1), high - g.px(1));
        continue;
      }
      for (let i = 0; i < corridors; i++) {
        const open = this.isOpen(f, i), x = g.x(i * g.size);
        c.fillStyle = colour(open ? "open" : "closed");
        c.fillRect(x, y, Math.round(g.room * g.size), high);
        if (!open || !g.even || g.room < 3) continue;
        c.fillStyle = colour("window");
        for (let r = 0; r < g.size; r++) c.fillRect(x + r * g.room + g.wall, y + g.wall, g.room - g.wall, high - 2 * g.wall);
      }
    }
    c.fillStyle = colour("soft"); // the ground
    c.fillRect(g.stairs - g.px(6), g.bottom + g.px(3), g.right - g.stairs + g.px(6), Math.max(1, g.px(1)));
    return layer;
  }

  drawLights(c, g, colour) {
    const { floors, dense, nurses } = this.data.shape;
    const reached = this.walk ? this.walk.floor : floors;
    const high = g.pitch - g.wall, least = g.px(g.narrow ? 2.5 : 3);
    const width = Math.max(least, g.room);
    for (let f = dense + 1; f <= floors; f++) {
      const y = g.y(f), fade = STEADY.matches ? Number(f <= reached) : clamp(reached - f + 1, 0, 1);
      if (nurses) {
        c.globalAlpha = f <= reached ? 1 : 0.28;
        c.fillStyle = colour("nurse");
        c.beginPath();
        c.arc(g.nurse, y + high / 2, Math.min(high * 0.36, g.px(5)), 0, 7);
        c.fill();
      }
      if (!fade) continue;
      c.fillStyle = colour("intern");
      const called = this.roomsOn(f);
      const heaviest = Math.max(...called.map((r) => r.light)) || 1;  // a floor's weightiest opinion shines fully
      for (const { room, light } of called) {
        c.globalAlpha = fade * (0.34 + 0.66 * light / heaviest);
        c.fillRect(g.x(room) + (g.room - width) / 2, y, width, high);
      }
    }
    c.globalAlpha = 1;
  }

  drawPatient(c, g, colour) {
    const at = this.walk?.running && !STEADY.matches ? this.walk.floor : this.floor;
    const y = g.y(at) + (g.pitch - g.wall) / 2;
    c.strokeStyle = colour("soft"); // the chosen floor
    c.lineWidth = g.px(1);
    const line = g.y(this.floor);
    c.strokeRect(g.left - g.px(2.5), line - g.px(1.5), g.right - g.left + g.px(5), g.pitch - g.wall + g.px(3));
    c.strokeStyle = c.fillStyle = colour("patient");
    c.lineWidth = g.px(2.5);
    c.beginPath();
    c.moveTo(g.stairs, g.bottom + g.px(2));
    c.lineTo(g.stairs, y);
    c.stroke();
    c.beginPath();
    c.arc(g.stairs, y, g.px(5.5), 0, 7);
    c.fill();
    c.strokeStyle = colour("edge");
    c.lineWidth = g.px(1);
    c.stroke();
  }

  tipLines() {
    const { floor, room } = this.hover, dense = this.data.shape.dense;
    if (floor <= dense) return [this.say("spoken_desk", { floor })];
    const corridor = this.corridorOf(room), called = this.roomsOn(floor).find((r) => r.room === room);
    const open = this.isOpen(floor, corridor), { score, bias } = this.scoreOf(floor, room);
    return [
      this.say("tip_room", { floor, corridor: this.letter(corridor), room }),
      called ? this.say("tip_called", { weight: this.fixed(called.weight, 2) }) : this.say(open ? "tip_open" : "tip_closed"),
      this.say("tip_scores", { score: this.fixed(score, 2), bias: this.fixed(bias, 3) }),
    ];
  }

  drawTip(c, g, colour) {
    const h = this.hover;
    this.tip.hidden = !h;
    for (const row of this.panelBody.querySelectorAll("tr[data-room]")) {
      row.classList.toggle("here", Boolean(h && h.floor === this.floor && Number(row.dataset.room) === h.room));
    }
    if (!h) return;
    const high = g.pitch - g.wall, y = g.y(h.floor);
    let x = (g.left + g.right) / 2;
    if (h.floor > this.data.shape.dense) {
      x = g.x(h.room) + g.room / 2;
      const w = Math.max(g.room, g.px(4));
      c.strokeStyle = colour("ink");
      c.lineWidth = g.px(1.5);
      c.strokeRect(x - w / 2 - g.px(1.5), y - g.px(1.5), w + g.px(3), high + g.px(3));
    }
    this.tip.replaceChildren(...this.tipLines().map((text) => el("p", { text })));
    const box = this.tip.getBoundingClientRect(), width = this.stage.clientWidth;
    const above = y / g.dpr - box.height - 8;
    this.tip.style.left = `${clamp(x / g.dpr - box.width / 2, 0, width - box.width)}px`;
    this.tip.style.top = `${above > 0 ? above : (y + g.pitch) / g.dpr + 8}px`;
  }

  floorAt(event) {
    const g = this.g, { floors } = this.data.shape;
    const y = (event.clientY - this.canvas.getBoundingClientRect().top) * g.dpr;
    const floor = floors - Math.floor((y - g.top) / g.pitch);
    return floor >= 1 && floor <= floors ? floor : null;
  }

  point(event) {
    const g = this.g, floor = this.floorAt(event), { rooms, dense } = this.data.shape;
    const x = (event.clientX - this.canvas.getBoundingClientRect().left) * g.dpr;
    this.hover = null;
    if (floor && x >= g.left && x <= g.right) {
      let room = 0;
      while (room < rooms - 1 && g.x(room + 1) <= x) room += 1;
      if (floor > dense) { // a lit room within reach of the pointer is meant
        const near = this.roomsOn(floor).map((r) => [Math.abs(g.x(r.room) + g.room / 2 - x), r.room]).sort((a, b) => a[0] - b[0])[0];
        if (near && near[0] < g.px(3)) room = near[1];
      }
      this.hover = { floor, room };
    }
    this.draw();
  }
}

export const render = base.rendering(View, "../building/building.css");
