"""Threads that work beside this one: results come in the order of the items.

What takes time here is done outside Python's lock: by Pillow, NumPy, torch, or C code of ours. Threads share what they
read, need no items to be pickled, and are no processes for the system to kill when memory is short.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic, TypeVar

from misc.run.log import progress_bar

MOST_BYTES = 2**30  # of arrays that are made and not yet used

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, desc: str, total: int | None = None
) -> Iterator[Result]:
    """Yield function(item) for each item, in order, computed by `workers` threads (0: by this one).

    `items` is consumed only as fast as the workers keep up, so it may be a generator that computes
    its items: its work and theirs go on at the same time. Of items that are at hand (a list, a range)
    2 · `workers` are always under way or done when a result is handed out, while there are so many. Of items that hold
    arrays, no more wait than MOST_BYTES allows.

    desc      text of the progress bar
    Raises    what `function` raises, as soon as its turn comes.
    """
    if isinstance(items, Sized):
        total = len(items)
    with progress_bar(total, desc) as bar:
        for result in ordered_map(function, items, workers=workers):
            bar.update()
            yield result


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, most_bytes: int | None = None
) -> Iterator[Result]:
    """`parallel_map` without a progress bar.

    most_bytes  the arrays in results that wait for their turn take no more, as far as the largest result until now
                tells before; the next one is computed however large it is. None: results are small
    """
    if workers == 0:
        yield from map(function, items)
        return
    # a generator has to compute its next item first, and a result that is ready should not wait for that
    at_hand = isinstance(items, Sized)
    ahead = _Ahead(function, workers, most_bytes)
    try:
        for item in items:
            ahead.add(item)
            del item  # the worker holds it, until its result is there
            while len(ahead.waiting) > 2 * workers or ahead.item_bytes > MOST_BYTES or (not at_hand and ahead.ready()):
                yield ahead.next()  # in no variable: the caller may let go of it
        while ahead.waiting:
            yield ahead.next()
    finally:
        ahead.close()


class _Task(Generic[Item, Result]):
    """An item, and its result to come."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.item_bytes = bytes_of(item)
        self.result_bytes = 0  # once it is there
        self.result: Future[Result] = Future()


class _Ahead(Generic[Item, Result]):
    """What is computed before it is asked for: begun in order, as far as there is memory for results.

    A worker never waits for room, which nobody would give where the program has failed: tasks wait to be begun.
    """

    def __init__(self, function: Callable[[Item], Result], workers: int, most_bytes: int | None) -> None:
        self.waiting: deque[_Task[Item, Result]] = deque()  # results that are not yet handed out, in order
        self.item_bytes = 0  # of the items that wait
        self._function, self._most = function, most_bytes
        self._pool = ThreadPoolExecutor(workers)
        self._lock = threading.Lock()  # of what follows
        self._later: deque[_Task[Item, Result]] = deque()  # the last of those that wait: not yet begun
        self._running = self._done = 0  # begun ones
        self._done_bytes = 0
        self._largest: int | None = None  # bytes of a result; none is known yet

    def add(self, item: Item) -> None:
        task: _Task[Item, Result] = _Task(item)
        self.waiting.append(task)
        self.item_bytes += task.item_bytes
        with self._lock:
            self._later.append(task)
            self._begin_what_fits()

    def ready(self) -> bool:
        """Whether the next result is there."""
        return bool(self.waiting) and self.waiting[0].result.done()

    def next(self) -> Result:
        """The next result, which is the caller's from now on; what then has room is begun."""
        task = self.waiting.popleft()
        result = task.result.result()
        self.item_bytes -= task.item_bytes
        with self._lock:
            self._done -= 1
            self._done_bytes -= task.result_bytes
            self._begin_what_fits()
        return result

    def close(self) -> None:
        """Begin no more, and return when what runs has ended."""
        with self._lock:
            self._later.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _begin_what_fits(self) -> None:
        while self._later and self._fits_another():
            self._pool.submit(self._compute, self._later.popleft())
            self._running += 1

    def _fits_another(self) -> bool:
        if self._most is None or self._running + self._done == 0:  # the next one is computed in any case
            return True
        if self._largest is None:  # a hundred workers would begin a hundred results of unknown size
            return False
        return self._done_bytes + (self._running + 1) * self._largest <= self._most

    def _compute(self, task: _Task[Item, Result]) -> None:
        item, error = task.item, None
        del task.item  # what is done is no longer held
        try:
            result = self._function(item)
            task.result_bytes = bytes_of(result)
        except BaseException as raised:
            error = raised
        with self._lock:
            self._running -= 1
            self._done += 1
            self._done_bytes += task.result_bytes
            self._largest = max(task.result_bytes, self._largest or 0)
            with suppress(RuntimeError):  # Python ends, and begins no more
                self._begin_what_fits()
        if error is None:
            task.result.set_result(result)
        else:
            task.result.set_exception(error)
            error = None  # its traceback holds this function's variables


def bytes_of(value: Any) -> int:
    """What the arrays and tensors in a value take, in tuples, lists and dictionaries and in what lies within them."""
    if isinstance(value, dict):
        return sum(map(bytes_of, value.values()))
    if isinstance(value, (tuple, list)):
        return sum(map(bytes_of, value))
    size = getattr(value, "nbytes", 0)
    return size if isinstance(size, int) else 0


def end_with_parent() -> None:
    """From now on, end this process when the one that started it is gone, killed or not."""
    threading.Thread(target=_wait_for_end_of, args=(os.getppid(),), daemon=True).start()


def _wait_for_end_of(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
