"""A person at a browser: signs in, opens pages, looks for what keeps people out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe

APP = "/account-merge"
#: What a browser says of itself that is nobody's fault: Airflow asks for a token before there is one.
HARMLESS = ("401", "favicon")


class Person:
    """One user in one window.

    :param problems: what went wrong in the page's scripts since it was opened; tests want none.
    """

    def __init__(self, context: Any, url: str, pictures: Path, kind: str) -> None:
        self.context, self.url, self.pictures, self.kind = context, url, pictures, kind
        self.problems: list[str] = []
        self.page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._heard)

    def _heard(self, message: Any) -> None:
        if message.type == "error" and not any(word in message.text for word in HARMLESS):
            self.problems.append(message.text)

    def sign_in(self, user: str, password: str) -> None:
        """By Airflow's own form."""
        self.page.goto(f"{self.url}/")
        self.page.fill("input[name=username]", user)
        self.page.fill("input[name=password]", password)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(lambda url: "/auth/login" not in url)

    def open(self, path: str) -> Any:
        """A page of ours, with all that it loads behind itself."""
        self.problems.clear()
        answer = self.page.goto(f"{self.url}{APP}{path}")
        self.page.wait_for_function(
            "() => [...document.querySelectorAll('[data-load]')].every(p => !p.querySelector('.loading'))"
        )
        return answer

    def picture(self, name: str) -> None:
        """Keep what is seen."""
        self.page.screenshot(path=self.pictures / f"{name}-{self.kind}.png", full_page=True)

    def barriers(self) -> list[str]:
        """What axe-core calls serious or critical, with where."""
        found = Axe().run(self.page).response["violations"]
        return [f"{v['id']}: {v['help']}: {[n['target'] for n in v['nodes']][:3]}"
                for v in found if v["impact"] in ("serious", "critical")]  # fmt: skip

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
