"""The table of logged values: each is found by its key, and can be shown."""

import pytest

from callbacks.summary import lines
from lightning_sae.tracking.values import VALUES, logged_value

KEYS = [key for key in VALUES if "*" not in key]


@pytest.mark.parametrize("key", KEYS)
def test_no_pattern_stands_before_a_key_that_it_fits(key):
    assert logged_value(key) is VALUES[key]


@pytest.mark.parametrize("key", KEYS)
def test_what_is_shown_has_a_title_and_a_format(key):
    value = VALUES[key]
    assert value.title or not (value.card or value.narrow)
    assert format(0.5, value.form)
    assert len(lines({key: 0.5})) == (value.summary is not None)
