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
from typing import TypeVar

from misc.run.log import progress_bar

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, desc: str, total: int | None = None
) -> Iterator[Result]:
    """Yield function(item) for each item, in order, computed by `workers` threads (0: by this one).

    `items` is consumed only as fast as the workers keep up, so it may be a generator that computes
    its items: its work and theirs go on at the same time. Of items that are at hand (a list, a range)
    2 · `workers` are always under way or done when a result is handed out, while there are so many.

    desc      text of the progress bar
    Raises    what `function` raises, as soon as its turn comes.
    """
    if isinstance(items, Sized):
        total = len(items)
    with progress_bar(total, desc) as bar:
        for result in ordered_map(function, items, workers=workers):
            bar.update()
            yield result


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Iterator[Result]:
    """`parallel_map` without a progress bar."""
    if workers == 0:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers)
    # a generator has to compute its next item first, and a result that is ready should not wait for that
    at_hand = isinstance(items, Sized)
    try:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            while waiting and (len(waiting) > 2 * workers or (not at_hand and waiting[0].done())):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def end_with_parent() -> None:
    """From now on, end this process when the one that started it is gone, killed or not."""
    threading.Thread(target=_wait_for_end_of, args=(os.getppid(),), daemon=True).start()


def _wait_for_end_of(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
