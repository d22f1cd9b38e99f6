// What stands on screen as a picture to keep: every box, border, word and canvas of a part of the page, painted where it
// stands. Nothing is fetched and nothing is loaded as an image, so that any browser lets the picture be saved.

export const FINE = 2; // pixels of the picture for one of the page
const MARGIN = 20, FOOT = 30;
const SIDE = 12000, AREA = 16e6; // what every browser's canvas can hold
const LEFT_OUT = ".take, .tip, .hidden, input, select"; // what works the picture, and is not of it

// A canvas with `node` on the page's own paper, and under it a line that says where it is from.
export function painted(node, from) {
  const box = node.getBoundingClientRect(), style = getComputedStyle(node.closest(".hospital"));
  const width = Math.ceil(box.width) + 2 * MARGIN, height = Math.ceil(box.height) + 2 * MARGIN + FOOT;
  const scale = Math.min(FINE, SIDE / width, SIDE / height, Math.sqrt(AREA / (width * height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.floor(width * scale);
  canvas.height = Math.floor(height * scale);
  const c = canvas.getContext("2d");
  c.scale(scale, scale);
  c.fillStyle = style.getPropertyValue("--paper").trim();
  c.fillRect(0, 0, width, height);
  c.fillStyle = style.getPropertyValue("--line").trim();
  c.fillRect(MARGIN, height - FOOT - 4, width - 2 * MARGIN, 1);
  c.fillStyle = style.getPropertyValue("--soft").trim();
  c.font = `11.5px ${style.fontFamily}`;
  c.textBaseline = "middle";
  c.fillText(from, MARGIN, height - FOOT / 2 - 3, width - 2 * MARGIN);
  c.translate(MARGIN - box.left, MARGIN - box.top);
  paint(c, node);
  return canvas;
}

// The house's name, the page, the sentence, the day.
export function origin(view) {
  const asked = new URLSearchParams(location.search).get("s"), { where, sentence, lang } = { sentence: asked, ...view.data.origin, lang: view.data.lang };
  const [letters, most] = [[...(sentence ?? "").replace(/\s+/g, " ")], 60];
  const said = letters.length > most ? `${letters.slice(0, most).join("")}…` : letters.join("");
  // What turns the direction of text stays within the sentence.
  return [view.say("source", { where: where ?? location.host + location.pathname }), said && `\u2068${said}\u2069`, new Date().toLocaleDateString(lang, { dateStyle: "long" })].filter(Boolean).join(" · ");
}

function paint(c, node) {
  if (node.nodeType === Node.TEXT_NODE) return write(c, node);
  if (node.nodeType !== Node.ELEMENT_NODE || node.matches(LEFT_OUT)) return;
  const look = getComputedStyle(node), at = node.getBoundingClientRect();
  if (look.display === "none" || look.visibility === "hidden") return;
  c.save();
  c.globalAlpha *= Number(look.opacity);
  box(c, at, look);
  if (look.overflowX !== "visible") {
    c.beginPath();
    c.rect(at.left, at.top, at.width, at.height);
    c.clip();
  }
  if (node.tagName === "CANVAS") {
    if (node.width && node.height) c.drawImage(node, at.left, at.top, at.width, at.height);
  } else for (const child of node.childNodes) paint(c, child);
  const after = getComputedStyle(node, "::after"); // of these only dots are drawn that stand where they are told to
  if (after.content !== "none" && after.position === "absolute") {
    const [left, top, width, height] = ["left", "top", "width", "height"].map((side) => parseFloat(after[side]));
    box(c, new DOMRect(at.left + left, at.top + top, width, height), after);
  }
  c.restore();
}

const seen = (colour) => colour && colour !== "transparent" && !/^rgba\(.*, 0\)$/.test(colour);

function box(c, { left, top, width, height }, look) {
  if (!width && !height) return;
  const corner = look.borderTopLeftRadius, round = parseFloat(corner) * (corner.endsWith("%") ? Math.min(width, height) / 100 : 1) || 0;
  const shape = () => { c.beginPath(); c.roundRect(left, top, width, height, Math.min(round, width / 2, height / 2)); };
  const shades = look.backgroundImage.startsWith("linear-gradient") ? look.backgroundImage.match(/(?:rgba?|color|oklab)\([^()]*\)/g) : null;
  if (shades?.length > 1) {
    c.fillStyle = c.createLinearGradient(left, top, left + width, top); // all of them run to the right
    shades.forEach((shade, i) => c.fillStyle.addColorStop(i / (shades.length - 1), shade));
    shape();
    c.fill();
  } else if (seen(look.backgroundColor)) {
    c.fillStyle = look.backgroundColor;
    shape();
    c.fill();
  }
  const edges = ["Top", "Right", "Bottom", "Left"].map((side) => ({
    wide: look[`border${side}Style`] === "none" ? 0 : parseFloat(look[`border${side}Width`]), colour: look[`border${side}Color`], style: look[`border${side}Style`],
  }));
  const [first] = edges;
  if (edges.every(({ wide, colour }) => wide && wide === first.wide && colour === first.colour)) {
    pen(c, first);
    c.beginPath();
    c.roundRect(left + first.wide / 2, top + first.wide / 2, width - first.wide, height - first.wide, Math.max(0, round - first.wide / 2));
    c.stroke();
  } else edges.forEach((edge, i) => {
    if (!edge.wide || !seen(edge.colour)) return;
    const [a, b] = [[[0, 0], [1, 0]], [[1, 0], [1, 1]], [[0, 1], [1, 1]], [[0, 0], [0, 1]]][i], into = [[0, 1], [-1, 0], [0, -1], [1, 0]][i].map((way) => (way * edge.wide) / 2);
    pen(c, edge);
    c.beginPath();
    for (const [x, y] of [a, b]) c.lineTo(left + x * width + into[0], top + y * height + into[1]);
    c.stroke();
  });
  c.setLineDash([]);
}

function pen(c, { wide, colour, style }) {
  c.lineWidth = style === "double" ? wide / 2 : wide;
  c.strokeStyle = colour;
  c.setLineDash(style === "dashed" ? [2 * wide, wide] : style === "dotted" ? [wide, wide] : []);
}

// What a reader takes for one sign; an older browser knows only of code points.
function* signs(text) {
  if (Intl.Segmenter) return yield* new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(text);
  let index = 0;
  for (const segment of text) {
    yield { segment, index };
    index += segment.length;
  }
}

// A text node, line by line as the page has broken it.
function write(c, node) {
  if (!node.data.trim()) return;
  const look = getComputedStyle(node.parentElement), range = document.createRange(), lines = [];
  for (const { segment, index } of signs(node.data)) {
    range.setStart(node, index);
    range.setEnd(node, index + segment.length);
    const at = range.getClientRects()[0];
    if (!at?.width) continue; // a space that the page has swallowed
    const line = lines.at(-1);
    if (line && Math.abs(line.top - at.top) < at.height / 2) {
      line.text += segment;
      line.left = Math.min(line.left, at.left);
    } else lines.push({ text: segment, left: at.left, top: at.top, height: at.height });
  }
  c.font = `${look.fontStyle} ${look.fontWeight} ${look.fontSize} ${look.fontFamily}`;
  c.letterSpacing = look.letterSpacing === "normal" ? "0px" : look.letterSpacing;
  c.fillStyle = look.color;
  c.direction = look.direction;
  c.textAlign = "left";
  c.textBaseline = "alphabetic";
  for (const { text, left, top, height } of lines) {
    const { fontBoundingBoxAscent: up, fontBoundingBoxDescent: down } = c.measureText(text);
    c.fillText(text.trimEnd(), left, top + (height - up - down) / 2 + up);
  }
}
