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

  const draw = (component, name, data) =>
    component.render({ parentElement: roots.get(name), setStateValue: pick, data: { lang, origin, heard, ...data } });

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

  const sky = (scheme) => { document.documentElement.style.colorScheme = scheme; show(); };
  night.addEventListener("change", show);
  addEventListener("beforeprint", () => sky("light")); // paper is white
  addEventListener("afterprint", () => sky(""));
  show();
}
