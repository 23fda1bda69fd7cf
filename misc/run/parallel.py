"""Processes, or threads, that work beside this one: results come in the order of the items."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch

from misc.errors import InputError
from misc.run.log import progress_bar

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    desc: str,
    total: int | None = None,
    threads: bool = False,
) -> Iterator[Result]:
    """Yield function(item) for each item, in order, computed by `workers` processes (0: in this one).

    `items` is consumed only as fast as the workers keep up, so it may be a generator that computes
    its items: its work and theirs go on at the same time. Of items that are at hand (a list, a range)
    2 · `workers` are always under way or done when a result is handed out, while there are so many.

    function  importable by name (a module's function, or a partial of one), unless `threads`
    threads   threads instead of processes: for what is done outside the interpreter's lock, by disks or Pillow
    desc      text of the progress bar
    Raises    what `function` raises, as soon as its turn comes; InputError if a worker dies.
    """
    if isinstance(items, Sized):
        total = len(items)
    with progress_bar(total, desc) as bar:
        for result in ordered_map(function, items, workers=workers, threads=threads):
            bar.update()
            yield result


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, threads: bool = False
) -> Iterator[Result]:
    """`parallel_map` without a progress bar."""
    if workers == 0:
        yield from map(function, items)
        return
    pool: Executor = ThreadPoolExecutor(workers) if threads else ProcessPoolExecutor(workers, initializer=_begin_worker)
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
    except BrokenProcessPool as error:
        raise InputError("a worker process died, perhaps for want of memory: try a smaller --num_workers") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker() -> None:
    """A worker has one thread, and ends when its parent does."""
    torch.set_num_threads(1)
    end_with_parent()


def end_with_parent() -> None:
    """From now on, end this process when the one that started it is gone, killed or not."""
    threading.Thread(target=_wait_for_end_of, args=(os.getppid(),), daemon=True).start()


def _wait_for_end_of(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
