"""The page of an audit in Debian's Chromium: what a reader does, and what must not happen."""

import base64

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from lightning_sae.audit.report import write_report
from lightning_sae.audit.shown import ShownAudit
from lightning_sae.report import plain

from .fabricated import HOSTILE, audit, culprit, finding, latent_table, noise_images, result, run_folder

CLASSES = ("star", "moon", "sun")
MANY = 30_000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Sixty latents: attribution falls with the number, every third is unexpected, 7 and 8 are culprits."""
    folder = tmp_path_factory.mktemp("page")
    table = latent_table(60, ("brown background", "star", "moon"), CLASSES, 40)
    found = (
        finding(1, "star", (culprit(7, "star"),)),
        finding(2, "moon", (culprit(8, "moon"),), kind="compound", severity="low"),
    )
    results = (result("star", (1,)), result("moon", (2,)), result("sun"))
    return write_report(
        audit(results, found), run_folder(folder / "run", table, CLASSES, noise_images(40)), folder
    )


@pytest.fixture
def opened(browser, page):
    return open_page(browser, page)


def open_page(browser, path):
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(path.as_uri())
    WebDriverWait(browser, 60).until(lambda b: b.find_element(By.ID, "status").text)
    return browser


def texts(browser, selector):
    return [found.text for found in browser.find_elements(By.CSS_SELECTOR, selector)]


def rows_of(browser):
    return browser.find_elements(By.CSS_SELECTOR, "#rows tr")


def shown(browser):
    return [int(row.get_attribute("data-latent")) for row in rows_of(browser)]


def card(browser):
    return browser.find_element(By.ID, "card").text


def errors(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def test_it_opens_without_an_error_and_without_a_request(opened):
    assert errors(opened) == []
    entries = opened.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert [name for name in entries if not name.startswith("data:")] == []
    for part in ("summary", "classes", "finding-1", "finding-2", "scatter", "curves"):
        assert opened.find_element(By.ID, part).is_displayed()
    assert opened.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert opened.find_element(By.ID, "status").text == "60 latents"
    assert shown(opened) == list(range(25))  # the largest attribution first
    assert "culprit of finding 1" in card(opened)  # something is open from the start


def test_a_search_finds_labels_and_numbers(opened):
    field = opened.find_element(By.ID, "search")
    field.send_keys("BROWN")
    assert opened.find_element(By.ID, "status").text == "20 of 60 latents"
    assert shown(opened) == list(range(0, 60, 3))
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("41")
    assert shown(opened) == [41]
    field.send_keys("x")
    assert shown(opened) == []
    opened.find_element(By.ID, "reset").click()
    assert (opened.find_element(By.ID, "status").text, field.get_property("value")) == ("60 latents", "")


def test_columns_are_sorted_in_either_direction(opened, page):
    def click(name):
        opened.find_element(By.CSS_SELECTOR, f'#heads button[data-sort="{name}"]').click()

    click("attribution")
    assert shown(opened) == list(range(59, 34, -1))
    click("latent")
    assert shown(opened)[:3] == [0, 1, 2]
    click("latent")
    assert shown(opened)[:3] == [59, 58, 57]
    click("alignment")
    alignment = latent_table(60, ("",), CLASSES, 40)["alignment"]
    assert shown(opened) == np.argsort(-alignment.to_numpy())[:25].tolist()
    click("label")
    names = ["brown background"] * 10 + ["moon"] * 10 + ["star"] * 5  # the named ones, then guesses
    assert texts(opened, "#rows .text")[::2] == names
    click("label")
    assert texts(opened, "#rows .text")[::2] == ["? star"] * 10 + ["? moon"] * 10 + ["? brown background"] * 5
    click("label")
    sorts = [th.get_attribute("aria-sort") for th in opened.find_elements(By.CSS_SELECTOR, "#heads th")]
    assert [sort for sort in sorts if sort] == ["ascending"]


def test_filters_narrow_what_is_shown(opened):
    only, drives = Select(opened.find_element(By.ID, "only")), Select(opened.find_element(By.ID, "class"))
    only.select_by_value("culprits")
    assert shown(opened) == [7, 8]
    only.select_by_value("unexpected")
    assert shown(opened) == list(range(0, 60, 3))
    drives.select_by_visible_text("drives moon")  # 1, 4, 7, ... most, and 0, 1, 2 in attribution.csv
    assert shown(opened) == [0]
    only.select_by_value("all")
    assert shown(opened)[:5] == [0, 1, 2, 4, 7]
    only.select_by_value("named")
    assert shown(opened)[:4] == [0, 2, 4, 10]


def test_a_latent_that_is_not_named_is_a_guess_in_the_table_and_on_the_card(opened):
    grey = opened.find_element(By.CSS_SELECTOR, "#rows tr[data-latent='1'] .guess")
    assert (grey.text, grey.value_of_css_property("color")) == ("star", "rgba(101, 109, 118, 1)")
    grey.click()
    assert opened.find_element(By.CSS_SELECTOR, "#card h3").text == "? star"
    opened.find_element(By.CSS_SELECTOR, "#rows tr[data-latent='4'] .text").click()
    assert opened.find_element(By.CSS_SELECTOR, "#card h3").text == "star"


def test_pages_are_turned(opened):
    following, before = (opened.find_element(By.ID, name) for name in ("next", "previous"))
    assert not before.is_enabled()
    following.click()
    assert (shown(opened), opened.find_element(By.ID, "page").text) == (list(range(25, 50)), "Page 2 of 3")
    following.click()
    assert shown(opened) == list(range(50, 60))
    assert not following.is_enabled()
    opened.find_element(By.ID, "search").send_keys("moon")  # back to the first page
    assert opened.find_element(By.ID, "page").text == "Page 1 of 1"


def test_a_row_opens_its_latent(opened):
    opened.find_element(By.CSS_SELECTOR, '#rows tr[data-latent="2"]').click()
    assert card(opened).startswith("moon\nlatent 2")
    assert "fires on" in card(opened)
    assert "0.333" in card(opened)
    pictures = opened.find_elements(By.CSS_SELECTOR, "#card canvas")
    assert len(pictures) == 8
    drawn = """
        const pixels = arguments[0].getContext("2d").getImageData(0, 0, 64, 64).data;
        return pixels.some((value, i) => i % 4 < 3 && value);
    """
    assert all(opened.execute_script(drawn, canvas) for canvas in pictures)
    opened.find_element(By.CSS_SELECTOR, '#rows tr[data-latent="5"]').send_keys(Keys.ENTER)
    assert "latent 5" in card(opened)
    assert texts(opened, "#rows tr.selected td.number")[0] == "5"


def test_a_finding_leads_to_its_culprit_and_back(opened):
    opened.find_element(By.CSS_SELECTOR, '#finding-2 a[href="#latent-8"]').click()
    WebDriverWait(opened, 60).until(lambda b: "latent 8" in card(b))
    opened.find_element(By.CSS_SELECTOR, '#card a[href="#finding-2"]').click()
    assert opened.execute_script("return document.querySelector(':target').id") == "finding-2"


def test_a_click_on_a_point_opens_its_latent(opened):
    """Latent 0 lies alone at the top; the ring says where."""
    opened.find_element(By.CSS_SELECTOR, '#rows tr[data-latent="0"]').click()
    canvas = opened.find_element(By.ID, "scatter")
    x, y = float(canvas.get_attribute("data-x")), float(canvas.get_attribute("data-y"))
    opened.find_element(By.CSS_SELECTOR, '#rows tr[data-latent="5"]').click()
    assert "latent 5" in card(opened)
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    size = canvas.size
    to = ActionChains(opened).move_to_element_with_offset(
        canvas, x - size["width"] / 2, y - size["height"] / 2
    )
    to.perform()
    assert opened.find_element(By.ID, "hint").text == "brown background → star"
    to.click().perform()
    assert "latent 0" in card(opened)


def test_paper_gets_everything(opened):
    folded = opened.find_elements(By.CSS_SELECTOR, "details")
    assert not any(part.get_attribute("open") for part in folded)
    made = opened.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    assert base64.b64decode(made["data"]).startswith(b"%PDF")
    assert folded
    assert all(part.get_attribute("open") for part in folded)
    assert errors(opened) == []


def test_a_dark_screen_gets_a_dark_page(opened):
    paper = "return getComputedStyle(document.body).backgroundColor"
    assert opened.execute_script(paper) == "rgb(255, 255, 255)"
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    assert opened.execute_script(paper) == "rgb(13, 17, 23)"
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert errors(opened) == []


def test_what_a_user_wrote_never_runs(browser, tmp_path):
    every = " ".join(HOSTILE)
    found = tuple(
        finding(n, c, (culprit(n, c),), summary=every, advice=(every,)) for n, c in enumerate(HOSTILE, 1)
    )
    results = tuple(result(name, (n,), prompts=HOSTILE) for n, name in enumerate(HOSTILE, 1))
    table = latent_table(20, HOSTILE, HOSTILE, 20)
    run = run_folder(tmp_path / "run", table, HOSTILE, [f"{i} {every}" for i in range(20)])
    open_page(browser, write_report(audit(results, found, run=every, judge=every), run, tmp_path))
    for latent in range(len(HOSTILE)):
        browser.find_element(By.CSS_SELECTOR, f'#rows tr[data-latent="{latent}"]').click()
        said = "return document.querySelector('#card h3').textContent"
        assert browser.execute_script(said) == "? " * (latent % 2) + plain(HOSTILE[latent])
    assert browser.execute_script("return window.ran") is None
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert errors(browser) == []


def test_the_policy_holds_even_if_the_script_had_a_hole(opened):
    refused = """
        const main = document.querySelector("main");
        try { main.insertAdjacentHTML("beforeend", "<img src=x onerror='window.ran = 1'>"); }
        catch (error) { return error.name; }
    """
    assert opened.execute_script(refused) == "TypeError"
    assert opened.execute_script("return window.ran") is None


def test_thirty_thousand_latents_stay_quick(browser, tmp_path):
    """A search is answered before its event ends; what is drawn does not grow with the latents."""
    labels = tuple(f"thing {i}" for i in range(3000))
    table = latent_table(MANY, labels, CLASSES, 40)
    run = run_folder(tmp_path / "run", table, CLASSES, noise_images(40))
    open_page(browser, write_report(audit((result("star"),)), run, tmp_path))
    assert errors(browser) == []
    ask = """
        const field = document.getElementById("search");
        field.value = arguments[0];
        const begin = performance.now();
        field.dispatchEvent(new Event("input"));
        const answer = document.getElementById("status").textContent;
        return [answer, performance.now() - begin, document.querySelectorAll("#browser *").length];
    """
    for query, fitting in (("thing 29", 111), ("", 3000), ("thing 2999", 1)):
        answer, milliseconds, elements = browser.execute_script(ask, query)
        n = fitting * MANY // len(labels)
        assert answer == (f"{n} of {MANY} latents" if n < MANY else f"{MANY} latents")
        assert elements < 800
        print(f"{query!r}: {milliseconds:.0f} ms")
    browser.find_element(By.ID, "reset").click()
    browser.find_element(By.CSS_SELECTOR, '#heads button[data-sort="alignment"]').click()
    best = table["alignment"].nlargest(25).tolist()
    alignments = [float(row.find_elements(By.CSS_SELECTOR, "td")[3].text) for row in rows_of(browser)]
    np.testing.assert_allclose(alignments, best, atol=0.0011)


def test_a_cell_of_a_notebook_changes_nothing_around_it(browser, tmp_path):
    table = latent_table(20, HOSTILE[:2], CLASSES, 40)
    run = run_folder(tmp_path / "run", table, CLASSES, noise_images(40))
    found = audit((result("star", (1,)),), (finding(1, "star", (culprit(7, HOSTILE[0]),)),))
    shown = ShownAudit(found, run)
    shown.heatmaps = None
    around = (
        "<p id=plain class='verdict name'>plain</p><table id=table class=lines><tr><td>1</td></tr></table>"
    )
    around = f"<div style='width: 500px'>{around}</div>"
    style = """return ['plain', 'table'].map((id) => {
        const computed = getComputedStyle(document.getElementById(id));
        return JSON.stringify([...computed].map((name) => name + computed[name]));
    })"""
    seen = []
    for cells in ("", shown._repr_html_() + shown.finding(1)._repr_html_()):
        path = tmp_path / "notebook.html"
        path.write_text(f"<!DOCTYPE html><meta charset=utf-8><body>{around}<div>{cells}</div>", "utf-8")
        browser.get(path.as_uri())
        seen.append(browser.execute_script(style))
    assert seen[0] == seen[1]
    assert browser.execute_script("return window.ran") is None
    head = browser.find_element(By.CSS_SELECTOR, ".lightning-sae .head")
    assert head.value_of_css_property("font-weight") == "600"
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
