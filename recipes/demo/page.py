"""Take a picture of the page of `fca demo` at work: ``python -m recipes.demo.page OUT.png``.

Needs gradio, selenium, Pillow, and Chromium with its driver.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from fca.errors import InputError
from recipes import program
from recipes.demo.__main__ import DATA

RECORDING = DATA / "two_talkers" / "mixture.flac"
WAIT = 300
"""Seconds until a browser on a busy machine must have answered."""


@contextlib.contextmanager
def chromium(width: int = 1100, height: int = 1600) -> Iterator[Any]:
    """Headless Chromium, driven by selenium.

    Raises
    ------
    InputError
        If one of them is not installed.
    """
    try:
        from selenium import webdriver
    except ImportError:
        raise InputError("selenium is not installed") from None
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        raise InputError("no Chromium with its driver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", f"--window-size={width},{height}"):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield chrome
    finally:
        chrome.quit()


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Address of the page while it is served."""
    from fca.demo import build_page

    page = build_page()
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        yield address
    finally:
        page.close()


class Visitor:
    """Somebody who looks at the page in a browser."""

    def __init__(self, browser: Any, address: str) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        self.browser = browser
        self._wait = WebDriverWait(browser, WAIT)
        browser.get(address)
        self.until(lambda: self.all("#separate"))

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something."""
        self._wait.until(lambda _: condition())

    def all(self, selector: str) -> list[Any]:
        """Elements that a CSS selector finds."""
        found: list[Any] = self.browser.find_elements("css selector", selector)
        return found

    def text(self, selector: str) -> str:
        """What is written there."""
        return " ".join(element.text for element in self.all(selector))

    def drop(self, recording: Path) -> None:
        """Drop a recording on the page."""
        self.all("input[type=file]")[0].send_keys(str(recording))
        self.until(lambda: recording.name in self.text("body").replace("\n", ""))

    def press(self) -> None:
        """Press the button."""
        self.all("#separate")[0].click()

    def width(self, selector: str) -> int:
        """Width of a picture in pixels, 0 if there is none."""
        script = "const i = document.querySelector(arguments[0]); return i ? i.naturalWidth : 0"
        return int(self.browser.execute_script(script, f"{selector} img"))


def main(path: Annotated[Path, typer.Argument(help="picture to write, .png")]) -> None:
    """Separate the shipped recording on the page, with the default method, and take its picture."""
    from PIL import Image

    with chromium() as browser, served() as address:
        visitor = Visitor(browser, address)
        visitor.drop(RECORDING)
        visitor.press()
        visitor.until(lambda: "2 talkers" in visitor.text("#status"))
        visitor.until(lambda: visitor.width("#picture") > 0)
        visitor.until(lambda: visitor.all("#talker2 audio"))
        # The whole page, and what the window has around it.
        height = "document.body.scrollHeight + window.outerHeight - window.innerHeight"
        browser.set_window_size(1100, browser.execute_script(f"return {height}"))
        picture = Image.open(io.BytesIO(browser.get_screenshot_as_png()))
        picture.convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    program.run(main)
