"""The page in a real browser, by keyboard: choose a dataset, look at curves, sort, and query."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from headless import chromium

import metaquery as mq
from metaquery.browse.server import PageServer

pytest.importorskip("selenium", reason="selenium is not installed")


@pytest.fixture(scope="module")
def address(corpus_path: Path) -> Iterator[str]:
    with PageServer(str(corpus_path), 0) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made.address
        made.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as session:
        yield session


@pytest.fixture
def page(browser: Any, address: str) -> Any:
    """The page, opened afresh and ready; whatever the test does, nothing may be logged to the console."""
    browser.get_log("browser")
    browser.get("about:blank")  # a second visit to the same address would keep what was chosen
    browser.get(address)
    until(browser, "return 'ready' in document.body.dataset")
    yield browser
    wanted = [entry for entry in browser.get_log("browser") if "/sql" not in entry["message"]]
    assert wanted == []


def until(browser: Any, script: str) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 60, poll_frequency=0.05).until(lambda b: b.execute_script(script))


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    actions = ActionChains(browser, duration=0)
    for key in keys:
        actions.send_keys(key)
    actions.perform()


def texts(browser: Any, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)"
    return list(browser.execute_script(script, selector))


def drawn(browser: Any) -> set[str]:
    """The trials whose curves are drawn."""
    return set(browser.execute_script("return [...document.querySelectorAll('.curve')].map(e => e.dataset.trial)"))


def best_trials(corpus: mq.Corpus, dataset: str) -> set[str]:
    query = f"select trial_id from best_epoch where dataset = '{dataset}' order by rank, trial_id limit 50"
    return {row[0] for row in corpus.sql(query).rows()}


def test_it_opens_on_the_first_dataset_with_curves_and_tables(page: Any, corpus: mq.Corpus) -> None:
    assert drawn(page) == best_trials(corpus, "alpha")
    assert texts(page, "#datasets tbody td:first-child") == ["alpha", "beta", "gamma"]
    wide = page.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    n = corpus.sql("select count(*) from trials where dataset = 'alpha'").rows()[0][0]
    assert len(texts(page, "#trials tbody tr")) == n


def test_a_dataset_is_chosen_with_the_keyboard_alone(page: Any, corpus: mq.Corpus) -> None:
    press(page, "d", "\ue015")  # the select, then arrow down
    until(page, "return document.getElementById('dataset').value === 'beta'")
    expected = best_trials(corpus, "beta")
    first = sorted(expected)[0]
    until(page, f"return document.querySelector('[data-trial=\"{first}\"]') !== null")
    assert drawn(page) == expected
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert page.execute_script("return document.activeElement.id") == "dataset"
    assert page.execute_script(outline) == "solid"
    assert "dataset=beta" in page.current_url  # and can be linked to
    page.refresh()
    until(page, "return 'ready' in document.body.dataset")
    assert drawn(page) == expected


def test_everything_can_be_reached_with_tab(page: Any) -> None:
    reached = []
    for _ in range(12):
        press(page, "\ue004")
        reached.append(page.execute_script("const e = document.activeElement; return e.id || e.tagName"))
    assert reached[:5] == ["dataset", "backbone", "column", "chart", "SUMMARY"]
    assert "BUTTON" in reached


def test_arrows_read_values_off_the_chart(page: Any, corpus: mq.Corpus) -> None:
    press(page, "c", "\ue014", "\ue014", "\ue014")  # into the first curve, then two epochs on
    readout = page.execute_script("return document.getElementById('readout').value")
    trial = page.execute_script("return document.querySelector('.curve.chosen').dataset.trial")
    value = corpus.sql(f"select val_auc from curves where trial_id = '{trial}' and epoch = 3").rows()[0][0]
    assert f"trial {trial} · epoch 3 · val_auc {float(f'{value:.4g}'):g}" in readout
    press(page, "\ue015")
    assert page.execute_script("return document.querySelector('.curve.chosen').dataset.trial") != trial


def test_pointing_at_the_chart_shows_the_nearest_value(page: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page, duration=0).move_to_element(page.find_element("id", "chart")).perform()
    assert "epoch" in until(page, "return document.querySelector('.curve.chosen') && readout.value")


def test_trials_sort_by_number_with_the_missing_last(page: Any) -> None:
    script = "return [...document.querySelectorAll('#trials tbody tr')].map(r => r.cells[3].textContent)"
    header = page.find_elements("css selector", "#trials th button")[3]
    for direction, sign in (("ascending", 1), ("descending", -1)):
        page.execute_script("arguments[0].click()", header)
        values = [sign * float(v) for v in page.execute_script(script) if v != "·"]
        assert values == sorted(values)
        assert page.execute_script(script)[-1] == "·"  # the trial that ran no epoch
        assert page.execute_script("return arguments[0].parentNode.getAttribute('aria-sort')", header) == direction


def test_the_sql_box_answers_and_refuses(page: Any, tmp_path: Path) -> None:
    press(page, "q")
    box = page.switch_to.active_element
    box.clear()
    box.send_keys("select count(*) as n, 'd' as letter from datasets", "\ue009\ue007")  # Ctrl+Enter
    until(page, "return document.querySelector('#query tbody')?.textContent === '3d'")
    box.clear()
    box.send_keys(f"copy trials to '{tmp_path}/stolen.csv'", "\ue009\ue007")
    status = until(page, "const s = document.querySelector('#query .wrong'); return s && s.textContent")
    assert "expected one SELECT statement, got COPY" in status
    assert list(tmp_path.iterdir()) == []
    assert texts(page, "#query tbody") == ["3d"]  # the last answer stays


def test_the_sql_of_a_view_can_be_changed(page: Any, corpus: mq.Corpus) -> None:
    page.execute_script("document.querySelector('#curves details').open = true")
    box = page.find_element("css selector", "#curves textarea")
    assert "learning_curves" in box.get_property("value")
    trial = sorted(best_trials(corpus, "gamma"))[0]
    box.clear()
    box.send_keys(f"select trial_id, epoch, val_loss as value from curves where trial_id = '{trial}'", "\ue009\ue007")
    until(page, f"return document.querySelectorAll('.curve').length === 1 && '{trial}'")
    assert drawn(page) == {trial}
    box.clear()
    box.send_keys("select 1 as epoch", "\ue009\ue007")
    said = until(page, "const s = document.querySelector('#curves .wrong'); return s && s.textContent")
    assert "trial_id, value missing" in said
