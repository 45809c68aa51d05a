"""Work in a thread of its own: order, how far ahead, and errors."""

import threading
from contextlib import closing

import pytest

from lightning_sae.data.capture.background import hand_over, one_ahead


def test_one_ahead_and_no_more():
    found = []

    def items():
        for i in range(5):
            found.append(i)
            yield i

    with closing(one_ahead(items())) as ahead:
        for i in range(3):
            assert next(ahead) == i
    assert found in ([0, 1, 2], [0, 1, 2, 3])  # the last one may have been on its way


def test_the_next_is_found_while_one_is_at_use():
    asked = threading.Event()

    def items():
        yield 0
        asked.set()
        yield 1

    ahead = one_ahead(items())
    next(ahead)
    assert asked.wait(10)
    assert [*ahead] == [1]


def test_falsy_items_are_items():
    assert [*one_ahead(iter([0, None, "", []]))] == [0, None, "", []]


def test_an_error_of_the_source_comes_out():
    def items():
        yield 1
        raise OSError("lost")

    ahead = one_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="lost"):
        next(ahead)


def test_no_more_than_some_wait_and_the_order_stays():
    free, made, taken, seen = threading.Event(), [], [], []

    def items():
        for i in range(20):
            made.append(i)
            if i == 3:  # 0 is being taken, 1 and 2 wait
                seen.append(len(taken))
                free.set()
            yield i

    def take(i):
        assert free.wait(10)
        assert threading.current_thread() is not threading.main_thread()
        assert len(made) <= i + 4
        taken.append(i)

    hand_over(items(), take, most=3)
    assert taken == [*range(20)]
    assert seen == [0]


@pytest.mark.parametrize("most", [1, 5])
@pytest.mark.parametrize("wrong", [0, 3, 9])
def test_after_an_error_nothing_is_taken(wrong, most):
    """What comes later may have been waiting already, and would be taken for what it does not follow."""
    taken, made = [], []

    def items():
        for i in range(10):
            made.append(i)
            yield i

    def take(i):
        if i == wrong:
            raise KeyboardInterrupt(f"at {i}")
        taken.append(i)

    with pytest.raises(KeyboardInterrupt, match=f"at {wrong}"):
        hand_over(items(), take, most)
    assert taken == [*range(wrong)]
    assert len(made) <= wrong + most + 1


def test_an_error_of_the_source_waits_for_the_item_at_work():
    taken = []

    def items():
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        hand_over(items(), taken.append, most=2)
    assert taken in ([], [1])
