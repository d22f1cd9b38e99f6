// The first thing that a browser hears of a page: in which language it is, whether it is projected, and which code its
// pictures will need, which it then fetches while the page is still being put together. On a phone the navigation is a list
// that holds headings beside its items, which screen readers must not be told is a list. What a link into a class holds is
// taken out of the address bar; where one sits in a class is remembered in this tab, over a reload.

export default function ({ data, setTriggerValue }) {
  document.documentElement.lang = data.lang;
  document.documentElement.toggleAttribute("data-projector", data.projector);
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
