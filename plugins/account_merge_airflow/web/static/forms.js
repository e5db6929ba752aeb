// The forms of a new merge, of an upload and of a replay.
import { busy, counts, element, ended, proposed, request, show } from "./calls.js";

// Account ids as people paste them: one a line, or with commas, semicolons or spaces between.
const ids = (text) => text.split(/[\s,;]+/).filter(Boolean);

// A file as text: UTF-8, or UTF-16 where it begins with that mark. Another encoding would give wrong ids.
async function textOf(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const mark = bytes[0] * 256 + bytes[1];
  const name = mark === 0xfffe ? "utf-16le" : mark === 0xfeff ? "utf-16be" : "utf-8";
  try {
    return new TextDecoder(name, { fatal: true }).decode(bytes);
  } catch {
    throw { message: "The file is not text in UTF-8.", remedy: "Save it as UTF-8 (in a spreadsheet: CSV UTF-8), then choose it again.", code: "NOT_TEXT" };
  }
}

function newMerge(form, base) {
  const place = document.getElementById("preview");
  const second = document.getElementById("do-merge");
  const dialog = document.getElementById("confirm-merge");
  const chosen = { tables: new Map(), rows: new Map() };
  let asked = null;

  const choices = () => ({
    tables: Object.fromEntries(chosen.tables),
    rows: [...chosen.rows].map(([name, choice]) => ({ ...JSON.parse(name), choice })),
  });
  // A choice is previewed at once; open tables stay open, and the keyboard stays where it was.
  place.addEventListener("change", async ({ target }) => {
    const name = target.dataset.choose;
    if (!name) return;
    const kind = name.startsWith("{") ? "rows" : "tables";
    if (kind === "tables" && target.value === "combine") chosen.tables.delete(name);
    else chosen[kind].set(name, target.value);
    const open = [...place.querySelectorAll("details[open]")].map((one) => one.dataset.table);
    await preview();
    for (const one of place.querySelectorAll("details[data-table]")) one.open = open.includes(one.dataset.table);
    [...place.querySelectorAll("[data-choose]")].find((one) => one.dataset.choose === name)?.focus();
  });
  form.addEventListener("input", ({ target }) => {
    if (["sources", "target"].includes(target.name)) for (const map of Object.values(chosen)) map.clear();
    asked = null;
    if (second) second.hidden = true;
    if (place.firstChild) place.replaceChildren(element("p", "Changed: preview again.", { class: "muted" }));
  });
  // An id that is probably wrong is merged only when a person confirms it.
  const mayMerge = () => {
    const open = document.getElementById("confirm-serious").hidden || second.elements.serious.checked;
    for (const button of second.querySelectorAll("[data-dialog], [data-propose]")) {
      button.disabled = !open;
      button.title = open ? button.dataset.title ?? "" : "First confirm the warning in red above.";
    }
  };
  second?.elements.serious.addEventListener("change", mayMerge);
  async function preview() {
    asked = null;
    if (second) second.hidden = true;
    const data = new FormData(form);
    const body = {
      choices: choices(), source_accounts: ids(data.get("sources")), target_account: data.get("target").trim(),
      tables: data.getAll("tables"), on_conflict: data.get("on_conflict"), source_rows: data.get("source_rows"),
    };
    const done = busy(form.querySelector("button"), form.querySelector(".status"), "Looking at the accounts…");
    place.replaceChildren(element("p", "Reading what each account has…", { class: "loading" }));
    try {
      place.innerHTML = await (await request(`${base}/new/preview`, body)).text();
      asked = body;
      const writes = Number(place.querySelector("[data-writes]").dataset.writes);
      document.getElementById("confirm-words").textContent =
        `${writes.toLocaleString("en")} rows of ${body.target_account} are written with what ${body.source_accounts.join(", ")} has; every change is kept in the journal.`;
      const [tables, rows] = [chosen.tables.size, chosen.rows.size];
      const words = document.getElementById("confirm-choices");
      words.hidden = !tables && !rows;
      words.textContent = `Your choices decide ${tables} table${tables === 1 ? "" : "s"} and ${rows} row${rows === 1 ? "" : "s"}: the other account's values there are not in the result.`;
      if (second) {
        second.elements.serious.checked = false;
        document.getElementById("confirm-serious").hidden = !place.querySelector("[data-serious]");
        mayMerge();
        second.hidden = false;
      }
    } catch (problem) {
      show(place, problem);
    } finally {
      done();
    }
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    preview();
  });
  const body = () => {
    const { reason, deactivate_sources } = second.elements;
    return { ...asked, reason: reason.value, deactivate_sources: deactivate_sources.checked };
  };
  second?.elements.deactivate_sources.addEventListener("change", (event) => {
    document.getElementById("confirm-deactivates").hidden = !event.target.checked;
  });
  dialog?.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const status = dialog.querySelector(".status");
    const done = busy(dialog.querySelector("[data-merge-now]"), status, "Opening the merge…");
    try {
      const answer = await request(`${base}/api/v1/merges`, body(), { "idempotency-key": form.dataset.key });
      location.assign(`${base}/merges/${(await answer.json()).merge_id}`);
    } catch (problem) {
      done();
      show(status, problem);
    }
  });
  second?.querySelector("[data-propose]")?.addEventListener("click", async (event) => {
    const status = second.querySelector(".status");
    const done = busy(event.target, status, "Planning it for the other person…");
    try {
      const answer = await request(`${base}/api/v1/proposals`, body(), { "idempotency-key": form.dataset.key });
      const { merge_id, run } = await answer.json();
      await proposed(`${base}/api/v1/merges/${merge_id}`, run);
      location.assign(`${base}/merges/${merge_id}`);
    } catch (problem) {
      done();
      show(status, problem);
    }
  });
  if (form.elements.sources.value && form.elements.target.value && !form.querySelector("button").disabled) form.requestSubmit();
}

