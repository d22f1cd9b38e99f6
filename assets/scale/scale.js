// Buildings side by side at one scale: the area of a room is the number of its parameters, here and in every building
// of the street. Nothing is recomputed here: pages/kit/scale.py sends floors and rooms as model/architectures.py counts
// them. A floor's rooms stand from left to right in the order in which they are sent; those at work come first.

const base = await import(new URL("../kit/base.js" + new URL(import.meta.url).search, import.meta.url).href);
const { el, clamp, fill } = base;

const GAP = 28, NARROW = 104, TALL = 400, SIDE_BY_SIDE = 720;
const ROLES = { embedding: "soft", head: "soft", attention: "attention", dense: "desk", shared: "nurse", expert: "intern" };

class View {
  constructor(host) {
    this.host = host;
    host.replaceChildren(
      (this.street = el("div", { class: "street" })), (this.keys = el("ul", { class: "keys" })), (this.note = el("p", { class: "note" })));
    this.resize = new ResizeObserver(() => { if (this.street.clientWidth !== this.width) this.draw(); });
    this.resize.observe(this.street);
  }

  stop() { this.resize.disconnect(); }

  redraw() { this.draw(); }

  update(data) {
    this.data = data;
    this.resize.observe(this.street);
    this.houses = data.buildings.map((building) => new House(this, building));
    this.street.replaceChildren(...this.houses.map((house) => house.node));
    this.note.replaceChildren(...(data.note ?? "").split("**").map((part, i) => (i % 2 ? el("strong", { text: part }) : part)));
    const seen = new Set(this.houses.flatMap((house) => house.storeys.flatMap((s) => s.rooms.map((r) => ROLES[r.place]))));
    const shown = ["soft", "attention", "desk", "nurse", "intern"].filter((role) => seen.has(role));
    this.keys.replaceChildren(...[...(data.told ? shown : []), "window"].map((role) => {
      const swatch = el("i");
      swatch.style.background = `var(--${role})`;
      return el("li", {}, swatch, this.say(data.told || role !== "window" ? `key_${role}` : "key_dark"));
    }));
    this.draw();
  }

  say(key, values = {}) { return fill(this.data.words[key] ?? key, values); }

  count(value) { return new Intl.NumberFormat(this.data.lang).format(value); }

  // One scale for all: `unit` parameters to a pixel of a floor's width, `tall` pixels to a floor.
  draw() {
    const width = (this.width = this.street.clientWidth);
    if (!width) return;
    const widest = this.houses.map((house) => house.widest);
    const type = this.unit, room = width - GAP * type * (this.houses.length - 1); // type: larger on a projector
    let unit = Math.max(...widest) / (width - 2);
    if (width >= SIDE_BY_SIDE * type) {
      const taken = (u) => widest.reduce((sum, w) => sum + Math.max(w / u, NARROW * type), 0);
      while (taken(unit) > room && unit < Math.max(...widest)) unit *= 1.02;
    }
    const most = (TALL * type) / Math.max(...this.houses.map((house) => house.floors));
    const tall = most < 1 ? most : Math.min(Math.floor(most * 2) / 2, 9 * type);
    const style = getComputedStyle(this.host), colours = {};
    for (const name of ["soft", "attention", "desk", "nurse", "intern", "window", "line", "desk-edge"]) colours[name] = style.getPropertyValue(`--${name}`).trim();
    this.houses.forEach((house) => house.draw(unit, tall, width >= SIDE_BY_SIDE * type ? room : width, colours));
    for (const { caption } of this.houses) caption.style.minHeight = ""; // all stand on one ground
    const tallest = Math.max(...this.houses.map(({ caption }) => caption.offsetHeight));
    for (const { caption } of this.houses) caption.style.minHeight = `${tallest}px`;
  }
}

