// The lesson's bar, the list of its stops, and the light on what a stop is about. Where a link leads was put together in
// Python (pages/kit/lesson.py); here it is followed as the browser's Back is, so that no page is loaded anew and the
// browser's history has one step for every stop.

const base = await import(new URL("../kit/base.js" + new URL(import.meta.url).search, import.meta.url).href);
const { el } = base;

const TICK = 250; // ms between two looks for what is to be lit
const ANSWERED = 4000; // ms for an answer to open its picture, and for both to be brought up
const SETTLED = 6; // looks without anything moving, after which a stop has been arrived at
const PATIENCE = 20_000; // ms after which nothing is scrolled any more, nor waited for
const LATE = 5000; // ms without an answer after which the bar says so
const NARROW = 700; // px below which the words are folded away at first
const WRITES = "input:not([type=checkbox], [type=radio], [type=button], [type=submit], [type=range]), textarea, select, [contenteditable=true]";
const PAGES_ITSELF = "textarea, select, [contenteditable=true], [role=application], [role=combobox], [role=listbox]";
const TYPED = `${WRITES}, [role=textbox], [role=combobox]`; // where a letter is a letter
const OWN_KEYS = `${WRITES}, input[type=range], [role=application], [role=slider], [role=textbox], [role=combobox], [role=spinbutton]`;

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// **strong** is the only mark-up that a sentence may have.
const marked = (text) => (text ?? "").split("**").map((part, i) => (i % 2 ? el("strong", { text: part }) : part));

const rem = () => parseFloat(getComputedStyle(document.documentElement).fontSize) || 16;

// -- ways --------------------------------------------------------------------------------------------------------------

function address({ page, set, drop }) {
  const url = page === null ? new URL(location.href) : new URL(`./${page}`, document.baseURI);
  const query = new URLSearchParams(location.search);
  for (const name of drop) query.delete(name);
  for (const [name, value] of Object.entries(set)) query.set(name, value);
  url.search = query;
  url.hash = "";
  return url.href;
}

let going = 0; // until when a second press counts as the first

function go(way) {
  if (!way || performance.now() < going || address(way) === location.href) return false;
  going = performance.now() + PATIENCE;
  history.pushState({}, "", address(way));
  dispatchEvent(new PopStateEvent("popstate", { state: {} }));
  return true;
}

// A link that leads there: a click goes on within the page, everything else is the browser's.
class Way {
  constructor(before = () => {}, look = "push") {
    this.node = el("a", { class: look, onclick: (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || !this.way) return;
      event.preventDefault();
      if (go(this.way)) before();
    } });
    this.node.onpointerenter = this.node.onfocus = () => this.where();
  }

  to(way, text, name) {
    this.way = way;
    this.node.textContent = text;
    if (name) this.node.setAttribute("aria-label", name);
    this.where();
    return this.node;
  }

  where() { // the address may have gone on since
    if (this.way) this.node.href = address(this.way);
    else this.node.removeAttribute("href");
  }
}

// The next Tab goes to the first button in there. Nothing is focused by it: the arrows still scroll.
function tabFrom(node) {
  node.tabIndex = -1;
  node.focus({ preventScroll: true });
  node.blur();
  node.removeAttribute("tabindex");
}

// -- the light ---------------------------------------------------------------------------------------------------------

class Light {
  aim({ light, asks }, arriving) {
    this.wanted = light;
    this.asks = asks;
    if (arriving) {
      this.question = this.verdict = null;
      this.until = performance.now() + PATIENCE;
      this.still = 0;
      this.far = arriving === "page";
    }
    if (!this.timer) this.timer = setInterval(() => this.look(), TICK);
    this.theirs ??= () => { this.until = 0; }; // whoever scrolls or clicks wants to be where he is
    this.press ??= (event) => { if (this.question && event.composedPath().includes(this.find(this.question))) this.pressed = performance.now(); };
    addEventListener("click", this.press, { capture: true });
    for (const what of ["wheel", "touchmove", "pointerdown"]) addEventListener(what, this.theirs, { passive: true, capture: true });
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    for (const what of ["wheel", "touchmove", "pointerdown"]) removeEventListener(what, this.theirs, { capture: true });
    removeEventListener("click", this.press, { capture: true });
    this.out();
  }

  // A question that is still to be answered.
  open(one) {
    const node = one?.startsWith("predict ") && this.find(one);
    return node && node.querySelector("button")?.disabled === false ? node : null;
  }

  out() {
    for (const name of ["outline", "outline-offset", "border-radius"]) this.lit?.style.removeProperty(name);
    this.pulse?.cancel();
    this.lit = null;
  }

