"""A real Chromium without a window, in the network namespace of the thread that asks for it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from l3net.lab.wait import until

AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]


class Page:
    """What a test does with the browser, and sees there."""

    def __init__(self, driver: Any, base: str) -> None:
        self.driver, self.base = driver, base

    def open(self, fragment: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{self.base}{fragment}")

    def find(self, selector: str) -> list[Any]:
        found: list[Any] = self.driver.find_elements("css selector", selector)
        return found

    def script(self, text: str, *arguments: object) -> Any:
        return self.driver.execute_script(text, *arguments)

    def text(self, selector: str = "body") -> str:
        """Of the first one; empty where there is none."""
        found = self.script(
            "const e = document.querySelector(arguments[0]); return e ? e.innerText || e.textContent : ''",
            selector,
        )
        return str(found)

    def wait(self, what: Callable[[], object], why: str, seconds: float = 20) -> None:
        until(lambda: bool(what()), seconds, lambda: f"{why}; the page says: {self.text()[:1500]}")

    def rows(self, caption: str) -> list[dict[str, str]]:
        """A table, by the beginning of its caption: rows by column."""
        found = self.script(
            """
            for (const table of document.querySelectorAll('table')) {
              if (!table.caption.textContent.startsWith(arguments[0])) continue;
              const names = [...table.tHead.rows[0].cells].map(each => each.innerText);
              return [...table.tBodies[0].rows].filter(row => row.cells.length === names.length)
                .map(row => Object.fromEntries([...row.cells].map((cell, n) => [names[n], cell.innerText])));
            }
            return [];""",
            caption,
        )
        return list(found)

    def focused(self) -> str:
        """What has the focus, by its name for a screen reader, or its text."""
        return str(
            self.script(
                "const e = document.activeElement;"
                "return e.getAttribute('aria-label') || e.innerText || e.placeholder || e.tagName"
            )
        )

    def keys(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def scheme(self, name: str) -> None:
        """`light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def accessibility(self) -> list[str]:
        """What axe-core finds wrong."""
        import axe_core_python

        source = Path(axe_core_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
        self.script(source)
        found = self.driver.execute_async_script(
            "const done = arguments[1]; axe.run(document, {runOnly: arguments[0]}).then(done)", AXE_RULES
        )
        return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found["violations"]]

    def errors(self) -> list[str]:
        """What the console says that is an error, such as a script that failed or broke the page's policy."""
        return [each["message"] for each in self.driver.get_log("browser") if each["level"] == "SEVERE"]


@contextlib.contextmanager
def browser(base: str, width: int = 1280, height: int = 800) -> Iterator[Page]:
    """`base` is the page's address, with a slash at its end."""
    chromium, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver_path is None:
        pytest.skip("chromium or chromium-driver is not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for each in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(each)
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    driver.set_script_timeout(60)
    try:
        page = Page(driver, base)
        page.size(width, height)
        yield page
    finally:
        driver.quit()