function upload(form, base) {
  const result = document.getElementById("upload-result");
  const open = document.getElementById("open-merges");
  const dialog = document.getElementById("confirm-upload");
  const ask = (dry_run) => {
    const { lines, format, seeded, reason } = Object.fromEntries(new FormData(form));
    return request(`${base}/api/v1/uploads`, { lines, format, seeded, reason, dry_run });
  };
  const table = (found) => {
    const rows = found.lines.map((line) => {
      const merge = line.status_url ? element("a", line.merge_id.slice(0, 8), { class: "id", href: `${base}/merges/${line.merge_id}` }) : line.merge_id?.slice(0, 8) ?? "–";
      const effect = Object.entries(line.counts).filter(([, numbers]) => Object.keys(numbers).length)
        .map(([name, numbers]) => element("div", [`${name} `, ...counts(numbers)], { class: "small" }));
      return element("tr", [element("th", String(line.line), { scope: "row", "data-label": "Line" }),
        element("td", element("span", line.code, { class: `what what-${line.code}` }), { "data-label": "Result" }),
        element("td", merge, { "data-label": "Merge" }),
        element("td", [line.note, element("div", line.remedy, { class: "small muted" }), ...effect], { "data-label": "What" })]);
    });
    const head = element("thead", element("tr", ["Line", "Result", "Merge", "What"].map((words) => element("th", words, { scope: "col" }))));
    const title = found.dry_run ? "What would become of each line" : "What became of each line";
    const chips = Object.entries(found.codes).map(([code, number]) => element("li", [element("span", code, { class: "mono" }), " ", element("strong", String(number))], { class: "chip" }));
    return [element("h2", title), element("ul", chips, { class: "chips" }),
      element("div", element("table", [head, element("tbody", rows)], { class: "stack" }), { class: "scroll" })];
  };
  document.getElementById("file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    // The lines of the file before go at once: this file may be unreadable, and they are not its lines.
    form.elements.lines.value = "";
    open.hidden = true;
    result.replaceChildren();
    try {
      if (file.size > 1048576) throw { message: "The file is longer than 1 MiB.", remedy: "Cut it into several, or run the DAG account_merge_rescue." };
      form.elements.lines.value = await textOf(file);
    } catch (problem) {
      event.target.value = "";
      show(result, problem);
    }
  });
  form.addEventListener("input", () => (open.hidden = true));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const done = busy(form.querySelector("button"), form.querySelector(".status"), "Checking each line…");
    try {
      const found = await (await ask(true)).json();
      result.replaceChildren(...table(found));
      const good = found.lines.length - found.bad;
      open.hidden = !good;
      document.getElementById("upload-words").textContent = `${good} merge${good === 1 ? "" : "s"} are opened in the journal; ${found.bad} line${found.bad === 1 ? " is" : "s are"} left out.`;
    } catch (problem) {
      show(result, problem);
    } finally {
      done();
    }
  });
  dialog.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const done = busy(dialog.querySelector("[data-confirm]"), dialog.querySelector(".status"), "Opening…");
    try {
      result.replaceChildren(...table(await (await ask(false)).json()));
      open.hidden = true;
    } catch (problem) {
      show(result, problem);
    } finally {
      done();
      dialog.close();
    }
  });
}

