"""The report in a real browser: it shows, sorts, fits and stays offline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import metaquery as mq

pytest.importorskip("selenium", reason="selenium is not installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium with chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-background-networking",
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=Service(driver))
    yield session
    session.quit()


@pytest.fixture(scope="module")
def address(evaluation: mq.Evaluation, tmp_path_factory: pytest.TempPathFactory) -> str:
    page: Path = evaluation.report(tmp_path_factory.mktemp("browser") / "out")
    return page.as_uri()


def opened(browser: Any, address: str, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(address)


def texts(browser: Any, selector: str) -> list[str]:
    return list(
        browser.execute_script("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", selector)
    )


@pytest.mark.parametrize("width", [1280, 700])
def test_everything_shows_and_fits(browser: Any, address: str, width: int) -> None:
    opened(browser, address, width)
    scroll, inner = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert inner == width
    assert scroll <= width
    boxes = browser.execute_script(
        "const boxes = [...document.querySelectorAll('figure svg')].map(e => e.getBoundingClientRect());"
        "return boxes.map(b => [b.width, b.height])"
    )
    assert len(boxes) == 4 + 3
    assert all(w >= 200 and h >= 120 for w, h in boxes)
    over = browser.execute_script(
        "return [...document.querySelectorAll('section *')].filter(e => !e.closest('.scroll, svg') && "
        "e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML.slice(0, 80))"
    )
    assert over == []


def test_nothing_is_logged_and_nothing_fetched(browser: Any, address: str) -> None:
    browser.get_log("performance")
    opened(browser, address, 1280)
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in requests if not url.startswith("data:")] == [address]


def test_tables_hold_their_rows(browser: Any, address: str, evaluation: mq.Evaluation) -> None:
    opened(browser, address, 1280)
    order = [row["optimizer"] for row in evaluation.analysis.summary]
    assert texts(browser, "#leaderboard tbody td:first-child") == order
    rows = texts(browser, "#by-dataset tbody tr td:first-child")
    assert rows == ["alpha", "alpha", "beta", "beta", "gamma", "gamma"]
    assert texts(browser, "#effort tbody td:first-child") == order
    assert texts(browser, "h1") == [browser.title]
    assert any("gamma (family family_one)" in text for text in texts(browser, "dt"))


def test_a_click_sorts_by_number_and_another_one_back(browser: Any, address: str) -> None:
    opened(browser, address, 1280)
    keys = "return [...document.querySelectorAll('#by-dataset tbody tr')].map(r => Number(r.cells[2].dataset.key))"
    found = {}
    for direction in ("ascending", "descending"):
        browser.execute_script("document.querySelectorAll('#by-dataset tr.columns button')[2].click()")
        found[direction] = browser.execute_script(keys)
        header = "return document.querySelectorAll('#by-dataset tr.columns th')[2].getAttribute('aria-sort')"
        assert browser.execute_script(header) == direction
    assert found["ascending"] == sorted(found["ascending"])
    assert found["descending"] == sorted(found["ascending"], reverse=True)
    browser.execute_script("document.querySelectorAll('#by-dataset tr.columns button')[1].click()")
    assert texts(browser, "#by-dataset tbody td:nth-child(2)") == ["dehb"] * 3 + ["random"] * 3


def contrast(first: str, second: str) -> float:
    """WCAG contrast ratio of two `rgb(...)` colours."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_day_and_by_night(browser: Any, address: str, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        opened(browser, address, 1280)
        colours = browser.execute_script(
            "const c = (s, p) => getComputedStyle(document.querySelector(s))[p];"
            "return [c('section', 'backgroundColor'), c('section', 'color'), c('.note', 'color'),"
            " c('figure svg text', 'fill')]"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    card, *shown = colours
    assert all(contrast(card, colour) >= 4.5 for colour in shown), colours
    assert contrast(card, "rgb(0, 0, 0)" if scheme == "light" else "rgb(255, 255, 255)") > 12
