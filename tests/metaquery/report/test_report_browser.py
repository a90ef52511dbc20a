"""The report in a real browser: it shows, sorts, filters, tells values, fits and stays offline."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from headless import chromium

import metaquery as mq

pytest.importorskip("selenium", reason="selenium is not installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as session:
        yield session


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
    assert len(boxes) == 11 + 3
    assert all(w >= 200 and h >= 80 for w, h in boxes)
    over = browser.execute_script(
        "return [...document.querySelectorAll('section *')].filter(e => !e.closest('.scroll, svg') && "
        "e.checkVisibility() && e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML.slice(0, 80))"
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
    rows = texts(browser, "#by_dataset tbody tr td:first-child")
    assert rows == ["alpha", "alpha", "beta", "beta", "gamma", "gamma"]
    assert texts(browser, "#effort tbody td:first-child") == order
    assert texts(browser, "h1") == [browser.title]
    assert any("gamma (family family_one)" in text for text in texts(browser, "dt"))


def test_a_click_sorts_by_number_and_another_one_back(browser: Any, address: str) -> None:
    opened(browser, address, 1280)
    keys = "return [...document.querySelectorAll('#by_dataset tbody tr')].map(r => Number(r.cells[2].dataset.key))"
    found = {}
    for direction in ("ascending", "descending"):
        browser.execute_script("document.querySelectorAll('#by_dataset tr.columns button')[2].click()")
        found[direction] = browser.execute_script(keys)
        header = "return document.querySelectorAll('#by_dataset tr.columns th')[2].getAttribute('aria-sort')"
        assert browser.execute_script(header) == direction
    assert found["ascending"] == sorted(found["ascending"])
    assert found["descending"] == sorted(found["ascending"], reverse=True)
    browser.execute_script("document.querySelectorAll('#by_dataset tr.columns button')[1].click()")
    assert texts(browser, "#by_dataset tbody td:nth-child(2)") == ["dehb"] * 3 + ["random"] * 3


def test_the_filter_shows_what_is_asked_for(browser: Any, address: str) -> None:
    opened(browser, address, 1280)
    box = browser.find_element("id", "filter")
    for words, shown in (
        ("CT", ["alpha", "gamma"]),
        ("ct gam", ["gamma"]),
        ("nothing such", []),
        ("", ["alpha", "beta", "gamma"]),
    ):
        box.clear()
        box.send_keys(words or "x\b")
        rows = "[...document.querySelectorAll('#by_dataset tbody tr')].filter(e => e.checkVisibility())"
        assert browser.execute_script(f"return {rows}.map(r => r.cells[0].innerText)") == [
            d for d in shown for _ in "ab"
        ]
        titles = (
            "return [...document.querySelectorAll('.panel')].filter(e => e.checkVisibility()).map(e => e.innerText)"
        )
        assert [text.split()[0] for text in browser.execute_script(titles)] == shown
        assert texts(browser, "#shown") == [f"{len(shown)} of 3 datasets"]
        named = "#figure-generalisation text:not(.dim)[data-datasets]"
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)"
        assert [text for text in browser.execute_script(script, named) if text.isalpha()] == shown * 2
        striped = browser.execute_script(f"return {rows}.map(r => r.classList.contains('even'))")
        assert striped == [i % 2 == 1 for i in range(2 * len(shown))]


def test_a_chart_tells_its_values_to_the_mouse(browser: Any, address: str, evaluation: mq.Evaluation) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    opened(browser, address, 1280)
    chart = browser.find_element("css selector", "#figure-regret_test svg")
    right = browser.execute_script(
        "const box = arguments[0].getBoundingClientRect();"
        "arguments[0].scrollIntoView({block: 'center'}); return Math.floor(box.width / 2) - 2",
        chart,
    )
    ActionChains(browser).move_to_element_with_offset(chart, right, 0).perform()
    (told,) = texts(browser, "#tip")
    assert told.splitlines()[0] == "15 min"
    bands = evaluation.analysis.curves("test")
    for line, label, band in zip(told.splitlines()[1:], evaluation.analysis.optimizers, bands, strict=True):
        assert line.split() == [label, *f"{band.mean[-1]:.3f} [{band.low[-1]:.3f}, {band.high[-1]:.3f}]".split()]
    assert browser.execute_script("return document.querySelectorAll('.cursor').length") == 1
    ActionChains(browser).move_to_element(browser.find_element("tag name", "h2")).perform()
    assert not browser.find_element("id", "tip").is_displayed()
    assert browser.execute_script("return document.querySelectorAll('.cursor').length") == 0


def test_a_matrix_tells_its_values_to_mouse_and_keyboard(browser: Any, address: str, evaluation: mq.Evaluation) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    opened(browser, address, 1280)
    figure = browser.find_element("css selector", "#figure-generalisation svg")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", figure)
    ActionChains(browser).move_to_element(figure.find_element("css selector", "[data-tip]")).perform()
    (told,) = texts(browser, "#tip")
    found = evaluation.provenance["transfer"]
    assert told.splitlines()[:3] == [
        f"best on alpha of {found['shared'][0][0]} shared configs",
        "tested on alpha",
        f"test regret {found['regret'][0][0]:.3f}, AUC {found['value'][0][0]:.4f}",
    ]
    assert any(line.startswith("learning_rate = ") for line in told.splitlines())
    figure.send_keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    sources, targets = found["sources"], evaluation.analysis.datasets
    assert texts(browser, "#tip")[0].splitlines()[1] in (f"tested on {targets[2]}", "no config in common")
    assert sources[1] in texts(browser, "#tip")[0].splitlines()[0]
    figure.send_keys(Keys.ESCAPE)
    assert not browser.find_element("id", "tip").is_displayed()


def contrast(first: str, second: str) -> float:
    """WCAG contrast ratio of two `rgb(...)` colours."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_day_and_by_night(browser: Any, address: str, scheme: str, tmp_path: Path) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        opened(browser, address, 1280)
        colours = browser.execute_script(
            "const c = (s, p) => getComputedStyle(document.querySelector(s))[p];"
            "return [c('section', 'backgroundColor'), c('section', 'color'), c('.note', 'color'),"
            " c('figure svg text', 'fill')]"
        )
        keep_screenshot(browser, tmp_path / f"{scheme}.png")
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    card, *shown = colours
    assert all(contrast(card, colour) >= 4.5 for colour in shown), colours
    assert contrast(card, "rgb(0, 0, 0)" if scheme == "light" else "rgb(255, 255, 255)") > 12


def keep_screenshot(browser: Any, path: Path) -> None:
    """The whole page as a picture, for whoever wants to look at what the test saw."""
    size = browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    path.write_bytes(base64.b64decode(shot["data"]))


def test_it_prints_in_the_dark_on_white_paper(browser: Any, address: str, tmp_path: Path) -> None:
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": dark})
    try:
        opened(browser, address, 718)  # A4 less its margins
        keep_screenshot(browser, tmp_path / "print.png")
        page, ink = browser.execute_script(
            "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
        )
        over = browser.execute_script(
            "return [...document.querySelectorAll('table, svg')].filter(e => e.checkVisibility() && "
            "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.id || e.ariaLabel)"
        )
        hidden = browser.execute_script(
            "return [...document.querySelectorAll('nav, .filter, #tip')].filter(e => e.checkVisibility()).length"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    assert page == "rgb(255, 255, 255)"
    assert contrast(page, ink) > 12
    assert over == []
    assert hidden == 0
    assert base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"]).startswith(b"%PDF")
