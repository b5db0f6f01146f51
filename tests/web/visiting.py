"""A page of the web app as one person has it open."""

from typing import Any

from serving import Serving


class Visit:
    """A page of the app in a fresh browser profile, and what it did that it should not have: `wrongs`."""

    def __init__(self, browser: Any, web: Serving, **options: Any) -> None:
        self.web, self.wrongs = web, []
        self.context = browser.new_context(accept_downloads=True, **options)
        self.context.set_default_timeout(60_000)  # busy machines take their time
        self.page = self.context.new_page()
        self.page.on("request", self._request)
        self.page.on("console", lambda said: said.type == "error" and self.wrongs.append(said.text))
        self.page.on("pageerror", lambda error: self.wrongs.append(str(error)))

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.web.url, "blob:")):
            self.wrongs.append(f"a request to {request.url}")

    def always_likeliest(self) -> None:
        """Let answers take the likeliest token each time, so that they are the same at every run."""
        self.page.add_init_script(
            "localStorage['twofold.settings'] ??= JSON.stringify({sampling: {temperature: 0}})"
        )

    def open(self, name: str = "chat") -> Any:
        """Return the page, at #/name."""
        self.page.goto(f"{self.web.url}/#/{name}")
        return self.page

    def ask(self, text: str, model: str = "box") -> Any:
        """Open a chat with a model, say something and return the page when the answer is complete."""
        page = self.open()
        page.get_by_label("Model", exact=True).select_option(model)
        page.get_by_label("Message", exact=True).fill(text)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Again", exact=True).wait_for()
        return page
