// The building: the patients, the house they walk up, one floor of it under glass, and what is known about them. Drawn
// from one trace; see pages/kit/building.py. `render` is called again on every change of data or theme; a View keeps its
// nodes. User text only as textContent.
//
// The house is three canvases on each other, so that a frame of the walk draws only what changed: walls (once a token),
// lights (the floor that is being reached), and people (stairs, the chosen floor, the room under the pointer).

const base = await import(new URL("../kit/base.js" + new URL(import.meta.url).search, import.meta.url).href);
const { el, bytes, wide, clamp, fill, download, letter, share } = base;
const picture = () => import(new URL("../kit/picture.js" + new URL(import.meta.url).search, import.meta.url).href); // when it is asked for

const FLOORS_A_SECOND = 7, FLOORS_A_SECOND_STEADY = 2;
const A_GLANCE = 110; // ms
const ABOVE = 0.14; // how bright the floors are that the patients have not reached
const STEADY = matchMedia("(prefers-reduced-motion: reduce)");

// -- the view --------------------------------------------------------------------------------------------------------

class View {
  constructor(host) {
    this.host = host;
    this.number = 0; // of the last choice made here
    this.hover = null; // {floor, room, glass: whether it is pointed at in the strip}
    this.walk = null; // the height of a walk that is under way, in floors
    this.walked = false;
    this.speed = 1;
    this.build();
    this.resize = new ResizeObserver(() => { if (this.stage.clientWidth !== this.width) this.draw(true); });
    this.resize.observe(this.stage);
  }

  redraw() { this.draw(true); }

  stop() {
    this.walk = null;
    cancelAnimationFrame(this.frame);
    clearTimeout(this.later);
  }

  build() {
    const layer = (name) => (this[name] = el("canvas", { "aria-hidden": "true", class: name }));
    this.host.replaceChildren(
      el("section", { class: "queue" },
        el("div", { class: "queue-head" },
          (this.queueTitle = el("h2", { id: "patients" })), (this.queueHint = el("span", { class: "soft" }))),
        (this.chips = el("div", { class: "chips", role: "radiogroup", "aria-labelledby": "patients" }))),
      el("div", { class: "ground" },
        el("section", { class: "house" },
          el("header", {}, (this.title = el("h2")), el("div", { class: "take" }, (this.snap = el("button", { type: "button" })))),
          (this.bar = el("div", { class: "bar" },
            (this.go = el("button", { class: "push go", type: "button" })),
            el("div", { class: "scrub" },
              (this.down = el("button", { class: "push", type: "button", text: "−" })),
              (this.slide = el("input", { type: "range", min: 1, step: 1 })),
              (this.up = el("button", { class: "push", type: "button", text: "+" })),
              (this.place = el("output"))),
            (this.who = el("div", { class: "segments", role: "radiogroup" }, ...["one", "all"].map((value) =>
              el("button", { type: "button", role: "radio", "data-follow": value })))),
            el("label", { class: "speed" }, (this.speedLabel = el("span", { class: "soft" })),
              (this.speedBox = el("select", {}, ...[0.5, 1, 2, 4].map((v) => el("option", { value: v, text: `×${v}` }))))))),
          (this.stage = el("div", { class: "stage", tabindex: "0", role: "application", "aria-describedby": "keys" },
            layer("walls"), layer("lights"), layer("people"), (this.tip = el("div", { class: "tip", hidden: "" })))),
          el("div", { class: "glass-head" }, (this.glassTitle = el("h3")), (this.glassHint = el("p", { class: "soft" }))),
          (this.glass = el("div", { class: "stage glass" },
            layer("strip"), layer("pane"), (this.glassTip = el("div", { class: "tip", hidden: "" })))),
          (this.legend = el("ul", { class: "legend" })),
          (this.caption = el("p", { class: "caption" })),
          (this.keys = el("p", { class: "soft keys", id: "keys" })),
          (this.spoken = el("p", { class: "hidden", "aria-live": "polite" }))),
        el("aside", { class: "side" },
          (this.tiles = el("dl", { class: "tiles" })),
          (this.next = el("section", { class: "card" })),
          (this.panel = el("section", { class: "card floor" })))), // last: its height differs from floor to floor
    );
    this.speedBox.value = "1";
    this.speedBox.onchange = () => { this.speed = Number(this.speedBox.value); };
    this.go.onclick = () => this.toggleWalk();
    this.up.onclick = () => this.step(1);
    this.down.onclick = () => this.step(-1);
    this.snap.onclick = () => this.toPicture();
    this.slide.oninput = () => this.stand(Number(this.slide.value));
    this.who.onclick = (event) => this.choose({ follow: event.target.dataset.follow ?? this.follow });
    this.who.onkeydown = (event) => {
      if (!event.key.startsWith("Arrow")) return;
      event.preventDefault();
      this.choose({ follow: this.all ? "one" : "all" });
      this.who.querySelector("[aria-checked=true]").focus();
    };
    this.chips.onkeydown = (event) => this.chipKey(event);
    this.stage.onkeydown = (event) => this.stageKey(event);
    this.stage.onblur = () => this.point(null);
    for (const [canvas, at] of [[this.people, (e) => this.placeAt(e)], [this.pane, (e) => this.roomAt(e)]]) {
      canvas.onpointermove = (event) => { if (event.pointerType !== "touch") this.point(at(event)); };
      canvas.onpointerleave = (event) => { if (event.pointerType !== "touch") this.point(null); };
      canvas.onpointerdown = (event) => { this.pointer = event.pointerType; };
      canvas.onclick = (event) => this.click(at(event), (event.pointerType || this.pointer) === "touch"); // older browsers' clicks do not say
    }
    // The panel's parts stay and only their words change, so that a walk costs little.
    this.panelTitle = el("h3");
    this.deskText = el("p", { class: "soft" });
    this.nurseLine = el("p", { class: "nurse-line" }, el("span", { class: "mark nurse" }), (this.nurseText = el("span")));
    this.roomHead = el("tr");
    this.roomBody = el("tbody");
    this.roomSum = el("p", { class: "soft" });
    this.roomPart = el("div", {}, el("table", { class: "rooms" }, el("thead", {}, this.roomHead), this.roomBody), this.roomSum);
    this.corridorHead = el("h3");
    this.corridorHint = el("p", { class: "soft" });
    this.corridorRow = el("div", { class: "corridors" });
    this.corridorPart = el("div", { class: "part" }, this.corridorHead, this.corridorHint, this.corridorRow);
    this.panel.append(this.panelTitle, this.deskText, this.nurseLine, this.roomPart, this.corridorPart);
  }