  find(one) {
    const [key, plate] = one.split("/");
    const node = document.querySelector(`.st-key-${CSS.escape(key.trim().replace(/[^a-zA-Z0-9_-]/g, "-"))}`);
    if (!node || node.closest("[data-stale=true]") || !node.getClientRects().length) return null;
    if (!plate) return node.getBoundingClientRect().height > 8 ? node : null;
    const host = [...node.querySelectorAll("*")].find((inside) => inside.shadowRoot);
    return host?.shadowRoot.querySelector(`[data-plate="${CSS.escape(plate)}"]`) ?? null;
  }

  look() {
    const busy = document.querySelector("[data-testid=stApp][data-test-script-state=running], [data-testid=stStatusWidget]");
    if (busy && performance.now() < this.until && this.lit?.isConnected) return;
    let found = this.open(this.asks);
    if (!found) for (const one of this.wanted) if ((found = this.find(one))) break;
    const asked = found && [this.asks, ...this.wanted].find((one) => this.open(one) === found);
    if (asked) this.question = asked;
    else if (this.question && found && found !== this.find(this.question)) {
      this.verdict = performance.now() < this.pressed + ANSWERED ? this.question : null; // just answered: it stays in sight
      this.question = null;
      if (this.verdict) this.until = performance.now() + ANSWERED;
    }
    if (found !== this.lit || (found && !found.style.outline)) {
      this.out();
      this.lit = found;
      this.still = 0;
      if (found) {
        found.style.setProperty("outline", "3px solid currentColor");
        found.style.setProperty("outline-offset", document.documentElement.hasAttribute("data-projector") ? "4px" : "10px"); // headings stand close there
        found.style.setProperty("border-radius", "6px");
        if (asked && document.activeElement === document.body) tabFrom(found);
        if (!calm()) this.pulse = found.animate([{ outlineColor: "transparent" }, { outlineColor: "currentColor" }], { duration: 700, iterations: 2 });
      }
    }
    if (!found || performance.now() > this.until) return;
    if (document.activeElement?.closest?.("[data-testid=stPopoverBody]")) { // who writes a question is not taken away from it
      this.until = performance.now() + PATIENCE;
      return;
    }
    const verdict = this.verdict && this.find(this.verdict);
    if (verdict ? this.reach(verdict, true) : this.reach(found)) this.still += 1;
    else this.still = 0;
    if (this.still >= SETTLED && !busy) this.until = 0;
  }

  // Bring it between the page's head and the bar; its top, where it is taller or there is more below it to be seen.
  // Whether it was there already.
  reach(node, first = false) {
    const scroller = document.querySelector("[data-testid=stMain]");
    const head = document.querySelector("[data-testid=stHeader]")?.getBoundingClientRect().bottom ?? 0;
    const room = document.querySelector(".st-key-class_bar")?.parentElement; // of a class: on wide screens it stays in sight too
    const style = room && getComputedStyle(room), stays = style?.position === "sticky";
    const above = stays ? Math.max(head, parseFloat(style.top) || 0) + room.offsetHeight + rem() * 0.6 : head;
    const top = above + rem() * 1.4;
    const bottom = innerHeight - (parseFloat(document.documentElement.style.getPropertyValue("--lesson")) || 0) - rem() * 1.4;
    const { top: at, height } = node.getBoundingClientRect();
    const wanted = first || height > bottom - top ? top : top + Math.min((bottom - top - height) / 2, rem() * 4);
    const by = at - wanted, most = scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop;
    const move = Math.max(Math.min(by, most), -scroller.scrollTop);
    if (Math.abs(move) < 4) return true;
    scroller.scrollBy({ top: move, behavior: this.far || calm() ? "instant" : "smooth" });
    return false;
  }
}

// -- the bar -----------------------------------------------------------------------------------------------------------

let folded = null; // as the visitor left it; before, by the window's width, and away on a projector

