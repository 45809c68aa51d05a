"""What a monitor says: the record, its sentences, the page, the metrics."""

import re

import pytest

from lightning_sae.monitoring.alarms import MonitorRecord, read_record, write_record
from lightning_sae.monitoring.exposition import metrics_text
from lightning_sae.monitoring.page import write_page
from lightning_sae.monitoring.reference import Reference
from lightning_sae.monitoring.saying import class_shifts, record_of
from lightning_sae.monitoring.state import State

LABEL = '"<script>alert(1)</script>\u202e" (latent 9)'


@pytest.fixture(scope="module")
def changed(draw, rates, facts, classifier):
    """A reference, and a state in which latent 9 fires on half of the images, from the 600th on."""
    labels = (*facts.labels[:9], LABEL, *facts.labels[10:])
    reference = Reference(facts.model_copy(update={"labels": labels}), draw(2000, rates, 0), classifier)
    state = State.new(12, sum(reference.tests.sizes), "r")
    more = [*rates]
    more[9] = 0.5
    for seen, numbers in ((0, draw(600, rates, 7)), (600, draw(600, more, 8))):
        reference.watch.update(state.evidence, reference.entries(numbers))
        state.recent.add(numbers, seen, [b"picture"] * 600)
    return reference, state


@pytest.fixture(scope="module")
def record(changed):
    return record_of(*changed)


def test_an_alarm_says_what_by_how_much_and_since_when(record):
    alarm = next(each for each in record.alarms if each.family == "firing")
    assert (alarm.latent, alarm.direction, alarm.standing) == (9, "rose", True)
    assert abs(alarm.since - 600) <= 50
    assert alarm.since < alarm.raised <= 1200
    assert alarm.before.low < 0.22 < alarm.before.high < alarm.now.low < 0.48 < alarm.now.high
    assert re.search(
        r"fires on 4\d\.\d % \(\d\d\.\d to \d\d\.\d %\) of the images since image \d{3}", alarm.sentence
    )
    assert all(i > alarm.since for i in alarm.examples_now)
    assert {shift.class_name for shift in alarm.classes} <= {"cat", "dog", "cow"}


def test_no_change_says_nothing(reference):
    found = record_of(reference, State.new(12, sum(reference.tests.sizes), "r"))
    assert (found.alarms, found.seen) == ((), 0)


def test_classes_are_those_whose_predictions_it_drives(changed):
    reference, state = changed
    dense = reference.numbers.shares.to_dense()[:, 9]
    for shift in class_shifts(reference, state.recent.after(600).numbers, "attribution", 9):
        c = reference.facts.class_names.index(shift.class_name)
        own = dense[reference.numbers.predicted == c].sum() / len(dense)
        assert shift.before == pytest.approx(float(own), rel=1e-4)
        assert shift.now > shift.before


def test_the_record_is_read_again(record, tmp_path):
    write_record(record, tmp_path)
    assert read_record(tmp_path) == record
    text = record.model_dump_json().replace('"schema_version":1', '"schema_version":2')
    (tmp_path / "monitor.json").write_text(text)
    with pytest.raises(ValueError, match="is no record of schema version 1"):
        read_record(tmp_path)
    assert MonitorRecord.model_json_schema()["additionalProperties"] is False


def test_the_page_escapes_and_fetches_nothing(record, changed, tmp_path):
    page = write_page(record, changed[1].recent, tmp_path).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert page.count('alt="image from now"') == sum(len(alarm.examples_now) for alarm in record.alarms)


def test_metrics_have_the_format_of_prometheus(record):
    lines = metrics_text(record).splitlines()
    sample = r'[a-z_0-9]+(\{[a-z]+="([^"\\]|\\.)*"(,[a-z]+="([^"\\]|\\.)*")*\})? -?[\d.e+-]+'
    assert all(line.startswith("# ") or re.fullmatch(sample, line) for line in lines)
    assert "lightning_sae_monitor_images_total 1200" in lines
    assert any(line.startswith('lightning_sae_monitor_alarms{family="firing"} ') for line in lines)
