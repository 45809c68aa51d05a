"""The page of a run in Debian's Chromium: what a reader does, and what must not happen."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from lightning_sae.attribution.ablation import remove_shares
from lightning_sae.attribution.explained import Explained
from lightning_sae.audit.evidence.evidence_pass import ready
from lightning_sae.explorer import write_page
from lightning_sae.explorer.server import HOST, application, listen
from lightning_sae.runs.classifier import prompt_classifier
from lightning_sae.runs.folder import open_run

from .conftest import read_page
from .test_page import HOSTILE, replaced

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]


def go(browser, address):
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(address)
    WebDriverWait(browser, 60).until(lambda b: b.execute_script("return document.body.dataset.ready"))
    return browser


def all_of(browser, css):
    return [found for found in browser.find_elements(By.CSS_SELECTOR, css) if found.is_displayed()]


def click(browser, css, number=0):
    """Click on what is, or comes to be, there: a view is drawn behind the change of the address."""
    WebDriverWait(browser, 60).until(lambda b: len(all_of(b, css)) > number)
    found = all_of(browser, css)[number]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
    found.click()


def drag(browser, slider, share):
    browser.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", slider, share
    )


@pytest.fixture
def opened(browser, driven_run):
    return go(browser, (driven_run.folder / "report.html").as_uri())


def test_what_a_latent_means_is_two_clicks_away(opened, page):
    click(opened, "nav a[href='#latents']")
    latent = int(all_of(opened, "#cards .card")[0].get_attribute("href").split("/")[-1])
    click(opened, "#cards .card")
    row = page.columns["latent"].index(latent)
    facts = {e.find_element(By.TAG_NAME, "dt").text: e.find_element(By.TAG_NAME, "dd").text
             for e in all_of(opened, "#view .facts div")}  # fmt: skip
    assert facts["label"] == page.columns["labels"][page.columns["label"][row]]
    assert float(facts["alignment"]) == pytest.approx(page.columns["numbers"]["alignment"][row], rel=1e-2)
    assert {"p", "validity", "attribution"} <= facts.keys()
    assert len(all_of(opened, "#view .top canvas")) == len(page.columns["examples"][str(latent)])
    assert len(opened.find_elements(By.CSS_SELECTOR, ".histogram rect")) == 24
    titles = [each.text for each in all_of(opened, "#view h3")]
    assert {"What it means", "When it fires", "Its nearest latents"} <= {*titles}
    assert not opened.get_log("browser")


def test_what_drives_a_class_is_two_clicks_away(opened, page):
    click(opened, "nav a[href='#classes']")
    click(opened, ".class-list tbody a[href^='#class/']")
    record = page.columns["records"][0]
    assert all_of(opened, "#view h2")[0].text == record["name"]
    links = [link.get_attribute("href") for link in all_of(opened, ".drivers .latent-link")]
    assert [int(link.split("/")[-1]) for link in links] == record["latents"]
    assert len(all_of(opened, ".drivers .chip.unexpected")) == sum(record["unexpected"])
    images = [link.get_attribute("href") for link in all_of(opened, "#view .shots a")]
    assert len(images) == sum(map(len, record["images"].values()))


def test_why_an_image_is_called_that_and_what_changes_without_a_latent(opened, driven_run):
    click(opened, "nav a[href='#images']")
    image = int(all_of(opened, "#view .shots a")[0].get_attribute("href").split("/")[-1])
    click(opened, "#view .shots a")
    check_removal(opened, driven_run, image)


def test_images_with_different_numbers_of_latents(browser, uneven_run, tmp_path):
    address = write_page(uneven_run, tmp_path).as_uri()
    arrays = read_page(tmp_path / "report.html").arrays
    counts = (arrays["image_latents"] >= 0).sum(1)
    assert counts.min() < counts.max()
    for place in (counts.argmin(), np.flatnonzero(counts > counts.min() + 1)[0], counts.argmax()):
        image = int(arrays["image_ids"][place])
        check_removal(go(browser, f"{address}#image/{image}"), uneven_run, image)


def check_removal(opened, run, image):
    """The first class and its logit are those of CLIP, also without the first latents."""
    ready(run)
    x = torch.cat([batch.x for batch in run.data.val_dataloader()])[image]
    one = Explained.of(run.data.tail, run.sae, x[None, None])
    classifier = prompt_classifier(run)
    WebDriverWait(opened, 60).until(lambda b: ranked(b) == winner(classifier, one, [], []))
    rows = all_of(opened, ".removal tbody tr")
    latents = [int(row.get_attribute("data-latent")) for row in rows[:2]]
    for row in rows[:2]:
        drag(opened, row.find_element(By.TAG_NAME, "input"), 1)
    gone = winner(classifier, one, latents, [1.0] * len(latents))
    WebDriverWait(opened, 60).until(lambda b: ranked(b) == gone)
    click(opened, ".removal caption button")
    WebDriverWait(opened, 60).until(lambda b: ranked(b) == winner(classifier, one, [], []))
    assert not opened.get_log("browser")


def ranked(browser):
    """The first class, and its logit, read at once: it may be drawn anew meanwhile."""
    row = browser.execute_script(
        "const row = document.querySelector('.ranking tbody tr');"
        "return row && [row.querySelector('bdi').textContent, row.cells[2].textContent]"
    )
    return tuple(row or ())


def winner(classifier, one, latents, shares):
    logits = classifier.logits(remove_shares(one, latents, shares))[0]
    best = int(logits.argmax())
    return classifier.class_names[best], f"{logits[best]:.2f}".replace("-", "−")


def test_latents_are_searched_sorted_filtered_and_paged(opened, page):
    click(opened, "nav a[href='#latents']")
    columns = page.columns
    all_labels = [columns["labels"][place] if place >= 0 else "" for place in columns["label"]]
    word = max(set(all_labels), key=all_labels.count)
    opened.find_element(By.ID, "search").send_keys(word)
    expected = sum(word in label for label in all_labels)
    assert opened.find_element(By.ID, "status").text.startswith(f"{expected} of")
    opened.find_element(By.ID, "reset").click()
    Select(opened.find_element(By.ID, "only")).select_by_value("named")
    assert opened.find_element(By.ID, "status").text.split()[0] == str(sum(columns["named"]))
    opened.find_element(By.ID, "reset").click()
    Select(opened.find_element(By.ID, "sort")).select_by_value("density")
    density = dict(zip(columns["latent"], columns["numbers"]["density"], strict=True))
    shown = [int(card.get_attribute("href").split("/")[-1]) for card in all_of(opened, "#cards .card")]
    assert [density[j] for j in shown] == sorted(density.values(), reverse=True)[: len(shown)]
    opened.find_element(By.ID, "order").click()
    first = int(all_of(opened, "#cards .card")[0].get_attribute("href").split("/")[-1])
    assert density[first] == min(density.values())
    click(opened, "#next")
    assert opened.find_element(By.ID, "page").text.startswith("Page 2 of")


def test_back_finds_the_page_of_images_again(opened):
    wait = WebDriverWait(opened, 60)

    def page_is(words):
        return lambda b: any(each.text.startswith(words) for each in all_of(b, "#view .pager span"))

    click(opened, "nav a[href='#images']")
    wait.until(page_is("Page 1 of"))
    click(opened, "#view .pager button", 1)
    wait.until(page_is("Page 2 of"))
    shown = [link.get_attribute("href") for link in all_of(opened, "#view .shots a")]
    click(opened, "#view .shots a")
    wait.until(lambda b: "#image/" in b.current_url and not all_of(b, "#view .pager"))
    opened.back()
    wait.until(page_is("Page 2 of"))
    assert [link.get_attribute("href") for link in all_of(opened, "#view .shots a")] == shown
    Select(all_of(opened, "#view select")[0]).select_by_value("wrong")
    wait.until(lambda b: b.current_url.endswith("#images/0/wrong"))


@pytest.mark.parametrize("width", [400, 1366])
def test_no_view_is_wider_than_the_screen(opened, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for view in ("overview", "latents", "latent/1", "classes", "class/0", "images", "image/3"):
            opened.execute_script(f"location.hash = '#{view}'; dispatchEvent(new Event('hashchange'))")
            assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_that_a_user_wrote_runs(browser, driven_run, tmp_path):
    run = open_run(driven_run.folder)
    run.latents = run.latents.assign(label=HOSTILE, second_label=HOSTILE, attribution_class=HOSTILE)
    with replaced(run.data.images("val").class_names, [f"{HOSTILE}{c}" for c in range(24)]):
        path = write_page(run, tmp_path)
    opened = go(browser, path.as_uri())
    views = (
        "latents",
        "latent/1",
        "classes",
        "class/0",
        "images",
        "image/3",
        "latent/<img src=x>",
        "__proto__",
    )
    for view in views:
        opened.execute_script("location.hash = arguments[0]; dispatchEvent(new Event('hashchange'))", view)
        assert not opened.find_elements(By.CSS_SELECTOR, "main img:not(#sheets img), main script")
    assert not opened.get_log("browser")


@contextmanager
def served(run):
    import uvicorn

    with listen(0) as listening:
        server = uvicorn.Server(uvicorn.Config(application(run, "abc"), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://{HOST}:{listening.getsockname()[1]}/abc/"
        finally:
            server.should_exit = True
            thread.join(30)


def test_prompts_and_an_image_of_a_user_are_answered_by_the_server(browser, driven_run, tmp_path):
    picture = tmp_path / "own.png"
    driven_run.data.images("val")[5].resize((200, 150)).save(picture)
    with served(driven_run) as address:
        opened = go(browser, f"{address}#upload")
        opened.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys(str(picture))
        WebDriverWait(opened, 60).until(lambda b: all_of(b, ".removal tbody tr"))
        assert all_of(opened, "#view h2")[0].text == "your image"
        assert "#image/own-1" in opened.current_url
        opened.find_element(By.CSS_SELECTOR, "textarea").send_keys("a red thing\na house")
        click(opened, "button.ask")
        WebDriverWait(opened, 60).until(lambda b: len(all_of(b, ".ranking tbody tr")) == 2)
        before = ranked(opened)
        drag(opened, all_of(opened, ".removal tbody tr")[0].find_element(By.TAG_NAME, "input"), 1)
        WebDriverWait(opened, 60).until(lambda b: ranked(b) != before)
        opened.execute_script("location.hash = '#image/99999'")
        WebDriverWait(opened, 60).until(lambda b: "no image 99999" in b.find_element(By.ID, "view").text)
        errors = [entry for entry in opened.get_log("browser") if "400" not in entry["message"]]
        assert not errors
