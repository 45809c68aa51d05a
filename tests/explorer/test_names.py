"""Names in a run: proposed by the command, typed in the page, and used wherever labels are read."""

import shutil

import pandas as pd
import pytest
import torch
from selenium.webdriver.common.by import By

from lightning_sae.explain.explanation import explain
from lightning_sae.explorer import write_page
from lightning_sae.names.proposals import FILE, propose_names, wanted_latents
from lightning_sae.program import main
from lightning_sae.runs.folder import open_run

from .conftest import read_page
from .test_browser import all_of, click, go

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def named_run(driven_run, tmp_path_factory):
    """The run again, with proposals of the command."""
    folder = tmp_path_factory.mktemp("named") / "run"
    shutil.copytree(driven_run.folder, folder)
    main(["name", str(folder), "--device", "cpu"])
    return open_run(folder, device=torch.device("cpu"))


def test_the_command_proposes_names_for_what_has_none(named_run, capsys):
    found = pd.read_csv(named_run.folder / FILE)
    novel = named_run.latents.index[named_run.latents["novel"]]
    assert 0 < found["latent"].nunique() <= len(novel)
    assert set(found["latent"]) <= set(novel)
    assert found["validity"].between(0, 1).all()
    assert set(found["source"]) <= {"captions", "vocabulary", "columns"}
    again = propose_names(named_run, wanted_latents(named_run))
    assert again["name"].tolist() == found["name"].tolist()
    for _, rows in found.groupby("latent"):
        assert rows["chosen"].is_monotonic_decreasing
    latent = int(named_run.latents.index[0])
    words = named_run.folder / "words.txt"
    words.write_text("star\nred\n", "utf-8")
    main(["name", str(named_run.folder), "--device", "cpu", "--latent", str(latent), "--words", str(words)])
    assert "names are proposed for" in capsys.readouterr().out
    assert set(pd.read_csv(named_run.folder / FILE)["latent"]) <= {latent}
    again.to_csv(named_run.folder / FILE, index=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--latent", "99999"], "is not in latents.csv"),
        (["--words", "no_such_words"], "no_such_words"),
        (["--names-of", "{run}", "--words", "english"], "leave --words and --latent out"),
        (["--names-of", "{run}"], "no names to carry over"),
    ],
)
def test_slips_are_told(named_run, words, message):
    with pytest.raises(SystemExit, match=message):
        main(["name", str(named_run.folder), *(word.format(run=named_run.folder) for word in words)])


def test_a_persons_name_is_used_wherever_labels_are_read(named_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(named_run.folder, folder)
    latent = int(named_run.latents.index[named_run.latents["novel"]][0])
    drives = pd.read_csv(folder / "attribution.csv")["latent"].iloc[0]
    (folder / "names.csv").write_text(f"latent,name\n{latent},my <b>star</b>\n{drives},mine\n", "utf-8")
    run = open_run(folder, device=torch.device("cpu"))
    assert str(run.latent(latent).name) == "my <b>star</b>"
    assert not run.latents.loc[latent, "novel"]
    assert "mine" in set(run.table("latents")["label"])
    image = run.data.images("val")[int(run.top_images(int(drives))[0])]
    (told,) = explain(run, image, [run.data.class_names[0]], top=64)
    assert "mine" in set(told.drivers["label"])
    page = read_page(write_page(run, tmp_path))
    assert page.columns["own"][str(latent)] == "my <b>star</b>"
    assert page.columns["judged"][str(latent)] == named_run.latents.loc[latent, "label"]
    row = page.columns["latent"].index(latent)
    assert page.columns["labels"][page.columns["label"][row]] == "my <b>star</b>"
    assert (page.columns["novel"][row], page.columns["group"][row]) == (0, -1)
    assert "my <b>star</b>" not in page.text


def test_names_of_another_autoencoder_are_refused(named_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(named_run.folder, folder)
    (folder / "names.csv").write_text("latent,name,sae\n1,star,0123456789abcdef\n", "utf-8")
    with pytest.raises(ValueError, match="another autoencoder"):
        open_run(folder)


def test_the_page_has_what_has_no_name_and_what_is_proposed(named_run, tmp_path):
    columns = read_page(write_page(named_run, tmp_path)).columns
    table = named_run.latents
    assert columns["novel"] == table["novel"].astype(int).tolist()
    assert columns["group"] == table["novel_group"].tolist()
    found = pd.read_csv(named_run.folder / FILE)
    assert {int(j) for j in columns["proposals"]} == set(found["latent"])
    first = found.iloc[0]
    assert columns["proposals"][str(first["latent"])][0][:2] == [first["name"], first["source"]]
    (tmp_path / "stale").mkdir()
    shutil.copytree(named_run.folder, tmp_path / "stale" / "run")
    found.assign(sae="0" * 16).to_csv(tmp_path / "stale" / "run" / FILE, index=False)
    stale = open_run(tmp_path / "stale" / "run", device=torch.device("cpu"))
    assert read_page(write_page(stale, tmp_path)).columns["proposals"] == {}


@pytest.mark.slow
def test_a_reader_names_a_group_and_saves_it(browser, named_run, tmp_path):
    opened = go(browser, write_page(named_run, tmp_path).as_uri())
    browser.execute_script("window.address = URL.createObjectURL;")
    click(opened, "nav a[href='#unnamed']")
    columns = read_page(tmp_path / "report.html").columns
    members = [j for j, group in zip(columns["latent"], columns["group"], strict=True) if group == 0]
    field = all_of(opened, ".name-field")[0]
    field.send_keys('=my "star"\t')
    assert all_of(opened, ".novel-group .latent-link")[0].text == '=my "star"'
    browser.execute_script(
        "URL.createObjectURL = (blob) => {"
        " blob.text().then((text) => { document.body.dataset.saved = text; });"
        " return window.address.call(URL, blob); };"
    )
    click(opened, ".save-names")
    saved = browser.execute_async_script(
        "const done = arguments[0]; const look = () => document.body.dataset.saved"
        " ? done(document.body.dataset.saved) : setTimeout(look, 20); look();"
    )
    folder = tmp_path / "run"
    shutil.copytree(named_run.folder, folder)
    (folder / "names.csv").write_text(saved, "utf-8")
    run = open_run(folder, device=torch.device("cpu"))
    assert run.own_names == dict.fromkeys(members, '=my "star"')
    click(opened, "nav a[href='#latents']")
    search = opened.find_element(By.ID, "search")
    search.send_keys("=my")
    assert len(all_of(opened, "#cards .card")) == len(members)
    assert not opened.get_log("browser")