  say(key, values = {}) {
    return fill(this.data.words[key] ?? key, values);
  }

  count(value) { return this.counts.format(value); }

  percent(value) { return share(value, this.data.lang); }

  fixed(value, digits) {
    return value == null || Number.isNaN(value) ? "…" : value.toFixed(digits).replace("-", "−");
  }

  get all() { return this.follow === "all"; }

  // -- new data

  update(data) {
    const fresh = !this.data || this.data.id !== data.id;
    const relabel = fresh || this.data.lang !== data.lang || this.data.counts.touched !== data.counts.touched;
    this.data = data;
    if (relabel) {
      this.counts = new Intl.NumberFormat(data.lang);
    }
    if (fresh) {
      this.stop();
      this.hover = null;
      this.chosen = data.wide ? wide(bytes(data.chosen)) : bytes(data.chosen);
      this.weights = bytes(data.weights);
      this.kept = bytes(data.kept);
      this.meet();
    }
    if (this.detail?.from !== data.detail) {
      const d = data.detail;
      this.detail = { from: d, token: d.token, scores: wide(bytes(d.scores)), bias: wide(bytes(d.bias)) };
    }
    if (fresh) this.number = data.heard; // what was chosen in another picture is of no account any more
    if (fresh || data.heard >= this.number) {
      // What the server says counts, unless something was chosen here since. Where people stand is said again only when
      // it did not come from here: see `mount` in building.py.
      this.token = data.token;
      if (this.placed !== data.placed) {
        this.stop();
        [this.floor, this.follow] = [data.floor, data.follow];
      }
      this.placed = data.placed;
    }
    if (relabel) this.label();
    this.keep(data.fixed ?? [], data.gone ?? []);
    this.showToken();
    this.draw(true);
  }

  // Controls of what a teacher's link fixed are at rest; those of what it left out are not there.
  keep(fixed, gone) {
    for (const control of [this.go, this.slide]) control.disabled = fixed.includes("floor");
    for (const chip of this.chips.children) chip.disabled = fixed.includes("token");
    for (const button of this.who.children) button.disabled = fixed.includes("follow");
    this.chips.closest(".queue").hidden = gone.includes("token");
    this.who.hidden = gone.includes("follow");
    this.slide.closest(".scrub").hidden = this.go.hidden = this.speedBox.closest("label").hidden = gone.includes("floor");
  }

  // How many patients meet in every room, and find every corridor open.
  meet() {
    const { rooms, chosen, corridors } = this.data.shape, patients = this.data.tokens.length;
    this.met = new Uint16Array(this.layers * rooms);
    this.opened = new Uint16Array(this.layers * corridors);
    for (let at = 0; at < this.chosen.length; at++) {
      this.met[(Math.floor(at / chosen) % this.layers) * rooms + this.chosen[at]] += 1;
    }
    for (let t = 0; t < patients; t++) for (let m = 0; m < this.layers; m++) for (let g = 0; g < corridors; g++) {
      this.opened[m * corridors + g] += Number(this.lets(m, g, t));
    }
    this.most = Math.max(1, ...this.met);
  }

  // -- reading the trace

  get layers() { return this.data.shape.floors - this.data.shape.dense; }

  layerOf(floor) { return floor - 1 - this.data.shape.dense; } // below 0: a triage desk

  // The rooms that are lit on a floor: the followed patient's, best first, or everybody's, most visited first.
  roomsOn(floor) {
    const m = this.layerOf(floor), { chosen: k, rooms } = this.data.shape;
    if (m < 0) return [];
    if (this.all) {
      const lit = [];
      for (let room = 0; room < rooms; room++) {
        const visits = this.met[m * rooms + room];
        if (visits) lit.push({ room, visits, light: Math.sqrt(visits / this.most) });
      }
      return lit.sort((a, b) => b.visits - a.visits);
    }
    const at = (this.token * this.layers + m) * k;
    const exact = this.detail.token === this.token ? this.data.detail.weights[m] : null;
    const lit = Array.from({ length: k }, (_, i) => ({
      room: this.chosen[at + i], weight: exact ? exact[i] : null, share: this.weights[at + i],
    }));
    const heaviest = Math.max(...lit.map((r) => r.share)) || 1; // a floor's weightiest opinion shines fully
    return lit.map((r) => ({ ...r, light: r.share / heaviest }));
  }

  lets(m, corridor, token) { // whether the corridor was open for this patient
    const size = (this.data.shape.corridors + 7) >> 3, at = (token * this.layers + m) * size;
    return Boolean(this.kept[at + (corridor >> 3)] & (1 << (corridor & 7)));
  }

  isOpen(floor, corridor) {
    const m = this.layerOf(floor);
    return this.all ? this.opened[m * this.data.shape.corridors + corridor] > 0 : this.lets(m, corridor, this.token);
  }

