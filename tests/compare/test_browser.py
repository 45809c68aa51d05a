"""The page of a comparison in Debian's Chromium: what a reader does, and what must not happen."""

import base64

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from lightning_sae.compare.__main__ import main

from .conftest import write_run
from .test_page import EVIL, variants

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A run for each k and d_sae, numbered by k; the FVU falls, and the accuracy is the same in all."""
    folder = tmp_path_factory.mktemp("sweep")
    for number in range(8):
        k, d_sae = 2 ** (2 + number // 2), (128, 256)[number % 2]
        values = {"val/fvu": 0.5 - 0.05 * number, "alignment/named": 10.0 * number, "zero_shot/original": 0.9}
        config = {"sae": {"k": k, "d_sae": d_sae}}
        write_run(folder / str(number), values, config, overrides=[f"sae.k={k}", f"sae.d_sae={d_sae}"])
    (write_run(folder / "8", overrides=["sae.k=64"]) / "metrics.csv").unlink()
    main([str(folder)])
    return folder / "compare" / "compare.html"


@pytest.fixture
def opened(browser, page):
    return open_page(browser, page)


def open_page(browser, path):
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(path.as_uri())
    WebDriverWait(browser, 60).until(lambda b: b.find_element(By.ID, "parallel-status").text)
    return browser


def errors(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def status(browser):
    return browser.find_element(By.ID, "parallel-status").text


def shown(browser):
    rows = browser.find_elements(By.CSS_SELECTOR, "#runs-table tbody tr:not(.unfinished)")
    return [
        int(row.find_element(By.TAG_NAME, "td").text.removeprefix("★ ")) for row in rows if row.is_displayed()
    ]


def handle(browser, title, end):
    where = "foot" if end == "low" else "top"
    return browser.find_element(By.CSS_SELECTOR, f'[aria-label="{title}, {where} of what is shown"]')


def show_all(browser):
    button = in_view(browser, browser.find_element(By.ID, "parallel-reset"))
    button.click()
    assert not button.is_enabled()


def in_view(browser, element):
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    return element


def titles(browser):
    return [found.text for found in browser.find_elements(By.CSS_SELECTOR, "#parallel .title")]


def test_it_opens_without_an_error_and_without_a_request(opened):
    assert errors(opened) == []
    entries = opened.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert [name for name in entries if not name.startswith("data:")] == []
    assert titles(opened) == ["sae.k", "sae.d_sae", "FVU", "named"]  # the accuracy is the same in all
    assert status(opened) == "8 runs"
    assert shown(opened) == [7, 6, 5, 4, 3, 2, 1, 0]
    heads = [head.text for head in opened.find_elements(By.TAG_NAME, "h2")]
    assert heads.index("Runs") < heads.index("The best run")


def test_arrow_keys_move_the_ends_of_an_axis(opened):
    foot = handle(opened, "sae.k", "low")
    assert (foot.get_attribute("aria-valuetext"), foot.get_attribute("aria-valuenow")) == ("4", "0")
    foot.send_keys(Keys.ARROW_UP)
    assert foot.get_attribute("aria-valuetext") == "8"
    assert (status(opened), shown(opened)) == ("6 of 8 runs", [7, 6, 5, 4, 3, 2])
    handle(opened, "sae.d_sae", "high").send_keys(Keys.ARROW_DOWN)
    assert shown(opened) == [6, 4, 2]
    assert len(opened.find_elements(By.CSS_SELECTOR, "path.run.out")) == 5
    foot.send_keys(Keys.END)  # no farther than the other end
    assert (foot.get_attribute("aria-valuetext"), shown(opened)) == ("32", [6])
    foot.send_keys(Keys.ESCAPE)
    assert shown(opened) == [6, 4, 2, 0]
    show_all(opened)
    assert status(opened) == "8 runs"


def test_the_better_end_of_a_value_is_up(opened):
    top = handle(opened, "FVU", "high")
    assert top.get_attribute("aria-valuetext") == "0.15"
    handle(opened, "FVU", "low").send_keys(Keys.END)
    assert shown(opened) == [7]
    show_all(opened)
    handle(opened, "named", "high").send_keys(Keys.HOME)
    assert shown(opened) == [0]


def test_a_brush_is_drawn_with_the_mouse_and_a_click_takes_it_away(opened):
    axis = opened.find_element(By.CSS_SELECTOR, "#parallel .axis")
    height = opened.execute_script("return arguments[0].getBoundingClientRect().height", axis)
    zone = in_view(opened, opened.find_element(By.CSS_SELECTOR, "#parallel .zone"))
    mouse = ActionChains(opened, duration=20)
    mouse.move_to_element_with_offset(zone, 0, int(-0.4 * height)).click_and_hold()
    # from 0.9 of the axis down to 0.6: of 4, 8, 16 and 32 only 16 lies there
    mouse.move_by_offset(0, int(0.3 * height)).release().perform()
    assert shown(opened) == [5, 4]
    bar = opened.find_element(By.CSS_SELECTOR, "#parallel .brush")
    assert float(bar.get_attribute("height")) == pytest.approx(0.3 * height, abs=2)
    top = handle(opened, "sae.k", "high")
    ActionChains(opened, duration=20).drag_and_drop_by_offset(top, 0, int(-0.2 * height)).perform()
    assert shown(opened) == [7, 6, 5, 4]
    ActionChains(opened, duration=20).move_to_element_with_offset(zone, 0, 100).click().perform()
    assert status(opened) == "8 runs"
    assert errors(opened) == []


def test_a_run_is_pointed_at_in_both(opened):
    row = in_view(opened, opened.find_elements(By.CSS_SELECTOR, "#runs-table tbody tr")[2])
    ActionChains(opened, duration=20).move_to_element(row).perform()
    lines = opened.find_elements(By.CSS_SELECTOR, "path.run")[::-1]  # the best is drawn last
    assert [i for i, line in enumerate(lines) if "pointed" in line.get_attribute("class")] == [2]


def test_a_narrow_screen_scrolls_parts_and_not_the_page(opened):
    narrow = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    try:
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 400
        wide = "return document.getElementById('parallel').scrollWidth"
        WebDriverWait(opened, 60).until(lambda b: b.execute_script(wide) > 400)
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_dark_screen_gets_a_dark_page(opened):
    paper = "return getComputedStyle(document.body).backgroundColor"
    assert opened.execute_script(paper) == "rgb(255, 255, 255)"
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    assert opened.execute_script(paper) == "rgb(13, 17, 23)"
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_paper_gets_all_but_the_configs(opened):
    made = opened.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    assert base64.b64decode(made["data"]).startswith(b"%PDF")
    folded = opened.find_elements(By.CSS_SELECTOR, "details:not(.config)")
    assert all(part.get_attribute("open") for part in folded)
    assert errors(opened) == []


def test_what_a_user_wrote_never_runs(browser, tmp_path, write_picture):
    main([str(variants(tmp_path / "runs", write_picture)), "--out", str(tmp_path / "out")])
    open_page(browser, tmp_path / "out" / "compare.html")
    assert EVIL in browser.find_element(By.CSS_SELECTOR, "#parallel .tick title").get_attribute("textContent")
    assert browser.execute_script("return window.ran") is None
    assert errors(browser) == []
    heads = [head.text for head in browser.find_elements(By.TAG_NAME, "h2")]
    assert heads.index("Side by side") < heads.index("Runs")
    refused = """
        const main = document.querySelector("main");
        try { main.insertAdjacentHTML("beforeend", "<img src=x onerror='window.ran = 1'>"); }
        catch (error) { return error.name; }
    """
    assert browser.execute_script(refused) == "TypeError"
