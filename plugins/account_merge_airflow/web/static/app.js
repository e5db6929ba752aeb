// The pages beyond links and forms: more rows, dialogs that show the effect first, progress.
import { request, show } from "./calls.js";
import { onActions } from "./actions.js";
import { onForms } from "./forms.js";

const HERE = document.querySelector('meta[name="base"]').content;

// --- parts that are loaded behind the page ----------------------------------------------------------------------
async function load(part) {
  try {
    part.innerHTML = await (await request(part.dataset.load)).text();
  } catch (problem) {
    show(part, problem, () => load(part));
  }
}

// --- a table's rows, page by page ---------------------------------------------------------------------------------
function onRows(details) {
  const table = details.querySelector("table.diff");
  const more = details.querySelector(".more");
  const status = details.querySelector(".status");
  const filter = details.querySelector("form");
  let next = null;
  let shown = 0;
  let busy = false;
  let turn = 0;

  async function read(first) {
    if (busy && !first) return;
    busy = true;
    const mine = ++turn;
    if (first) {
      for (const body of [...table.tBodies]) body.remove();
      shown = 0;
      next = "0.0";
    }
    more.hidden = true;
    status.textContent = "Reading rows…";
    const { what, key } = Object.fromEntries(new FormData(filter));
    const query = new URLSearchParams({ cursor: next, what, key });
    try {
      const answer = await request(`${details.dataset.rows}&${query}`);
      const html = await answer.text();
      if (mine !== turn) return;
      table.insertAdjacentHTML("beforeend", html);
      shown += Number(answer.headers.get("x-rows"));
      next = answer.headers.get("x-next");
      more.hidden = !next;
      status.textContent = `${shown.toLocaleString("en")} ${shown === 1 ? "row" : "rows"}${next ? " so far" : shown ? ", that is all" : ": none fits"}`;
    } catch (problem) {
      if (mine === turn) show(status, problem, () => read(false));
    } finally {
      if (mine === turn) busy = false;
    }
  }
  const opened = () => details.open && next === null && !shown && read(true);
  details.addEventListener("toggle", opened);
  opened(); // a person may have opened it before this script ran
  filter.addEventListener("submit", (event) => {
    event.preventDefault();
    read(true);
  });
  more.addEventListener("click", () => read(false));
  new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && !more.hidden && read(false), {
    rootMargin: "400px",
  }).observe(more);
}

// --- a merge under way: the page shows each step of it -------------------------------------------------------------
function follow(bar) {
  const url = `${HERE}/api/v1/merges/${bar.dataset.merge}`;
  const seen = bar.dataset.state;
  const look = async () => {
    if (!document.hidden && !document.querySelector("dialog[open]")) {
      try {
        const { merge } = await (await request(url)).json();
        if (merge.state !== seen) return location.reload();
      } catch {
        // The next look may succeed; the page is still right meanwhile.
      }
    }
    setTimeout(look, 3000);
  };
  setTimeout(look, 3000);
}

// --- links out of the frame: Airflow's own page follows them --------------------------------------------------------
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-top]");
  if (!link || window.parent === window || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const around = window.parent.document.createElement("a");
  around.href = link.href;
  window.parent.document.body.append(around);
  around.click();
  around.remove();
});

document.querySelectorAll("[data-load]").forEach(load);
document.querySelectorAll("details[data-rows]").forEach(onRows);
document.querySelectorAll("[data-merge][data-open]").forEach(follow);
onActions(HERE);
onForms(HERE);
