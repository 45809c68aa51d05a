"""Work in a thread beside the one that keeps the model busy."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

T = TypeVar("T")


def one_ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Yield the same items; while one of them is in use, the next is found in a thread of its own.

    If the generator is closed early, it waits for the item that is being found.

    Example:
        >>> [*one_ahead(iter("abc"))]
        ['a', 'b', 'c']
    """
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(_following, items)
        while found := following.result():
            following = thread.submit(_following, items)
            yield from found


def hand_over(items: Iterable[T], take: Callable[[T], object], most: int) -> None:
    """Call `take` on each item, in order and in a thread of its own, while the next ones are made.

    Args:
        items: made here, one after the other.
        take: what is done with each.
        most: items that may be there and not yet taken; the next one is made when there are fewer.

    Raises:
        BaseException: what `take` raised, as soon as the next item is made; after it nothing is taken.

    Example:
        >>> taken = []
        >>> hand_over("abc", taken.append, most=2)
        >>> taken
        ['a', 'b', 'c']
    """
    waiting, failed = deque[Future[None]](), Event()

    def take_next(item: T) -> None:
        if failed.is_set():
            return
        try:
            take(item)
        except BaseException:
            failed.set()
            raise

    thread = ThreadPoolExecutor(1)
    try:
        for item in items:
            waiting.append(thread.submit(take_next, item))
            while waiting and (len(waiting) > most or waiting[0].done()):
                waiting.popleft().result()
        for each in waiting:
            each.result()
    finally:
        thread.shutdown(cancel_futures=True)


def _following(items: Iterator[T]) -> list[T]:
    """Return the next item, or none."""
    return [item for _, item in zip(range(1), items, strict=False)]
