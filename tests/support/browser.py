"""A real Chromium for the tests of a page, without network and with an empty profile."""

import importlib.util
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)
WIDE, NARROW = (1280, 900), (390, 844)


def program(*names):
    """The first of these programs that is installed; a test never does without."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.fail(f"{names[0]} is not installed: on Debian, `make test` installs it as root")
    return found


def axe_script():
    """axe-core, from the package that brings it; its own dependencies are not needed."""
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or spec.submodule_search_locations is None:
        pytest.fail("axe-playwright-python is not installed: `make test` installs it")
    return Path(spec.submodule_search_locations[0], "axe.min.js").read_text("utf-8")


class Browser:
    """Chromium with one page, and what the tests do with it."""

    def __init__(self, driver):
        self.driver = driver
        self.script = driver.execute_script

    def open(self, path, size=WIDE, scheme="light", *, touch=False):
        """Open a file or a URL, as a screen of this size and colour scheme shows it."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self.cdp("Emulation.setDeviceMetricsOverride", metrics)
        self.cdp("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        self.scheme(scheme)
        self.driver.get(path.as_uri() if isinstance(path, Path) else path)

    def scheme(self, name):
        feature = {"name": "prefers-color-scheme", "value": name}
        self.cdp("Emulation.setEmulatedMedia", {"features": [feature]})

    def cdp(self, command, values):
        return self.driver.execute_cdp_cmd(command, values)

    def press(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def hover(self, element):
        ActionChains(self.driver).move_to_element(element).perform()

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector):
        """The text of each element, as it is in the document, in one call."""
        query = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
        return self.script(query, selector)

    def shows(self, selector, texts):
        """Wait until these are the texts: a page may draw its elements some at a time."""
        found = []

        def is_shown():
            found[:] = self.texts(selector)
            return found == texts

        try:
            self.wait(is_shown)
        except TimeoutException:
            pytest.fail(f"{selector} shows {found}, not {texts}")

    def until(self, condition, *values, seconds=15):
        """Wait until a JavaScript expression is true; returns its value."""
        return self.wait(lambda: self.script(f"return {condition}", *values), condition, seconds)

    def wait(self, check, what="", seconds=15):
        """Wait until a function returns something true, and return that."""
        waiting = WebDriverWait(self.driver, seconds, poll_frequency=0.03)
        return waiting.until(lambda _: check(), what)

    def errors(self):
        """What the page complained about since the last look."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def axe(self, *rules):
        """The faults that axe finds: by name, with the element; of these rules, or of all."""
        if not self.script("return Boolean(window.axe)"):
            # Not as an element of the page, whose policy runs no other script.
            self.cdp("Runtime.evaluate", {"expression": axe_script()})
        only = {"runOnly": list(rules)} if rules else {}
        found = self.driver.execute_async_script(
            "axe.run(document, arguments[0]).then((found) => arguments[1](found.violations))", only
        )
        return [(fault["id"], node["html"]) for fault in found for node in fault["nodes"]]


@contextmanager
def chromium():
    """Start one; it ends with the block."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium", "chromium-browser", "google-chrome")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(program("chromedriver")))
        try:
            yield Browser(driver)
        finally:
            driver.quit()
