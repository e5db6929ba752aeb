// Light or dark as Airflow is: its page around this one says so, else its stored choice, else the system's.
(() => {
  const root = document.documentElement;
  const around = (() => {
    try {
      return window.parent !== window ? window.parent.document.documentElement : null;
    } catch {
      return null;
    }
  })();
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  function chosen() {
    for (const theme of ["dark", "light"]) {
      if (around?.classList.contains(theme)) return theme;
    }
    let stored = null;
    try {
      stored = localStorage.getItem("theme");
    } catch {
      // No storage here: the system decides.
    }
    return stored === "dark" || stored === "light" ? stored : system.matches ? "dark" : "light";
  }
  const show = () => (root.className = chosen());
  show();
  system.addEventListener("change", show);
  window.addEventListener("storage", show);
  if (around) new MutationObserver(show).observe(around, { attributes: true, attributeFilter: ["class"] });
  if (around) root.classList.add("framed");
})();