class Bar {
  constructor(host) {
    this.light = new Light();
    const busy = () => this.busy();
    this.back = new Way(busy);
    this.next = new Way(busy, "push go");
    this.there = new Way(busy, "push go");
    this.again = new Way(busy, "quiet");
    this.contents = new Way(busy, "quiet");
    this.leave = new Way(() => {}, "quiet");
    this.title = el("h2");
    this.count = el("span", { class: "count" });
    this.time = el("span", { class: "time" });
    this.sentence = el("p", { class: "sentence" });
    this.part = el("i");
    this.say = el("p", { class: "say" });
    this.look = el("p");
    this.ask = el("p");
    this.answer = el("p");
    this.heads = { look: el("h3"), ask: el("h3") };
    this.summary = el("summary");
    this.details = el("details", {}, this.summary, this.answer);
    this.elsewhere = el("p", { class: "elsewhere" });
    this.fold = el("button", { type: "button", class: "push fold", "aria-controls": "words", onclick: () => { folded = !this.words.hidden; this.show(); } });
    this.spoken = el("p", { class: "hidden", "aria-live": "polite" });
    this.words = el("div", { class: "words", id: "words" },
      el("div", { class: "first" }, this.elsewhere, this.say),
      el("div", { class: "second" }, this.heads.look, this.look, this.heads.ask, this.ask, this.details));
    this.ways = el("p", { class: "ways" }, this.again.node, this.contents.node, this.leave.node);
    this.bar = el("section", { class: "bar" },
      el("div", { class: "part", "aria-hidden": "true" }, this.part),
      el("div", { class: "head" },
        this.back.node, el("div", { class: "where" }, this.title, el("p", { class: "soft" }, this.count, " · ", this.time), this.sentence), this.ways, this.fold, this.next.node),
      this.words, this.spoken);
    host.replaceChildren(this.bar);
    this.host = host;
    this.size = new ResizeObserver(() => document.documentElement.style.setProperty("--lesson", `${this.bar.offsetHeight}px`));
    this.heard = (event) => this.key(event);
    this.met = (event) => { this.had = event.composedPath()[0].value; };
  }

  // On its way. When nothing comes, somebody before a class must not have to guess why.
  busy() {
    this.bar.setAttribute("aria-busy", "true");
    clearTimeout(this.late);
    this.late = setTimeout(() => { this.time.textContent = this.spoken.textContent = this.data.words.waits; }, LATE);
  }

  stop() {
    clearTimeout(this.late);
    removeEventListener("keydown", this.heard);
    removeEventListener("focusin", this.met);
    this.size.disconnect();
    this.light.stop();
    document.documentElement.style.removeProperty("--lesson");
    going = 0;
  }

  update(data) {
    const arrived = this.data?.stop !== data.stop || (this.data?.there !== data.there && data.there);
    going = 0;
    clearTimeout(this.late);
    this.bar.removeAttribute("aria-busy");
    const page = this.page !== location.pathname ? "page" : "same";
    this.page = location.pathname;
    const said = data.words;
    this.bar.setAttribute("aria-label", said.label);
    this.title.textContent = data.title;
    this.count.textContent = data.count;
    this.time.textContent = data.time;
    this.sentence.hidden = !data.sentence;
    this.sentence.textContent = data.sentence ?? "";
    this.part.style.width = `${100 * data.part}%`;
    this.say.replaceChildren(...marked(data.say));
    for (const what of ["look", "ask"]) {
      this.heads[what].textContent = said[what];
      this[what].replaceChildren(...marked(data[what]));
    }
    this.answer.replaceChildren(...marked(data.answer));
    this.summary.textContent = said.answer;
    this.elsewhere.hidden = !data.elsewhere;
    this.elsewhere.replaceChildren(data.elsewhere ?? "", " ", this.there.to(data.again, said.there));
    this.back.to(data.back, said.back);
    this.next.to(data.next ?? data.quiz, data.next ? said.next : said.quiz);
    this.back.node.hidden = !data.back;
    this.next.node.hidden = !this.next.way; // after the last stop it leads out of the lesson; a remote's keys do not
    this.again.to(data.again, said.again);
    this.again.node.hidden = !data.again || !!data.elsewhere;
    this.contents.to(data.contents, said.contents);
    this.leave.to(data.leave, said.leave);
    if (arrived && this.data?.stop !== data.stop) {
      this.details.open = false;
      this.words.scrollTop = 0;
      this.spoken.textContent = data.next ? data.spoken : `${data.spoken}. ${said.end}`;
      // The keys that came here lead no further: the way on is at hand, and not behind the whole page.
      if (!data.next && this.data && document.activeElement === document.body) this.next.node.focus({ preventScroll: true });
    }
    this.data = data;
    this.show();
    removeEventListener("keydown", this.heard);
    addEventListener("keydown", this.heard);
    addEventListener("focusin", this.met);
    this.size.observe(this.bar);
    this.light.aim(data, arrived && page);
  }

  show() {
    this.words.hidden = folded ?? (innerWidth < NARROW || document.documentElement.hasAttribute("data-projector"));
    this.fold.setAttribute("aria-expanded", String(!this.words.hidden));
    this.fold.setAttribute("aria-label", this.data.words[this.words.hidden ? "unfold" : "fold"]);
    this.fold.title = this.fold.getAttribute("aria-label");
  }

