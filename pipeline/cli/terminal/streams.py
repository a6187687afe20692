"""Standard streams that are closed, full, without a reader, or of an encoding that lacks a character.

`run_program` is where every program of this repository begins. A stream that fails does not end the work: what was to
be said on standard error goes nowhere while all is well, and to standard output if the program fails.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

STDIN, STDOUT, STDERR = 0, 1, 2
FAILED, INTERRUPTED = 1, 130
NO_READER = 128 + 13
"""What shells report of a tool whose reader left: 128 and the number of SIGPIPE."""
KEPT_BYTES = 2**16


class Outlet(io.FileIO):
    """A file descriptor whose failing writes are remembered in place of being raised.

    Attributes:
        error: Why the first such write failed.
        lost: The last 64 KiB of what could not be written.
    """

    def __init__(self, descriptor: int, *, closed: bool = False) -> None:
        """Write to a descriptor; one that was closed takes nothing."""
        super().__init__(descriptor, "wb", closefd=False)
        self.error: OSError | None = None
        self.lost = b""
        self._shut = closed

    def write(self, data: Any, /) -> int:
        """Write bytes, or remember what could not be written."""
        if not self._shut:
            try:
                return super().write(data)
            except OSError as error:
                self.error = self.error or error
        self.lost = (self.lost + bytes(data))[-KEPT_BYTES:]
        return len(data)


class _AsciiText(io.TextIOWrapper):
    """Text that click leaves alone: it takes ASCII for a mistake, and would write UTF-8 into the stream's buffer."""

    @property
    def buffer(self) -> NoReturn:  # type: ignore[override]
        raise AttributeError("buffer")


def run_program(program: Callable[[], object]) -> NoReturn:
    """Run a program whatever has become of its standard streams, and end the process.

    The exit status is the program's. Of a program that succeeded it is 141 if the reader of standard output left, and
    1 if that could not be written for another reason, such as a full disk; a stream that was closed from the start is
    not missed.
    """
    output, errors = _open_streams()
    status: int | str | None = 0
    try:
        program()
    except SystemExit as end:
        status = end.code
    except KeyboardInterrupt:
        status = INTERRUPTED
    except Exception:
        traceback.print_exc()
        status = FAILED
    if isinstance(status, str):
        print(status, file=sys.stderr)
        status = FAILED
    _flush(sys.stdout)
    if not status and output is not None and output.error is not None:
        status = NO_READER if output.error.errno == errno.EPIPE else FAILED
        if status == FAILED:
            print(
                f"Error: standard output cannot be written ({output.error.strerror}). What the command made is kept; "
                "send its output elsewhere.",
                file=sys.stderr,
            )
    _flush(sys.stderr)
    if status and errors is not None and errors.lost:
        sys.stdout.write(errors.lost.decode("utf-8", "replace"))
        _flush(sys.stdout)
    sys.exit(status)


def _open_streams() -> tuple[Outlet | None, Outlet | None]:
    """Replace the standard streams; return the outlets of output and errors, None where a stream is left alone."""
    closed = [number for number in (STDIN, STDOUT, STDERR) if not _is_open(number)]
    # A file that is opened later must not become a standard stream: libraries would write their messages into it.
    for number in closed:
        opened = os.open(os.devnull, os.O_RDWR)
        os.set_inheritable(opened, True)
        assert opened == number
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 (for as long as the process lives)
    outlets: list[Outlet | None] = []
    for number, name in ((STDOUT, "stdout"), (STDERR, "stderr")):
        stream: TextIO | None = getattr(sys, name)
        outlet = None
        if stream is None or _is_plain(stream, number):
            if stream is not None:
                _flush(stream)
            outlet = Outlet(number, closed=number in closed)
            encoding = stream.encoding if stream is not None else "utf-8"
            text = _AsciiText if encoding.lower().replace("_", "-") in ("ascii", "us-ascii") else io.TextIOWrapper
            # A name of a file may hold what no encoding has.
            replacement = text(io.BufferedWriter(outlet), encoding, "backslashreplace", line_buffering=True)
            setattr(sys, name, replacement)
        outlets.append(outlet)
    return outlets[0], outlets[1]


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _is_plain(stream: TextIO, number: int) -> bool:
    """Tell whether a stream writes to a descriptor as it is; others, such as a console of Windows, are left alone."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return type(raw) is io.FileIO and raw.fileno() == number


def _flush(stream: TextIO) -> None:
    with contextlib.suppress(OSError):  # of a stream that was left alone
        stream.flush()
