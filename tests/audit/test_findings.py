"""audit.json: what is written is what is read, and anything else is refused."""

import json
import math

import pytest
from pydantic import ValidationError

from lightning_sae.audit import read_audit, write_audit
from lightning_sae.audit.findings import FILE, EvidenceTest, severity_of

from .fabricated import audit, culprit, estimate, finding, group_gap, result


@pytest.fixture
def whole():
    found = (
        finding(1, 'the "star" <b>', (culprit(3, "brown"), culprit(4, "", p_value=None)), severity="high"),
        finding(2, "heart", (culprit(5, "[red]"),), severity="medium"),
        finding(3, "heart", (culprit(6, "é"),), severity="low"),
    )
    classes = (
        result('the "star" <b>', (1,), gaps=(group_gap("<mark>=yes"),)),
        result("heart", (2, 3)),
        result("thin", accuracy=None, told=None, verdict="cannot be told", reason="…", suspects=(9,)),
    )
    return audit(classes, found, fvu=None)


def changed(folder, **values):
    content = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps(content | values))


def test_what_is_read_is_what_was_written(whole, tmp_path):
    assert write_audit(whole, tmp_path) == tmp_path / FILE
    assert read_audit(tmp_path) == whole
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_second_audit_replaces_the_first(whole, tmp_path):
    write_audit(whole, tmp_path)
    write_audit(whole.model_copy(update={"findings": ()}), tmp_path)
    assert read_audit(tmp_path).findings == ()


def test_severities(whole):
    numbers = {level: [f.number for f in whole.at_least(level)] for level in ("low", "medium", "high")}
    assert numbers == {"low": [1, 2, 3], "medium": [1, 2], "high": [1]}


def test_what_is_severe_only_by_chance_is_not_at_least_so_severe(whole):
    """The severity is that of the harm as measured, `at_least` asks the lower end of its interval."""
    unsure = whole.findings[0].model_copy(update={"harm": estimate(0.12, 0.03, 0.21)})
    found = whole.model_copy(update={"findings": (unsure, *whole.findings[1:])})
    assert unsure.severity == severity_of(unsure.harm.value) == "high"
    assert found.at_least("high") == ()
    assert [f.number for f in found.at_least("medium")] == [1, 2]


@pytest.mark.parametrize(
    ("harm", "level"),
    [
        (1.0, "high"),
        (0.1, "high"),
        (0.5 - 0.4, "high"),  # in floats it is less than 0.1
        (0.0999, "medium"),
        (0.02, "medium"),
        (0.0199, "low"),
        (0.0, "low"),
        (-0.3, "low"),
    ],
)
def test_severity_is_harm(harm, level):
    assert severity_of(harm) == level


def test_findings_by_number(whole):
    assert whole.finding(2).class_name == "heart"
    with pytest.raises(ValueError, match="no finding 4: the audit has 3, from 1 on"):
        whole.finding(4)


def test_no_audit(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no audit\.json: `lightning-sae audit"):
        read_audit(tmp_path)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"schema_version": 1}, "schema_version: Input should be 2"),
        ({"verdicts": []}, "verdicts: Extra inputs are not permitted"),
        ({"findings": [{"number": 1}]}, r"findings\.0\.class_name: Field required"),
        ({"subject": None}, "subject: "),
    ],
)
def test_what_is_wrong_is_named(whole, tmp_path, values, field):
    write_audit(whole, tmp_path)
    changed(tmp_path, **values)
    with pytest.raises(ValueError, match=f"is no audit of schema version 2 .*{field}.*audit the run again"):
        read_audit(tmp_path)


def test_half_a_file(whole, tmp_path):
    path = write_audit(whole, tmp_path)
    path.write_text(path.read_text()[:300])
    with pytest.raises(ValueError, match=r"is no audit of schema version 2 .*Invalid JSON"):
        read_audit(tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_json_cannot_hold_is_never_written(value):
    with pytest.raises(ValidationError, match="finite"):
        EvidenceTest(name="word_auroc", value=value, meaning="")


def test_nothing_changes_once_it_is_found(whole):
    with pytest.raises(ValidationError, match="frozen"):
        whole.findings[0].number = 7
