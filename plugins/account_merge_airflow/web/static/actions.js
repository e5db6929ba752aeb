// Dialogs: each asks for the effect of its action before a person can confirm it, then follows the run to its end.
import { busy, counts, element, ended, proposed, request, show } from "./calls.js";

function effectOf(found) {
  if (!found.tables.length) return element("p", "It is possible now; no rows of the target are rewritten by the action itself.");
  const touched = found.tables.filter((table) => Object.keys(table.counts).some((what) => what !== "same"));
  if (!touched.length) return element("p", "No row of the target would be written: there is nothing to do.");
  const rows = touched.map((table) => {
    const first = table.rows.filter((row) => row.what !== "same").slice(0, 3).map((row) => {
      const cells = row.columns.slice(0, 3).map((column) =>
        `${column}: ${JSON.stringify(row.before?.[column] ?? null)} → ${JSON.stringify(row.after?.[column] ?? null)}`.slice(0, 160));
      const key = Object.values(row.key).join(" ").slice(0, 120);
      return element("li", [element("strong", `${row.what} `), key, " ", element("span", cells.join("; "), { class: "muted" }),
        ...row.notes.map((note) => element("div", note, { class: "note" }))]);
    });
    return element("tr", [element("th", table.table.replace(/^(undo|redo)-\d+\//, ""), { scope: "row", class: "mono" }),
      element("td", counts(table.counts).flatMap((one) => [one, " "])),
      element("td", first.length ? element("ul", first) : table.note || "")]);
  });
  const head = element("thead", element("tr", ["Table", "Rows", "The first of them"].map((words) => element("th", words, { scope: "col" }))));
  const table = element("table", [head, element("tbody", rows)]);
  return element("div", table, { class: "scroll", tabindex: "0", role: "region", "aria-label": "Effect by table" });
}

function onAction(dialog, base) {
  const form = dialog.querySelector("form");
  const { action } = form.dataset;
  const url = `${base}/api/v1/merges/${document.querySelector("[data-merge]").dataset.merge}/${action}`;
  const effect = dialog.querySelector(".effect");
  const confirm = dialog.querySelector("[data-confirm]");
  const status = dialog.querySelector(".status");
  const key = crypto.randomUUID?.() ?? String(Math.random()).slice(2);

  dialog.addEventListener("opened", async () => {
    confirm.disabled = true;
    effect.replaceChildren(element("p", "Reading what it would do…", { class: "loading" }));
    try {
      const found = await (await request(url, { dry_run: true, reason: "" })).json();
      effect.replaceChildren(effectOf(found));
      confirm.disabled = false;
    } catch (problem) {
      show(effect, problem);
    }
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    confirm.disabled = true;
    status.textContent = "Starting the run…";
    try {
      const reason = new FormData(form).get("reason");
      const found = await (await request(url, { dry_run: false, reason }, { "idempotency-key": key })).json();
      const run = await ended(found.run.status_url, (state) => (status.textContent = `Run ${state}…`));
      if (run.state === "success") return location.reload();
      show(status, { message: "Its run failed.", remedy: "See the run's log for why; then reload this page." });
    } catch (problem) {
      show(status, problem, () => {
        status.textContent = "";
        confirm.disabled = false;
      });
    }
  });
}

function onRenewal(button, base) {
  const { merge } = document.querySelector("[data-merge]").dataset;
  const status = button.parentElement.querySelector(".status");
  button.addEventListener("click", async () => {
    const done = busy(button, status, "Planning it anew…");
    try {
      const { run } = await (await request(`${base}/api/v1/merges/${merge}/propose`, {})).json();
      await proposed(`${base}/api/v1/merges/${merge}`, run);
      location.reload();
    } catch (problem) {
      done();
      show(status, problem);
    }
  });
}

export function onActions(base) {
  document.querySelectorAll("[data-renew]").forEach((button) => onRenewal(button, base));
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-dialog]");
    if (opener) {
      const dialog = document.getElementById(opener.dataset.dialog);
      dialog.showModal();
      dialog.dispatchEvent(new Event("opened"));
    }
    if (event.target.closest("[data-close]")) event.target.closest("dialog").close();
    const refused = event.target.closest("[data-why]");
    const words = document.getElementById("why-not");
    if (refused && words) {
      words.hidden = false;
      words.textContent = `${refused.textContent.trim()}: ${refused.dataset.why}`;
    }
  });
  document.querySelectorAll("dialog:has(form[data-action])").forEach((dialog) => onAction(dialog, base));
}