class House {
  constructor(view, d) {
    this.view = view;
    this.d = d;
    this.storeys = d.storeys;
    this.floors = this.storeys.reduce((sum, s) => sum + s.floors, 0);
    this.widest = Math.max(...this.storeys.map((s) => s.rooms.reduce((sum, r) => sum + r.size * r.there, 0)));
    this.canvas = el("canvas", { role: "img", "aria-label": d.alt });
    this.tip = el("div", { class: "tip", hidden: "" });
    this.caption = el("figcaption", {}, el("strong", { text: d.name, dir: "auto" }), ...d.lines.map((text) => el("span", { text })));
    this.node = el("figure", {}, this.canvas, this.tip, this.caption);
    this.canvas.onpointermove = (event) => this.over(event);
    this.canvas.onpointerleave = () => { this.tip.hidden = true; };
  }

  draw(unit, tall, most, colours) {
    const w = this.widest / unit, h = this.floors * tall, dpr = window.devicePixelRatio || 1;
    this.node.style.width = `${Math.min(Math.max(w, NARROW * this.view.unit), most)}px`;
    Object.assign(this.canvas, { width: Math.ceil((w + 2) * dpr), height: Math.ceil((h + 2) * dpr) });
    Object.assign(this.canvas.style, { width: `${w + 2}px`, height: `${h + 2}px` });
    Object.assign(this, { unit, tall, h });
    const c = this.canvas.getContext("2d"), line = tall >= 4 ? 1 : tall >= 2 ? 0.5 : 0;
    c.scale(dpr, dpr);
    let floor = 0;
    for (const storey of this.storeys) for (let i = 0; i < storey.floors; ) {
      const together = tall < 1 ? storey.floors : 1, y = 1 + h - (floor + together) * tall; // too low to be told apart
      i += together;
      floor += together;
      let x = 1;
      for (const { place, size, there, working } of storey.rooms) {
        const wide = size / unit, gap = wide >= 4 ? 1 : wide >= 1.5 ? 0.4 : 0, lit = this.view.data.told ? working : 0;
        for (const [from, to, role] of [[0, lit, ROLES[place]], [lit, there, "window"]]) {
          c.fillStyle = colours[role];
          if (!gap || there === 1) { if (to > from) c.fillRect(x + from * wide, y, (to - from) * wide - gap, together * tall - line); }
          else for (let r = from; r < to; r++) c.fillRect(x + r * wide, y, wide - gap, together * tall - line);
        }
        x += wide * there;
      }
    }
  }

  over(event) {
    const box = this.canvas.getBoundingClientRect(), px = event.clientX - box.left - 1, py = event.clientY - box.top - 1;
    const storey = this.at(Math.floor((this.h - py) / this.tall)), view = this.view;
    let x = 0;
    const room = storey?.rooms.find((r) => { const from = x; x += (r.size * r.there) / this.unit; return px >= from && px < x; });
    this.tip.hidden = !room;
    if (!room) return;
    const values = { floor: storey.number, there: view.count(room.there), working: view.count(room.working), size: view.count(room.size) };
    const lines = [storey.number ? view.say("floor", values) : null, view.say(`room_${room.place}`, values), view.say("size", values),
      room.there > 1 && view.data.told ? view.say("working", values) : null].filter(Boolean);
    this.tip.replaceChildren(...lines.map((text) => el("p", { text })));
    const space = view.street.getBoundingClientRect(), tip = this.tip.getBoundingClientRect();
    this.tip.style.left = `${clamp(px - tip.width / 2, space.left - box.left, space.right - box.left - tip.width)}px`;
    this.tip.style.top = `${py - tip.height - 12 > -40 ? py - tip.height - 12 : py + 18}px`;
  }

  // The storey at a height in floors, with the floor's number as people count it; 0 for entrance and discharge.
  at(floor) {
    let from = 0;
    for (const storey of this.storeys) {
      if (floor >= from && floor < from + storey.floors) {
        const layer = storey.rooms.some((r) => r.place === "embedding" || r.place === "head") ? 0 : storey.first + (floor - from) + 1;
        return { ...storey, number: layer };
      }
      from += storey.floors;
    }
    return null;
  }
}

export const render = base.rendering(View, "../scale/scale.css");
