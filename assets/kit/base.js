// What every browser component here needs: nodes, numbers out of base64, the look, and the sky (day or night).

const version = new URL(import.meta.url).search;

const sheet = (path) => fetch(new URL(path + version, import.meta.url))
  .then((answer) => answer.text())
  .then((text) => { const made = new CSSStyleSheet(); made.replaceSync(text); return made; });

const look = sheet("look.css");

// A component's render function: one `View` for each host node, kept over reruns. `css` is relative to this file. Where
// data come fast after each other Streamlit clears a run away late, when the next one has begun: only the last one stops
// the view, or else what was just clicked in it would be forgotten.
export function rendering(View, css) {
  const views = new WeakMap(), own = sheet(css);
  return async function render({ data, parentElement, setStateValue }) {
    const host = parentElement.querySelector(".hospital");
    if (!views.has(host)) {
      const sheets = [await look, await own], root = host.getRootNode();
      if (!root.adoptedStyleSheets.includes(sheets[1])) root.adoptedStyleSheets = [...root.adoptedStyleSheets, ...sheets];
      if (!views.has(host)) views.set(host, measured(new View(host), host));
    }
    const view = views.get(host);
    view.report = setStateValue;
    host.lang = data.lang;
    host.dataset.sky = sky(host);
    view.update(data);
    const mine = view.turn = (view.turn ?? 0) + 1;
    return () => { if (view.turn === mine) view.stop(); };
  };
}

// `view.unit`: how large the page's type is, 1 where it is as usual and more on a projector; canvases grow with it. The
// host knows of the projector too, since the style of a component does not see the page around it.
function measured(view, host) {
  const ruler = el("i", { class: "ruler", "aria-hidden": "true" });
  host.append(ruler);
  const check = () => {
    const unit = ruler.getBoundingClientRect().width / 16 || 1, projected = document.documentElement.hasAttribute("data-projector");
    if (unit === view.unit && projected === host.hasAttribute("data-projector")) return;
    view.unit = unit;
    host.toggleAttribute("data-projector", projected);
    if (view.data) view.redraw?.();
  };
  check();
  new ResizeObserver(check).observe(ruler);
  new MutationObserver(check).observe(document.documentElement, { attributeFilter: ["data-projector"] });
  return view;
}

function sky(host) {
  const probe = el("i", { style: `color:${getComputedStyle(host).getPropertyValue("--st-background-color").trim() || "#fff"}` });
  host.append(probe);
  const [r, g, b] = (getComputedStyle(probe).color.match(/[\d.]+/g) ?? [255, 255, 255]).map(Number);
  probe.remove();
  return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255 < 0.5 ? "night" : "day";
}

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// A file for the visitor, made here.
export function download(blob, name) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

export function bytes(text) {
  const raw = atob(text);
  return Uint8Array.from(raw, (char) => char.charCodeAt(0));
}

export const wide = (array) => new Uint16Array(array.buffer);

export const floats = (text) => new Float32Array(bytes(text).buffer);

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

export const fill = (pattern, values) => pattern.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);

// What a corridor is called, here and in pages/kit/building.py: A, B, C, and where the alphabet ends its number.
export const letter = (corridor) => (corridor < 26 ? String.fromCharCode(65 + corridor) : String(corridor + 1));

const shares = new Map(); // language -> how it writes them

// A share in words, as `percent` of pages/kit/chapter.py: little is not shown as nothing, nor nearly all as all.
export function share(value, lang) {
  if (!shares.has(lang)) shares.set(lang, new Intl.NumberFormat(lang, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 }));
  const write = shares.get(lang), size = Math.abs(value), tenths = Math.round(size * 1000);
  const few = tenths === 0 && size > 1e-12, most = tenths === 1000 && size < 1 - 1e-6; // less is rounding
  if (!few && !most) return write.format(size < 5e-4 ? 0 : value).replace("-", "−");
  return (few === value > 0 ? "<" : ">") + (value > 0 ? "" : "−") + write.format(few ? 0.001 : 0.999);
}