  scoreOf(floor, room) {
    if (this.detail.token !== this.token) return {};
    const at = this.layerOf(floor) * this.data.shape.rooms + room;
    const [low, high] = this.data.detail.bias_range;
    return { score: this.detail.scores[at] / 65535, bias: low + (this.detail.bias[at] / 65535) * (high - low || 0) };
  }

  corridorOf(room) { return Math.floor(room / (this.data.shape.rooms / this.data.shape.corridors)); }


  nameOf(token) {
    const piece = this.data.tokens[token];
    return piece.special ? this.say(token === 0 ? "door" : "end") : piece.text;
  }

  inProse(token) { return this.nameOf(token).replace(/^␣(?=.)/, ""); }

  visitors(floor, room) { // who goes to a room
    const m = this.layerOf(floor), k = this.data.shape.chosen;
    return this.data.tokens.map((_, t) => t).filter((t) => {
      const at = (t * this.layers + m) * k;
      return this.chosen.subarray(at, at + k).includes(room);
    });
  }

  // -- words and numbers

  label() {
    const { shape, tokens } = this.data;
    this.queueTitle.textContent = this.say("patients");
    this.queueHint.textContent = this.say("patients_hint");
    this.keys.textContent = this.say("keys");
    this.speedLabel.textContent = this.say("speed");
    this.up.setAttribute("aria-label", this.say("floor_up"));
    this.down.setAttribute("aria-label", this.say("floor_down"));
    this.slide.setAttribute("aria-label", this.say("slider"));
    this.snap.textContent = this.say("png");
    this.snap.setAttribute("aria-label", this.say("png_of"));
    this.slide.max = shape.floors;
    this.stage.setAttribute("aria-label", this.say("canvas"));
    this.who.setAttribute("aria-label", this.say("follow"));
    for (const button of this.who.children) button.textContent = this.say(`follow_${button.dataset.follow}`);
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
      chip.onclick = () => this.choose({ token: i, follow: "one" });
      return chip;
    }));
    this.nurseText.textContent = this.say("nurse_on");
    this.deskText.textContent = this.say("desk_text");
    this.corridorHead.textContent = this.say("corridors");
    this.corridorRow.style.setProperty("--across", Math.min(8, shape.corridors));
    this.corridorRow.replaceChildren(...Array.from({ length: shape.corridors }, (_, g) =>
      el("div", {}, letter(g), el("span"), el("span", { class: "hidden" }))));
    this.showTiles();
  }

  showTiles() {
    const { shape, counts } = this.data, known = counts.touched != null;
    this.tiles.replaceChildren(
      this.tile("per_token", this.count(counts.per_token), "tile_per_token_note",
        { chosen: shape.chosen, nurses: shape.nurses, departments: this.layers }),
      this.tile("touched", known ? this.count(counts.touched) : "?", known ? "tile_touched_note" : "tile_touched_hidden",
        { experts: this.count(counts.experts), share: known ? this.percent(counts.weights_touched / counts.weights_total) : "" }),
      this.tile("cache", this.count(counts.cached), "tile_cache_note", { uncached: this.count(counts.uncached) }),
    );
  }

  tile(key, number, note, values) {
    return el("div", { class: `tile ${key}` },
      el("dt", {}, el("span", { class: "what hidden", text: this.say(`tile_${key}`) })),
      el("dd", {}, el("span", { class: "number", text: number }),
        el("span", { class: "what", "aria-hidden": "true", text: this.say(`tile_${key}`) }),
        el("p", { class: "note", text: this.say(note, values) })));
  }

  // After another token, or another way to follow.
  showToken() {
    const { shape, tokens, counts } = this.data, name = this.inProse(this.token);
    this.chips.classList.toggle("everybody", this.all);
    [...this.chips.children].forEach((chip, i) => {
      chip.setAttribute("aria-checked", String(i === this.token));
      chip.tabIndex = i === this.token ? 0 : -1;
    });
    const here = this.chips.children[this.token], rest = here.offsetTop - this.chips.offsetTop;
    if (rest < this.chips.scrollTop || rest + here.offsetHeight > this.chips.scrollTop + this.chips.clientHeight) this.chips.scrollTop = rest;
    for (const button of this.who.children) {
      const on = button.dataset.follow === this.follow;
      button.setAttribute("aria-checked", String(on));
      button.tabIndex = on ? 0 : -1;
    }
    const values = { ...shape, departments: this.layers, token: name, patients: this.count(tokens.length), perToken: this.count(counts.per_token) };
    this.title.textContent = this.say(this.all ? "title_all" : "title", values);
    this.caption.textContent = this.say(this.all ? "caption_all" : shape.nurses === 1 ? "caption" : "caption_many_nurses", values);
    this.legend.replaceChildren(...["patient", "desk", "nurse", this.all ? "meeting" : "intern", "open", "closed"].map((role) =>
      el("li", {}, el("span", { class: `mark ${role === "meeting" ? "intern" : role}` }), this.say(`legend_${role}`))));
    const heads = this.all ? ["room", "visits"] : ["room", "weight", "score", "bias"];
    this.roomHead.replaceChildren(...heads.map((k) => el("th", { scope: "col", text: this.say(`head_${k}`) })));
    this.roomBody.replaceChildren(...Array.from({ length: shape.chosen }, () => {
      const row = el("tr", {}, el("td"), el("td", { class: "weight" },
        el("span", { class: "weigh" }, el("i", { "aria-hidden": "true" }, el("b")), el("span"))),
      ...(this.all ? [] : [el("td"), el("td")]));
      row.onpointerenter = () => this.point({ floor: this.floor, room: Number(row.dataset.room) });
      row.onpointerleave = () => this.point(null);
      row.onclick = () => this.visit(this.floor, Number(row.dataset.room));
      row.classList.add("link");
      return row;
    }));
    this.corridorHint.textContent = this.say(this.all ? "corridors_all" : "corridors_hint", values);
    this.showNext(name);
    this.showFloor();
  }

  showNext(name) {
    const d = this.data.detail, current = d.token === this.token;
    this.next.classList.toggle("pending", !current);
    if (!current) return;
    this.next.replaceChildren(
      el("h3", { text: this.say("next") }),
      el("p", { class: "soft", text: this.say("next_hint", { floors: this.data.shape.floors, token: name }) }),
      el("ol", { class: "next" }, ...d.next.map((guess) => {
        const bar = el("b");
        bar.style.width = `${100 * guess.probability}%`;
        return el("li", {},
          el("span", { class: "word", dir: "auto", text: guess.special ? this.say("end") : guess.text }),
          el("i", { "aria-hidden": "true" }, bar),
          el("span", { class: "share", text: this.percent(guess.probability) }));
      })));
  }

  // After another floor.
  showFloor() {
    const { shape, detail, tokens } = this.data, floor = this.floor, m = this.layerOf(floor), desk = m < 0;
    const rooms = this.roomsOn(floor), known = detail.token === this.token;
    this.showPlace();
    this.shown = floor;
    this.slide.setAttribute("aria-valuetext", this.spokenFloor(rooms));
    this.panelTitle.textContent = this.say("floor_is", { floor: this.say("floor", { floor }), what: this.say(desk ? "desk" : "department") });
    this.glassTitle.textContent = this.say("glass", { floor: this.say("floor", { floor }) });
    this.glassHint.textContent = this.say(desk ? "glass_desk" : this.all ? "glass_all" : "glass_one", { token: this.inProse(this.token) });
    this.deskText.hidden = !desk;
    this.nurseLine.hidden = desk || !shape.nurses;
    this.roomPart.hidden = this.corridorPart.hidden = desk;
    if (desk) return;
    this.roomPart.classList.toggle("pending", !this.all && !known);
    [...this.roomBody.children].forEach((row, i) => {
      const r = rooms[i], [name, weight, score, bias] = row.children;
      row.hidden = !r;
      if (!r) return;
      row.dataset.room = r.room;
      name.textContent = this.say("room_short", { corridor: letter(this.corridorOf(r.room)), room: r.room });
      weight.querySelector("b").style.width = `${100 * (this.all ? r.visits / tokens.length : r.light)}%`;
      weight.querySelector("span > span").textContent = this.all ? this.count(r.visits) : this.fixed(r.weight, 2);
      if (this.all) return;
      const found = this.scoreOf(floor, r.room);
      score.textContent = this.fixed(found.score, 2);
      bias.textContent = this.fixed(found.bias, 3);
    });
    this.roomSum.textContent = this.all
      ? this.say("sum_all", { rooms: rooms.length, of: shape.rooms, patients: this.count(tokens.length) })
      : this.say("sum", { sum: this.fixed(rooms.reduce((sum, r) => sum + (r.weight ?? NaN), 0), 2) });
    [...this.corridorRow.children].forEach((box, g) => {
      const open = this.isOpen(floor, g), state = this.say(open ? "legend_open" : "legend_closed");
      const [score, words] = box.children;
      box.className = open ? "corridor open" : "corridor";
      box.title = words.textContent = state;
      score.textContent = this.all ? this.count(this.opened[m * shape.corridors + g]) : known ? this.fixed(detail.corridors[m][g], 2) : "…";
    });
  }

  showPlace() {
    const top = this.data.shape.floors;
    this.up.disabled = this.held("floor") || this.floor >= top;
    this.down.disabled = this.held("floor") || this.floor <= 1;
    this.slide.value = this.floor;
    this.slide.style.setProperty("--at", `${(100 * (this.floor - 1)) / Math.max(1, top - 1)}%`);
    this.place.textContent = this.say("floor", { floor: this.floor });
  }

  spokenFloor(rooms) {
    const floor = this.floor;
    if (this.layerOf(floor) < 0) return this.say("spoken_desk", { floor });
    if (this.all) return this.say("spoken_all", { floor, rooms: rooms.length });
    return this.say("spoken_department", { floor, rooms: rooms.map((r) => r.room).sort((a, b) => a - b).join(", ") });
  }

  // -- choosing

  // What a teacher's link fixed stays as it is.
  choose({ token = this.token, floor = this.floor, follow = this.follow, room = null }) {
    if (this.held("token")) token = this.token;
    if (this.held("follow")) follow = this.follow;
    if (this.held("floor")) floor = this.floor;
    if (this.held("room")) room = null;
    const other = token !== this.token || follow !== this.follow;
    if (!other && floor === this.floor && room == null) return;
    [this.token, this.floor, this.follow] = [token, floor, follow];
    this.number += 1;
    if (other) { this.hover = null; this.showToken(); } else this.showFloor();
    this.draw(other);
    clearTimeout(this.later);
    this.later = setTimeout(() => this.tell(room), other || room != null ? 0 : 250);
  }

  tell(room = null) {
    clearTimeout(this.later);
    const { id } = this.data, { token, floor, follow, number } = this;
    this.report("pick", { id, token, floor, follow, number, room });
  }

  held(name) { return (this.data.fixed ?? []).includes(name); }

  visit(floor, room) { // through the door of a room: the page of its department opens
    if (this.held("floor") && floor !== this.floor) return;
    this.pause();
    this.choose({ floor, room });
  }

  stand(floor) {
    if (this.walk != null) this.stop();
    if (this.hover && this.hover.floor !== floor) this.hover = null; // what a finger looked at stays until it looks elsewhere
    this.choose({ floor });
    this.draw();
  }

  step(by) { this.stand(clamp(this.floor + by, 1, this.data.shape.floors)); }

  click(at, touch) {
    if (!at) return;
    const again = at.glass && this.hover?.room === at.room; // a finger cannot hover: it looks first, then goes
    const enters = at.room != null && this.layerOf(at.floor) >= 0 && (!touch || again);
    if (enters) return this.visit(at.floor, at.room);
    this.stand(at.floor);
    this.point({ ...at, touch });
  }

  chipKey(event) {
    const last = this.data.tokens.length - 1;
    const to = { ArrowRight: this.token + 1, ArrowDown: this.token + 1, ArrowLeft: this.token - 1,
      ArrowUp: this.token - 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.choose({ token: (to + last + 1) % (last + 1), follow: "one" });
    this.chips.children[this.token].focus();
  }

  stageKey(event) {
    const by = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity }[event.key];
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key], here = this.hover?.floor === this.floor ? this.hover.room : null;
    if (by === undefined && way === undefined && !["Enter", " ", "Escape"].includes(event.key)) return;
    event.preventDefault();
    if (by !== undefined) {
      this.point(null);
      this.step(by);
      this.spoken.textContent = this.slide.getAttribute("aria-valuetext");
    } else if (way !== undefined) {
      const rooms = this.roomsOn(this.floor).map((r) => r.room).sort((a, b) => a - b);
      if (!rooms.length) return;
      const at = rooms.indexOf(here);
      this.point({ floor: this.floor, room: rooms[at < 0 ? (way > 0 ? 0 : rooms.length - 1) : (at + way + rooms.length) % rooms.length] });
      this.spoken.textContent = this.tipLines().join(". ");
    } else if (event.key === " ") this.toggleWalk();
    else if (event.key === "Escape") this.point(null);
    else if (here != null && this.layerOf(this.floor) >= 0) this.visit(this.floor, here);
  }

  // -- the walk

  toggleWalk() {
    if (this.walk != null) return this.pause();
    if (this.held("floor")) return;
    if (this.hover?.touch) this.hover = null;
    const top = this.data.shape.floors;
    this.walk = this.floor >= top ? 1 : this.floor;
    let before = performance.now();
    const frame = (now) => {
      if (this.walk == null) return;
      this.walk += ((now - before) / 1000) * (STEADY.matches ? FLOORS_A_SECOND_STEADY : FLOORS_A_SECOND) * this.speed;
      before = now;
      if (this.walk >= top) {
        this.walked = true; // from now on it is "again"
        this.moveTo(top);
        return this.pause();
      }
      this.moveTo(Math.floor(this.walk));
      this.draw();
      this.frame = requestAnimationFrame(frame);
    };
    this.moveTo(Math.floor(this.walk));
    this.draw();
    this.frame = requestAnimationFrame(frame);
  }

  // Numbers that change faster than they can be read are left out on the way.
  moveTo(floor) {
    if (floor === this.floor) return;
    this.floor = floor;
    const now = performance.now();
    if (now - (this.told ?? 0) < A_GLANCE) return this.showPlace();
    this.told = now;
    this.showFloor();
  }

  pause() {
    if (this.walk == null) return;
    this.stop();
    this.showFloor();
    this.number += 1;
    this.tell();
    this.draw();
  }

  // -- the picture

  layout() {
    const { floors, rooms, corridors } = this.data.shape;
    const width = this.stage.clientWidth, dpr = this.fine || window.devicePixelRatio || 1;
    const narrow = width / this.unit < 560;
    const px = (v) => Math.round(v * dpr * this.unit);
    const labels = px(narrow ? 20 : 52), stairs = labels + px(narrow ? 4 : 9), shaft = px(narrow ? 22 : 44);
    const nurse = stairs + shaft + px(narrow ? 8 : 12), left = nurse + px(narrow ? 7 : 11), gap = px(narrow ? 2 : 4);
    const space = Math.round(width * dpr) - left - px(4) - gap * (corridors - 1); // px(4): the frame around the chosen floor
    // Whole pixels give an even row of windows; where that would leave much of the width empty, rooms are not whole.
    const whole = Math.floor(space / rooms), even = whole * rooms > 0.88 * space;
    const room = even ? whole : space / rooms;
    // On a projector the whole house is seen at once, with what works it above.
    const pitch = this.host.hasAttribute("data-projector") ? Math.max(px(4), Math.floor((0.56 * window.innerHeight * dpr) / floors))
      : px(clamp(Math.round((narrow ? 490 : 550) / floors), 7, 30));
    const top = px(22), size = rooms / corridors;
    return {
      dpr, px, narrow, labels, stairs, shaft, nurse, left, gap, room, even, pitch, top, size,
      wall: Math.max(1, Math.round(pitch * 0.18)), high: pitch - Math.max(1, Math.round(pitch * 0.18)),
      right: left + room * rooms + gap * (corridors - 1),
      bottom: top + floors * pitch, width: Math.round(width * dpr), height: top + floors * pitch + px(8),
      x: (index) => Math.round(left + index * room) + Math.floor(index / size) * gap,
      y: (floor) => top + (floors - floor) * pitch,
    };
  }

  // `again`: what does not move must be drawn again too.
  draw(again = false) {
    if (!this.data || !this.stage.clientWidth) return;
    const top = this.data.shape.floors, walking = this.walk != null;
    const label = (walking ? "❚❚ " : "▶ ")
      + this.say(walking ? "pause" : this.floor < top && this.floor > 1 ? "on" : this.walked ? "again" : "play");
    if (this.go.textContent !== label) this.go.textContent = label;
    if (again || !this.g) {
      this.width = this.stage.clientWidth;
      this.g = this.layout();
      const css = getComputedStyle(this.host), known = new Map();
      this.colour = (name) => known.get(name) ?? known.set(name, css.getPropertyValue(`--${name}`).trim()).get(name);
      this.font = (size, weight = 400) => `${weight} ${this.g.px(size)}px ${css.fontFamily}`;
      for (const name of ["walls", "lights", "people"]) this.fit(this[name], this.g.height);
      for (const name of ["strip", "pane"]) this.fit(this[name], this.g.px(this.g.narrow ? 126 : 138));
      this.drawWalls(this.walls.getContext("2d"), this.g);
      this.lit = [];
      this.soiled = [];
      this.glassOf = null;
    }
    this.drawLights(this.lights.getContext("2d"), this.g);
    this.drawPeople(this.people.getContext("2d"), this.g);
    if (this.glassOf !== this.shown) this.drawGlass(this.strip.getContext("2d"), this.g);
    this.drawTip(this.g);
  }

  fit(canvas, height) {
    canvas.width = this.g.width; // which also clears it
    canvas.height = height;
    canvas.style.height = `${height / this.g.dpr}px`;
  }

  // Floors, corridors, dark windows, labels.
  drawWalls(c, g) {
    const { floors, dense } = this.data.shape;
    c.textBaseline = "middle";
    this.drawLetters(c, g, g.top - g.px(11));
    c.textAlign = "right";
    for (let f = 1; f <= floors; f++) {
      c.fillStyle = this.colour("soft");
      if (f === 1 || f === floors || (f % 10 === 0 && floors - f > 1 && f > dense + 1) || floors <= 12) {
        c.fillText(g.narrow ? String(f) : this.say("floor", { floor: f }), g.labels, g.y(f) + g.pitch / 2);
      }
      if (f <= dense) this.drawDesk(c, g, g.y(f), g.high);
      else this.drawCorridors(c, g, f, g.y(f), g.high, true);
    }
    c.fillStyle = this.colour("closed"); // the shaft of the stairs
    c.fillRect(g.stairs, g.y(floors), g.shaft, g.bottom - g.y(floors));
    c.fillStyle = this.colour("soft"); // the ground
    c.fillRect(g.stairs - g.px(2), g.bottom + g.px(1), g.right - g.stairs + g.px(4), Math.max(1, g.px(1)));
  }

  drawLetters(c, g, y) {
    const { corridors } = this.data.shape;
    c.font = this.font(11.5);
    c.textAlign = "center";
    c.fillStyle = this.colour("soft");
    for (let i = 0; i < corridors; i++) c.fillText(letter(i), (g.x(i * g.size) + g.x((i + 1) * g.size - 1) + g.room) / 2, y);
  }

  drawDesk(c, g, y, high) {
    c.fillStyle = this.colour("desk");
    c.fillRect(g.left, y, g.right - g.left, high);
    c.strokeStyle = this.colour("desk-edge");
    c.lineWidth = g.px(1);
    c.strokeRect(g.left + g.px(0.5), y + g.px(0.5), g.right - g.left - g.px(1), high - g.px(1));
  }

  drawCorridors(c, g, floor, y, high, windows) {
    for (let i = 0; i < this.data.shape.corridors; i++) {
      const open = this.isOpen(floor, i), x = g.x(i * g.size);
      c.fillStyle = this.colour(open ? "open" : "closed");
      c.fillRect(x, y, Math.round(g.room * g.size), high);
      if (!open || !windows || !g.even || g.room < 3) continue;
      c.fillStyle = this.colour("window");
      for (let r = 0; r < g.size; r++) c.fillRect(x + r * g.room + g.wall, y + g.wall, g.room - g.wall, high - 2 * g.wall);
    }
  }

  // Nurses and called interns. `lit` remembers how bright each floor was drawn: only floors that changed are drawn again.
  drawLights(c, g) {
    const { floors, dense, nurses } = this.data.shape;
    const reached = this.walk ?? this.floor, width = Math.max(g.px(g.narrow ? 2.5 : 3), g.room);
    for (let f = dense + 1; f <= floors; f++) {
      const fade = STEADY.matches ? Number(f <= reached) : clamp(reached - f + 1, 0, 1);
      if (this.lit[f] === fade) continue;
      const y = g.y(f), bright = ABOVE + (1 - ABOVE) * fade;
      this.lit[f] = fade;
      c.clearRect(0, y, g.width, g.pitch);
      if (nurses) {
        c.globalAlpha = 0.28 + 0.72 * fade;
        c.fillStyle = this.colour("nurse");
        c.beginPath();
        c.arc(g.nurse, y + g.high / 2, Math.min(g.high * 0.36, g.px(5)), 0, 7);
        c.fill();
      }
      c.fillStyle = this.colour("intern");
      for (const { room, light } of this.roomsOn(f)) {
        c.globalAlpha = bright * (this.all ? 0.16 + 0.84 * light : 0.34 + 0.66 * light);
        c.fillRect(g.x(room) + (g.room - width) / 2, y, width, g.high);
      }
    }
    c.globalAlpha = 1;
  }

  // The stairs, the chosen floor, the room under the pointer.
  drawPeople(c, g) {
    const high = this.walk != null && !STEADY.matches ? this.walk : this.floor;
    const feet = g.y(high) + g.high / 2, middle = g.stairs + g.shaft / 2, line = g.y(this.floor);
    for (const spot of this.soiled) c.clearRect(...spot);
    this.soiled = [
      [g.stairs - g.px(3), 0, g.shaft + g.px(6), g.height],
      [g.left - g.px(4), line - g.px(3), g.right - g.left + g.px(8), g.high + g.px(6)],
    ];
    c.strokeStyle = this.colour("soft");
    c.lineWidth = g.px(1);
    c.strokeRect(g.left - g.px(2.5), line - g.px(1.5), g.right - g.left + g.px(5), g.high + g.px(3));
    c.fillStyle = this.colour("patient");
    if (this.all) this.drawCrowd(c, g, feet);
    else {
      c.fillRect(middle - g.px(1.25), feet, g.px(2.5), g.bottom + g.px(1) - feet);
      this.dot(c, middle, feet, g.px(5.5), true);
    }
    const h = this.hover;
    if (!h || h.room == null || this.layerOf(h.floor) < 0) return;
    const w = Math.max(g.room, g.px(4)), x = g.x(h.room) + g.room / 2;
    c.strokeStyle = this.colour("ink");
    c.lineWidth = g.px(1.5);
    c.strokeRect(x - w / 2 - g.px(1.5), g.y(h.floor) - g.px(1.5), w + g.px(3), g.high + g.px(3));
    this.soiled.push([x - w / 2 - g.px(4), g.y(h.floor) - g.px(4), w + g.px(8), g.high + g.px(8)]);
  }

  // All patients side by side; as many rows of them as the stairs are too narrow for.
  drawCrowd(c, g, feet) {
    const n = this.data.tokens.length;
    let cell = g.px(9);
    const across = () => Math.max(1, Math.floor(g.shaft / cell));
    while (cell > g.px(3) && Math.ceil(n / across()) * cell > g.px(96)) cell -= Math.max(1, g.px(0.5));
    const rows = Math.ceil(n / across()), wide = Math.min(n, across());
    const x = g.stairs + (g.shaft - wide * cell) / 2, y = clamp(feet - (rows * cell) / 2, g.px(1), g.bottom - rows * cell);
    c.globalAlpha = 0.16;
    c.fillRect(x, y + rows * cell, wide * cell, Math.max(0, g.bottom - y - rows * cell));
    c.globalAlpha = 1;
    for (let i = 0; i < n; i++) {
      const at = [x + ((i % wide) + 0.5) * cell, y + (Math.floor(i / wide) + 0.5) * cell];
      this.dot(c, ...at, cell * (i === this.token ? 0.5 : 0.4), i === this.token);
    }
  }

  dot(c, x, y, size, edge) {
    c.beginPath();
    c.arc(x, y, size, 0, 7);
    c.fill();
    if (!edge) return;
    c.strokeStyle = this.colour(this.all ? "ink" : "edge");
    c.lineWidth = this.g.px(1);
    c.stroke();
  }

  // The chosen floor, enlarged: every room's score as a height, or how many patients meet there.
  drawGlass(c, g) {
    const { rooms, corridors } = this.data.shape, floor = this.shown, m = this.layerOf(floor);
    const top = g.px(18), bottom = c.canvas.height - g.px(20), known = this.detail.token === this.token;
    this.glassOf = known || this.all ? floor : null;
    c.clearRect(0, 0, g.width, c.canvas.height);
    c.textBaseline = "middle";
    if (m < 0) {
      this.drawDesk(c, g, top, bottom - top);
      c.font = this.font(14, 600);
      c.textAlign = "center";
      c.fillStyle = "#1B1300";
      c.fillText(this.say("glass_desk_sign"), (g.left + g.right) / 2, (top + bottom) / 2);
      return;
    }
    this.drawLetters(c, g, g.px(8));
    this.drawCorridors(c, g, floor, top, bottom - top, false);
    const visits = (room) => this.met[m * rooms + room], most = Math.max(1, ...Array.from({ length: rooms }, (_, r) => visits(r)));
    const y = (share) => bottom - clamp(share, 0, 1.15) * (bottom - top) * (this.all ? 0.96 : 0.86);
    const lit = new Map(this.roomsOn(floor).map((r) => [r.room, r]));
    c.fillStyle = this.colour("soft");
    c.textAlign = "right";
    c.font = this.font(11);
    c.fillText(this.all ? this.count(most) : "1", g.left - g.px(5), y(1));
    c.fillText("0", g.left - g.px(5), bottom - g.px(4));
    c.globalAlpha = 0.5;
    c.fillRect(g.left, y(1), g.right - g.left, Math.max(1, g.px(0.5)));
    for (let room = 0; room < rooms; room++) {
      const { score, bias } = this.all ? {} : this.scoreOf(floor, room), called = lit.has(room), x = g.x(room);
      const open = this.isOpen(floor, this.corridorOf(room)), share = this.all ? visits(room) / most : score ?? 0;
      const wide = Math.max(g.px(1), g.room - (g.room >= 3 ? g.px(1) : 0)), w = called ? Math.max(wide, g.px(3)) : wide;
      c.fillStyle = this.colour(called ? "intern" : "soft");
      c.globalAlpha = called ? 1 : open ? 0.55 : 0.25;
      c.fillRect(x + (g.room - w) / 2, y(share), w, bottom - y(share));
      if (bias == null) continue;
      c.fillStyle = this.colour("crowding");
      c.globalAlpha = called ? 1 : open ? 0.8 : 0.3;
      c.fillRect(x + (g.room - w) / 2 - (called ? g.px(1) : 0), y(score + bias) - g.px(0.75), w + (called ? g.px(2) : 0), g.px(1.5));
    }
    c.globalAlpha = 1;
    c.fillStyle = this.colour("ink");
    c.textAlign = "center";
    // Below: the numbers of the called rooms, or of each corridor's first, where there is space for them.
    const numbered = this.all ? Array.from({ length: corridors }, (_, i) => i * g.size) : [...lit.keys()].sort((a, b) => a - b);
    let free = 0;
    for (const room of numbered) {
      const text = String(room), half = c.measureText(text).width / 2 + g.px(2);
      const middle = clamp(g.x(room) + g.room / 2, g.left + half, g.right - half);
      if (middle - half < free) continue;
      c.fillText(text, middle, bottom + g.px(10));
      free = middle + half;
    }
  }

  tipLines() {
    const { floor, room } = this.hover, dense = this.data.shape.dense;
    if (floor <= dense || room == null) return [floor <= dense ? this.say("spoken_desk", { floor }) : this.say("floor", { floor })];
    const corridor = this.corridorOf(room), open = this.isOpen(floor, corridor);
    const lines = [this.say("tip_room", { floor, corridor: letter(corridor), room })];
    if (this.all) {
      const names = this.visitors(floor, room), few = names.slice(0, 8).map((t) => this.inProse(t)).join(" · ");
      lines.push(names.length ? this.say("tip_visits", { visits: names.length, patients: this.data.tokens.length }) : this.say(open ? "tip_open" : "tip_closed"));
      if (names.length) lines.push(names.length > 8 ? `${few} …` : few);
    } else {
      const called = this.roomsOn(floor).find((r) => r.room === room), { score, bias } = this.scoreOf(floor, room);
      lines.push(called ? this.say("tip_called", { weight: this.fixed(called.weight, 2) }) : this.say(open ? "tip_open" : "tip_closed"));
      lines.push(this.say("tip_scores", { score: this.fixed(score, 2), bias: this.fixed(bias, 3) }));
    }
    const { touch, glass } = this.hover; // a finger enters through the enlarged floor
    if (this.held("room") || (this.held("floor") && floor !== this.floor) || (touch && !glass)) return lines;
    return [...lines, this.say(touch ? "tip_again" : "tip_go")];
  }

  drawTip(g) {
    const h = this.hover, c = this.pane.getContext("2d");
    for (const row of this.roomBody.children) row.classList.toggle("here", Boolean(h && h.floor === this.floor && Number(row.dataset.room) === h.room));
    this.tip.hidden = !h || Boolean(h.glass);
    this.glassTip.hidden = !h?.glass;
    if (this.paned) c.clearRect(0, 0, g.width, c.canvas.height);
    this.paned = Boolean(h && h.floor === this.floor && h.room != null && this.layerOf(h.floor) >= 0);
    if (this.paned) {
      const w = Math.max(g.room, g.px(4));
      c.strokeStyle = this.colour("ink");
      c.lineWidth = g.px(1.5);
      c.strokeRect(g.x(h.room) + (g.room - w) / 2 - g.px(1.5), g.px(16), w + g.px(3), c.canvas.height - g.px(35));
    }
    if (!h) return;
    const tip = h.glass ? this.glassTip : this.tip, key = `${h.floor} ${h.room} ${h.touch} ${this.token} ${this.follow} ${this.detail.token} ${this.data.lang}`;
    if (tip.dataset.of !== key) tip.replaceChildren(...this.tipLines().map((text) => el("p", { text })));
    tip.dataset.of = key;
    const middle = h.room == null || this.layerOf(h.floor) < 0 ? (g.left + g.right) / 2 : g.x(h.room) + g.room / 2;
    const box = tip.getBoundingClientRect(), y = h.glass ? 0 : g.y(h.floor) / g.dpr, above = y - box.height - 8;
    tip.style.left = `${clamp(middle / g.dpr - box.width / 2, 0, Math.max(0, this.width - box.width))}px`;
    tip.style.top = `${above > 0 || h.glass ? above : y + g.pitch / g.dpr + 8}px`;
  }

  // The house as a picture, without what works it, drawn finer than on screen.
  async toPicture() {
    const { FINE, painted, origin } = await picture(), house = this.title.closest(".house"), works = [this.bar, this.keys];
    this.fine = FINE;
    works.forEach((part) => { part.hidden = true; });
    house.style.alignSelf = "start"; // no higher than it is, whatever stands beside it
    this.draw(true);
    const image = painted(house, origin(this));
    house.style.alignSelf = "";
    works.forEach((part) => { part.hidden = false; });
    this.fine = null;
    this.draw(true);
    image.toBlob((blob) => download(blob, "building.png"));
  }

  // -- the pointer

  point(at) {
    if (!at && !this.hover) return;
    if (at && this.hover && at.floor === this.hover.floor && at.room === this.hover.room && at.glass === this.hover.glass) return;
    this.hover = at;
    this.draw();
  }

  placeAt(event) { // what of the house is under the pointer; left of the rooms it is a floor alone
    const g = this.g, { floors } = this.data.shape, box = this.people.getBoundingClientRect();
    const x = (event.clientX - box.left) * g.dpr, y = (event.clientY - box.top) * g.dpr;
    const floor = floors - Math.floor((y - g.top) / g.pitch);
    if (floor < 1 || floor > floors) return null;
    return { floor, room: this.layerOf(floor) >= 0 && x >= g.left && x <= g.right ? this.roomUnder(x, floor) : null };
  }

  roomAt(event) {
    const g = this.g, x = (event.clientX - this.pane.getBoundingClientRect().left) * g.dpr;
    return x >= g.left && x <= g.right && this.layerOf(this.floor) >= 0 ? { floor: this.floor, room: this.roomUnder(x, this.floor), glass: true } : null;
  }

  roomUnder(x, floor) { // a lit room within reach of the pointer is meant
    const g = this.g, last = this.data.shape.rooms - 1, middle = (room) => g.x(room) + g.room / 2;
    const near = this.roomsOn(floor).map((r) => [Math.abs(middle(r.room) - x), r.room]).sort((a, b) => a[0] - b[0])[0];
    if (near && near[0] < Math.max(g.px(3), g.room / 2)) return near[1];
    let room = 0;
    while (room < last && g.x(room + 1) <= x) room += 1;
    return room;
  }
}

export const render = base.rendering(View, "../building/building.css");
