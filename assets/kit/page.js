// The first thing that a browser hears of a page: in which language it is, whether it is projected, and which code its
// pictures will need, which it then fetches while the page is still being put together. On a phone the navigation is a list
// that holds headings beside its items, which screen readers must not be told is a list. What a link into a class holds is
// taken out of the address bar; where one sits in a class is remembered in this tab, over a reload. Steps of a slider that
// follow each other are one step of the browser's history.

const REST = 1500; // milliseconds between two steps of a slider after which the next one begins a new run

// Every step of a slider writes a new address, and Back would have to be pressed once for each. What is set in one run of
// steps, without anything else being touched, therefore leaves the place where the run began and the place where it ended.
function oneStepARun() {
  let run = null; // the slider, when it was moved last, and which parameters its steps have changed so far
  const touched = (event) => {
    const box = event.composedPath()[0].parentElement, slider = box?.querySelector?.(":scope > input[type=range]");
    if (!slider) run = null;
    else if (event.type === "input" || event.type === "click" && event.composedPath()[0] !== slider) {
      const now = performance.now();
      if (run?.box !== box || now - run.at > REST) run = { box, changed: null };
      run.at = now;
    } else if (run?.box !== box) run = null;
  };
  for (const type of ["input", "click", "keydown", "pointerdown"]) document.addEventListener(type, touched, true);
  addEventListener("popstate", () => { run = null; });
  const push = history.pushState;
  history.pushState = function (state, title, to) {
    const from = new URLSearchParams(location.search), address = new URL(to ?? "", location.href);
    const names = new Set([...from.keys(), ...address.searchParams.keys()]);
    const changed = [...names].filter((name) => from.get(name) !== address.searchParams.get(name));
    const same = run?.changed && address.pathname === location.pathname && changed.every((name) => run.changed.has(name));
    if (same) return history.replaceState(state, title, to);
    if (run) run.changed = address.pathname === location.pathname ? new Set(changed) : null;
    return push.call(history, state, title, to);
  };
}

// What a popover holds stands at the very end of the document: whoever opens one by the keyboard would have to walk there
// through the whole page. The keyboard goes in with it.
function intoPopovers() {
  document.addEventListener("keydown", (event) => {
    const button = event.target.closest?.("[data-testid=stPopover] button");
    if (!["Enter", " "].includes(event.key) || !button || document.querySelector("[data-testid=stPopoverBody]")) return;
    let until = null;
    const look = () => {
      until ??= performance.now() + REST;
      const body = document.querySelector("[data-testid=stPopoverBody]");
      let first = body?.querySelector("button:not(:disabled), input:not(:disabled), textarea, a[href]");
      if (first?.closest(".st-key-class_close")) { // a second Enter does not do what cannot be undone: it is one Tab away
        body.tabIndex = -1;
        first = body;
      }
      if (first) first.focus();
      else if (performance.now() < until) requestAnimationFrame(look);
    };
    document.addEventListener("keyup", look, { once: true, capture: true }); // or a key that is held would press what it comes to
  }, true);
}

// What opens over the page, a popover or a dialog, hangs beside the part that Streamlit tells day from night: at night it
// would wear the colours of the day, white words on a pale button.
function sameSky() {
  const app = document.querySelector("[data-testid=stApp]");
  if (!app) return;
  const tell = () => { document.body.style.colorScheme = getComputedStyle(app).colorScheme; };
  new MutationObserver(tell).observe(app, { attributeFilter: ["class"] });
  tell();
}

// Without the network nothing that is pressed is heard. Streamlit says so in English, over the whole page and to whoever
// started it; here it is one line in the language of the page, which goes away with what it speaks of.
function saysWhenAway() {
  const app = document.querySelector("[data-testid=stApp]");
  if (!app) return;
  const line = document.body.appendChild(document.createElement("p"));
  line.className = "hospital-away";
  line.setAttribute("role", "status");
  let waits = null;
  const tell = () => {
    clearInterval(waits);
    if (navigator.onLine && app.dataset.testConnectionState === "CONNECTED") line.textContent = "";
    else waits = setInterval(() => { // a moment is nothing to speak of
      line.textContent = window.hospitalAway;
      const box = [...document.querySelectorAll("[role=dialog]")].find((one) => one.querySelector("h2")?.textContent === "Connection error");
      box?.querySelector("[aria-label=Close]")?.click();
    }, REST);
  };
  new MutationObserver(tell).observe(app, { attributeFilter: ["data-test-connection-state"] });
  for (const what of ["online", "offline"]) addEventListener(what, tell);
}

// On a phone the menu lies over the page; whoever has chosen one from it wants to see that.
function menuMakesWay() {
  document.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || !event.target.closest?.("[data-testid=stSidebarNavLink]")) return;
    setTimeout(() => document.querySelector("[data-testid=stSidebarCollapseButton] button")?.click());
  });
}

export default function ({ data: sent, setTriggerValue }) {
  const data = JSON.parse(new TextDecoder().decode(sent));
  document.documentElement.lang = data.lang;
  document.documentElement.toggleAttribute("data-projector", data.projector);
  const skip = document.querySelector("[data-testid=stSkipToContent]")?.firstChild; // Streamlit says it in English only
  if (skip) skip.nodeValue = data.skip;
  window.hospitalAway = data.away;
  for (const module of data.modules) import(new URL(module, document.baseURI).href).catch(() => {});
  const parts = "[data-testid=stSidebarNav] :is(ul, li)";
  const tidy = () => {
    document.querySelectorAll(parts).forEach((part) => { part.role = "presentation"; });
    if (!/[?&](class|teach)=/.test(location.search)) return;
    const address = new URL(location.href);
    for (const one of ["class", "teach"]) address.searchParams.delete(one);
    history.replaceState(history.state, "", address);
  };
  if (!window.hospitalWatch) {
    window.hospitalWatch = new MutationObserver(tidy);
    window.hospitalWatch.observe(document.body, { childList: true, subtree: true });
    oneStepARun();
    intoPopovers();
    menuMakesWay();
    sameSky();
    saysWhenAway();
  }
  tidy();
  try {
    const kept = sessionStorage.getItem("hospital.class");
    if (data.seat) sessionStorage.setItem("hospital.class", JSON.stringify(data.seat));
    else if (data.seat === "") sessionStorage.removeItem("hospital.class");
    else if (kept && !window.hospitalBack) setTriggerValue("back", JSON.parse(kept));
    window.hospitalBack = true;
  } catch (error) { console.warn(error); } // a browser that keeps nothing
}
