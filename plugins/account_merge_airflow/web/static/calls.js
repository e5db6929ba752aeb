// Calls of our own server, and its problems in words.
export class Problem extends Error {
  constructor(found) {
    super(found.detail || "The server could not be reached.");
    this.code = found.code || "";
    this.remedy = found.remedy || "Check the connection, then try again.";
    this.wrong = found.errors || [];
  }
}

export async function request(url, body = null, headers = {}) {
  let answer;
  try {
    answer = await fetch(url, body === null ? { headers } : {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "x-csrf-token": document.querySelector('meta[name="csrf-token"]').content,
        ...headers,
      },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Problem({});
  }
  if (!answer.ok) throw new Problem(await answer.json().catch(() => ({ detail: `The server answered ${answer.status}.` })));
  return answer;
}

export function element(name, content = "", attributes = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...(Array.isArray(content) ? content : [content]));
  return made;
}

// Show a problem in place of the answer, with a way to try again.
export function show(place, problem, again = null) {
  const words = [element("strong", problem.message), problem.remedy || ""];
  for (const wrong of problem.wrong || []) words.push(element("div", `${wrong.where}: ${wrong.what}`));
  if (problem.code) words.push(element("div", problem.code, { class: "small muted" }));
  if (again) {
    const button = element("button", "Try again", { type: "button" });
    button.addEventListener("click", again);
    words.push(element("div", button));
  }
  place.replaceChildren(element("div", words, { class: "alert", role: "alert" }));
}

export function busy(button, status, words) {
  button.disabled = true;
  status.textContent = words;
  return () => {
    button.disabled = false;
    status.textContent = "";
  };
}

// Ask for a run's state until the run has ended; return the run.
export async function ended(url, tell) {
  for (;;) {
    const run = await (await request(url)).json();
    tell(run.state);
    if (run.state === "success" || run.state === "failed") return run;
    await new Promise((done) => setTimeout(done, 1500));
  }
}

// Wait until a run has proposed its merge; it then waits for a person and does not end.
export async function proposed(url, run) {
  for (;;) {
    const found = await request(url).then((answer) => answer.json()).catch(() => null);
    if (found?.approval?.run_id === run.run_id && !found.merge.error) return;
    const { state } = await (await request(run.status_url)).json();
    if (state === "failed") throw new Problem({ detail: "It was not proposed.", remedy: "See the run's log in Airflow for why." });
    if (state === "success") return;
    await new Promise((done) => setTimeout(done, 1500));
  }
}

export function counts(found) {
  return Object.entries(found).map(([name, number]) =>
    element("span", `${number.toLocaleString("en")} ${name}`, { class: `what what-${name}` }));
}
