// A QR code beside its link, and large: alone on the whole screen, for a projector. The path comes from pages/kit/qr.py.

const base = await import(new URL("../kit/base.js" + new URL(import.meta.url).search, import.meta.url).href);
const { el } = base;

const SVG = "http://www.w3.org/2000/svg";

class View {
  constructor(host) {
    this.open = el("button", { class: "push", type: "button", onclick: () => this.show() });
    this.small = picture();
    this.large = picture();
    this.link = el("p", { dir: "ltr" });
    this.sign = el("p", { class: "sign", dir: "ltr" });
    this.shut = el("button", { class: "push shut", type: "button", onclick: () => this.screen.close() });
    this.screen = el("dialog", {}, this.sign, this.large, this.link, this.shut);
    // Keys that are pressed here are not meant for the dialog of the page that this stands in.
    for (const kind of ["keydown", "keyup"]) this.screen.addEventListener(kind, (event) => event.stopPropagation());
    this.screen.onclose = () => { if (document.fullscreenElement) document.exitFullscreen(); };
    this.watch = () => { if (!document.fullscreenElement && this.screen.open) this.screen.close(); };
    document.addEventListener("fullscreenchange", this.watch);
    host.replaceChildren(el("figure", {}, this.small, this.open), this.screen);
  }

  stop() {
    document.removeEventListener("fullscreenchange", this.watch);
    if (this.screen.open) this.screen.close();
  }

  update({ size, path, link, about, sign, words }) {
    for (const svg of [this.small, this.large]) {
      svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
      svg.setAttribute("aria-label", about);
      svg.firstChild.setAttribute("d", path);
    }
    this.link.textContent = link;
    this.sign.textContent = sign;
    this.sign.hidden = !sign;
    this.open.textContent = words.large;
    this.shut.textContent = words.close;
    this.screen.setAttribute("aria-label", words.large);
  }

  // The whole screen where the browser gives it, and the whole window where it does not.
  show() {
    this.screen.showModal();
    document.documentElement.requestFullscreen?.().catch(() => {});
  }
}

function picture() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("role", "img");
  svg.setAttribute("shape-rendering", "crispEdges"); // modules must not bleed into each other
  svg.append(document.createElementNS(SVG, "path"));
  return svg;
}

export const render = base.rendering(View, "../qr/qr.css");