  // A presenter's remote sends Page Down and Page Up, wherever the focus was left: only what has pages or lines of its own
  // keeps them. It sends b or a full stop to make the screen dark: that folds the words away, unless somebody writes.
  // Arrows only where nothing else could want them.
  key(event) {
    const path = event.composedPath(), [at] = path;
    if (event.key === "Enter" && !event.isComposing && event.keyCode !== 229) this.met(event); // taken in; not by an input method
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || event.defaultPrevented) return;
    const kept = ["PageDown", "PageUp"].includes(event.key) ? PAGES_ITSELF : OWN_KEYS;
    if (document.querySelector("[role=dialog]")) return;
    if ([".", "b"].includes(event.key) && !path.some((node) => node.matches?.(TYPED))) return this.fold.click();
    if (path.some((node) => node.matches?.(kept))) return;
    const free = at === document.body || at === document.documentElement || path.includes(this.host);
    if (free) this.scroll(event);
    const by = { PageDown: 1, PageUp: -1, ...(free ? { ArrowRight: 1, ArrowLeft: -1 } : {}) }[event.key];
    if (!by) return;
    event.preventDefault();
    if (at.matches?.(WRITES) && at.value !== this.had) return at.blur(); // it is taken in first: with the page it would be lost
    const back = this.data.next || this.data.there ? null : this.data.again; // from elsewhere to the last stop
    if (go(by > 0 ? this.data.next ?? back : this.data.back)) this.busy();
  }

  // What is lit may be taller than the window, and the page itself is not what the keys would scroll.
  scroll(event) {
    const main = document.querySelector("[data-testid=stMain]"), path = event.composedPath();
    const by = { ArrowDown: 80, ArrowUp: -80, " ": 0.8 * (main?.clientHeight ?? 0), Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined || !main || (event.key === " " && path[0].matches?.("a, button, summary"))) return;
    if (path.includes(this.words) && this.words.scrollHeight > this.words.clientHeight) return; // long words scroll themselves
    event.preventDefault();
    this.light.until = 0;
    main.scrollTo({ top: Math.min(Math.max(main.scrollTop + by, 0), main.scrollHeight), behavior: calm() ? "instant" : "smooth" });
  }
}

// -- all stops ---------------------------------------------------------------------------------------------------------

class Contents {
  constructor(host) {
    this.host = host;
  }

  stop() { going = 0; }

  update(data) {
    going = 0;
    const said = data.words;
    const on = data.on ? [el("p", { class: "card on" }, el("span", { text: data.on.title }), new Way(() => {}, "push go").to(data.on.go, said.go_on))] : [];
    const versions = el("div", { class: "versions" }, ...data.versions.map((one) => el("section", { class: "card" },
      el("h2", { text: one.minutes }), el("p", { class: "soft", text: one.stops }), el("p", { text: one.what }),
      new Way(() => {}, data.on ? "push" : "push go").to(one.go, said.begin, one.name))));
    const cell = (one) => el("td", {}, one ? new Way(() => {}, "minutes").to(one.go, one.minutes, one.name)
      : el("span", { "aria-label": said.none_spoken, role: "img", text: said.none }));
    const table = el("table", {},
      el("caption", { text: said.caption }),
      el("thead", {}, el("tr", {}, el("th", { scope: "col", text: said.stop }),
        ...data.versions.map((one, i) => el("th", { scope: "col", "aria-label": one.minutes, text: `${data.totals[i]} ${said.unit}` })))),
      el("tbody", {}, ...data.stops.map((stop) => el("tr", stop.here ? { class: "here" } : {},
        el("th", { scope: "row" }, stop.title, el("small", { text: stop.here ? `${stop.page} · ${said.here}` : stop.page })), ...stop.in.map(cell)))),
      el("tfoot", {}, el("tr", {}, el("th", { scope: "row", text: said.total }), ...data.totals.map((minutes) => el("td", { text: `${minutes} ${said.unit}` })))));
    this.host.replaceChildren(el("div", { class: "contents" }, ...on, versions, table));
  }
}

// -- a student's screen ------------------------------------------------------------------------------------------------

class Follower {
  constructor() { this.light = new Light(); }

  stop() { this.light.stop(); }

  update(data) {
    const page = this.page !== location.pathname ? "page" : "same";
    this.light.aim(data, data.stop !== this.at && page);
    this.page = location.pathname;
    this.at = data.stop;
  }
}

const KINDS = { bar: Bar, contents: Contents, light: Follower };

class View {
  constructor(host) { this.host = host; }
  update(data) { (this.part ??= new KINDS[data.kind](this.host)).update(data); }
  stop() { this.part.stop(); }
}

export const render = base.rendering(View, "../lesson/lesson.css");