function replay(form, base) {
  const dialog = document.getElementById("replay-dialog");
  const status = dialog.querySelector(".status");
  const confirm = dialog.querySelector("[data-confirm]");
  const effect = dialog.querySelector(".effect");
  const chosen = () => new FormData(form).getAll("merge");
  form.querySelector("[data-all]").addEventListener("change", (event) => {
    for (const box of form.querySelectorAll('[name="merge"]')) box.checked = event.target.checked;
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!chosen().length) {
      form.querySelector(".status").textContent = "Choose at least one.";
      return;
    }
    form.querySelector(".status").textContent = "";
    dialog.showModal();
    confirm.disabled = true;
    effect.replaceChildren(element("p", "Looking at each…", { class: "loading" }));
    try {
      const found = await (await request(`${base}/api/v1/failed/replay`, { merge_ids: chosen(), dry_run: true })).json();
      effect.replaceChildren(element("p", `${found.replayed} would be opened again, ${found.left_alone} left alone.`),
        element("ul", found.items.map((item) => element("li", [element("span", item.merge_id.slice(0, 8), { class: "id" }), ` ${item.before ?? ""} → ${item.after ?? "as it is"} `, element("span", `${item.code} ${item.note}`, { class: "muted" })]))));
      confirm.disabled = !found.replayed;
    } catch (problem) {
      show(effect, problem);
    }
  });
  dialog.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    confirm.disabled = true;
    status.textContent = "Starting the run…";
    try {
      const reason = new FormData(event.target).get("reason");
      const found = await (await request(`${base}/api/v1/failed/replay`, { merge_ids: chosen(), dry_run: false, reason })).json();
      const run = await ended(found.run.status_url, (state) => (status.textContent = `Run ${state}…`));
      if (run.state === "success") return location.reload();
      show(status, { message: "The run failed.", remedy: "See its log in Airflow." });
    } catch (problem) {
      show(status, problem);
    }
  });
}

// A refused event: corrected, checked by a dry run, then replayed.
function correct(form, base) {
  const dialog = document.getElementById("correct-dialog");
  if (!dialog) return;
  const [place, effect, status] = [".event", ".effect", ".status"].map((name) => dialog.querySelector(name));
  const [check, confirm] = ["[data-check]", "[data-confirm]"].map((name) => dialog.querySelector(name));
  const url = `${base}/api/v1/failed/replay`;
  let id = "";
  let checked = null;

  const changed = () => {
    checked = null;
    confirm.disabled = true;
  };
  const wrong = (problem) => {
    place.querySelector("textarea")?.setAttribute("aria-invalid", "true");
    show(effect, problem);
  };
  const read = (text) => {
    let event;
    try {
      event = JSON.parse(text);
    } catch (error) {
      throw { message: "This is not JSON.", remedy: error.message, code: "NOT_JSON" };
    }
    if (event === null || typeof event !== "object" || Array.isArray(event)) {
      throw { message: "An event is a JSON object.", remedy: "It begins with { and ends with }.", code: "NOT_JSON" };
    }
    return event;
  };
  async function open(merge) {
    id = merge;
    changed();
    check.disabled = true;
    status.textContent = "";
    effect.replaceChildren();
    place.replaceChildren(element("p", "Reading the event…", { class: "loading" }));
    dialog.showModal();
    try {
      const html = await (await request(`${base}/failed/${merge}/event`)).text();
      if (id !== merge) return;
      place.innerHTML = html;
      place.querySelector("textarea").focus();
      check.disabled = false;
    } catch (problem) {
      show(place, problem);
    }
  }
  for (const button of form.querySelectorAll("[data-correct]")) {
    button.addEventListener("click", () => open(button.dataset.correct));
  }
  place.addEventListener("input", () => {
    if (checked) effect.replaceChildren(element("p", "Changed: check it again.", { class: "muted" }));
    changed();
  });
  check.addEventListener("click", async () => {
    const area = place.querySelector("textarea");
    const text = area.value;
    changed();
    const done = busy(check, status, "Checking the effect…");
    try {
      const corrected = { [id]: read(text) };
      const [item] = (await (await request(url, { corrected, dry_run: true })).json()).items;
      if (item.code !== "CORRECTED") throw { message: item.note, code: item.code };
      area.removeAttribute("aria-invalid");
      effect.replaceChildren(element("p", `It would be ${item.note}`, { class: "alert info" }));
      if (area.value === text) {
        checked = corrected;
        confirm.disabled = false;
      }
    } catch (problem) {
      wrong(problem);
    } finally {
      done();
    }
  });
  dialog.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!checked) return;
    const reason = new FormData(event.target).get("reason");
    const corrected = checked;
    changed();
    status.textContent = "Starting the run…";
    try {
      const found = await (await request(url, { corrected, dry_run: false, reason })).json();
      const run = await ended(found.run.status_url, (state) => (status.textContent = `Run ${state}…`));
      if (run.state !== "success") throw { message: "The run failed.", remedy: "See its log in Airflow." };
      const { merge } = await (await request(`${base}/api/v1/merges/${id}`)).json();
      if (merge.replayed_as) return location.assign(`${base}/merges/${merge.replayed_as}`);
      status.textContent = "";
      wrong({ message: "Meanwhile it could not be replayed.", remedy: "Check it again." });
    } catch (problem) {
      status.textContent = "";
      wrong(problem);
    }
  });
}

export function onForms(base) {
  for (const [id, use] of Object.entries({ "new-merge": newMerge, upload, replay })) {
    const form = document.getElementById(id);
    if (form) use(form, base);
  }
  const failed = document.getElementById("replay");
  if (failed) correct(failed, base);
}
