// A walk that was taken home: mounts the pictures of this file, and draws them for the token that is followed. There is
// nobody to ask: what a click chooses is looked up in the file.

export function open({ plates, building }, file) {
  const night = matchMedia("(prefers-color-scheme: dark)");
  const roots = new Map([...document.querySelectorAll("[data-mount]")].map((node) => {
    const root = node.attachShadow({ mode: "open" }), host = document.createElement("div");
    host.className = "hospital";
    root.append(host);
    return [node.dataset.mount, root];
  }));
  const { lang, origin } = file;
  let token = file.token, heard = 0;

  const pick = (name, { token: wanted }) => {
    if (name !== "pick" || wanted === token) return;
    if (String(wanted) in file.details) token = wanted; // another one is not in the file: all goes back to this one
    show();
  };

  const draw = (component, name, data) => component // the first time it waits for its style
    .render({ parentElement: roots.get(name), setStateValue: pick, data: { lang, origin, heard, ...data } }).then(() => mark(roots.get(name)));

  function show() {
    heard += 1000; // what stands here is newer than every choice that was made before
    draw(plates, "who", { page: "who", plates: [file.who], words: file.words.plates, picked: { token }, picks: ["token"] });
    draw(building, "building", { ...file.building, token, floor: file.floor, follow: "one", placed: 1, words: file.words.building,
      detail: { ...file.boards, ...file.details[token] } });
    for (const { page, same, own, picked } of file.sections) {
      draw(plates, page, { page, words: file.words.plates, picks: ["token"], picked: picked[token],
        plates: same.map((fields, i) => ({ ...fields, ...own[token][i] })) });
    }
  }

  // Of a long sentence not every patient is in the file. The followed one stays in sight, without moving the page.
  function mark(root) {
    root.querySelectorAll(".chip").forEach((chip, position) => {
      chip.disabled = !(position in file.details);
      chip.style.opacity = chip.disabled ? 0.45 : "";
    });
    const chip = root.querySelector(".chip[aria-checked=true]");
    for (const box of chip ? [chip.parentElement, root.host] : []) {
      const inside = box.getBoundingClientRect(), at = chip.getBoundingClientRect();
      if (at.top < inside.top || at.bottom > inside.bottom) box.scrollTop += at.top - inside.top - 8;
    }
  }

  const sky = (scheme) => { document.documentElement.style.colorScheme = scheme; show(); };
  night.addEventListener("change", show);
  addEventListener("beforeprint", () => sky("light")); // paper is white
  addEventListener("afterprint", () => sky(""));
  show();
}
