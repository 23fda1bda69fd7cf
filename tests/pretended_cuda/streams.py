"""Streams of a card that is not there: what one of them makes, another may use once it was told to wait for it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stream:
    """In the place of torch.cuda.Stream: numbers what is made on it."""

    def __init__(self, device: Any = None) -> None:
        self.made = 0
        self.waited_for: dict[Stream, int] = {}  # all that another stream had made up to there has arrived

    def record_event(self) -> "Event":
        return Event(self, self.made)

    def wait_event(self, event: "Event") -> None:
        self.waited_for[event.stream] = max(event.number, self.waited_for.get(event.stream, 0))


class Event:
    def __init__(self, stream: Stream, number: int) -> None:
        self.stream, self.number = stream, number

    def synchronize(self) -> None:
        """What was computed before is there: everything here is computed at once."""


MAIN = Stream()
_local = threading.local()


def current(device: Any = None) -> Stream:
    return getattr(_local, "stream", MAIN)


@contextmanager
def on(stream: Stream) -> Iterator[None]:
    """In the place of torch.cuda.stream."""
    before, _local.stream = current(), stream
    try:
        yield
    finally:
        _local.stream = before


class Origin:
    """Where and when a tensor was made; who else may use its memory."""

    def __init__(self, *, finished: bool) -> None:
        self._stream = current()
        self._stream.made += 1
        self._number = self._stream.made
        self._users = {self._stream}
        self._finished = finished  # the program has waited for it

    def __deepcopy__(self, memo: Any) -> "Origin":  # with the attributes of the tensor
        return self

    def record(self, stream: Stream) -> None:
        self._users.add(stream)

    def check_use(self, name: str) -> None:
        """RuntimeError where a card would compute with what has not arrived, or whose memory may be given away."""
        user = current()
        if self._finished or user is self._stream:
            return
        if user.waited_for.get(self._stream, 0) < self._number:
            raise RuntimeError(f"{name}: used on a stream that did not wait for the stream that makes it")
        if user not in self._users:
            raise RuntimeError(f"{name}: used on a stream that record_stream was not told of")
