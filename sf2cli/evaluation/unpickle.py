"""Unpickling of image lists without trust.

A pickle runs whatever callables it names. Here it may name only the nine that numpy arrays, numpy
scalars and Python-2 strings need, and even those are answered by stand-ins that hold bytes: no
code of numpy runs on what the file says, nothing can be imported, and no class is handed out.

A few bytes of a pickle may also ask for gigabytes, as the place of a memo's entry or as a length,
or for an eternity, as the hash of tuples that hold each other twice. So the operations are those
that lists of bytes need, done by the unpickler in Python, whose memo is a dict; no more is read
than the file has; and nothing of the file is hashed or shown but bytes.
"""

from __future__ import annotations

import os
import pickle
import pickletools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from sf2cli.errors import Sf2Error


class ByteArray:
    """What a pickled 1-D array of bytes or booleans amounts to; `data` is None until it is set."""

    __slots__ = ("data",)

    def __init__(self) -> None:
        self.data: bytes | None = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, _fortran, raw = state
        self.fill(shape, dtype, raw)

    def fill(self, shape: Any, dtype: Any, raw: Any) -> None:
        data = as_bytes(raw)
        if not isinstance(dtype, _ByteType) or data is None or tuple(shape) != (len(data),):
            raise pickle.UnpicklingError("an array that is not one row of bytes or booleans")
        self.data = data


class _ByteType:
    """numpy's dtype for one byte; what the pickle says of its byte order does not matter."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _StandIn:
    """Answers a call by `function`; refuses to be given attributes."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function cannot have a state")


def as_bytes(value: Any) -> bytes | None:
    """The bytes of a bytes-like pickled value (Python-2 text in latin-1), or None."""
    if isinstance(value, ByteArray):
        return value.data
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, str):
        try:
            return value.encode("latin-1")
        except UnicodeEncodeError:
            return None
    return None


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("text in an encoding that is not latin-1")
    return text.encode("latin-1")


def _dtype(name: Any, *_flags: Any) -> _ByteType:
    if as_bytes(name) not in (b"u1", b"|u1", b"b1", b"|b1"):
        shown = (as_bytes(name) or b"?")[:20]
        raise pickle.UnpicklingError(f"an array of type {shown!r}, where u1 or b1 is expected")
    return _ByteType()


def _scalar(dtype: Any, raw: Any) -> bool:
    data = as_bytes(raw)
    if not isinstance(dtype, _ByteType) or data is None or len(data) != 1:
        raise pickle.UnpicklingError("a numpy scalar that is not a boolean")
    return data != b"\0"


def _reconstruct(*_args: Any) -> ByteArray:
    return ByteArray()


def _frombuffer(raw: Any, dtype: Any, shape: Any, _order: Any) -> ByteArray:
    array = ByteArray()
    array.fill(shape, dtype, raw)
    return array


def _no_call(*_args: Any) -> Any:
    raise pickle.UnpicklingError("a call of numpy.ndarray")


_ALLOWED = {
    ("_codecs", "encode"): _StandIn(_encode),
    ("numpy", "ndarray"): _StandIn(_no_call),
    ("numpy", "dtype"): _StandIn(_dtype),
    **{
        (f"numpy.{core}.{module}", name): _StandIn(function)
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}


class _ForbiddenGlobalError(Exception):
    """The pickle asks for something that a list of images does not need."""


class _Operations(dict[int, Callable[[Any], None]]):
    def __missing__(self, operation: int) -> Callable[[Any], None]:
        names = {known.code: known.name for known in pickletools.opcodes}
        name = names.get(chr(operation), f"{operation:#x}")
        raise pickle.UnpicklingError(f"the operation {name}, which no list of images needs")


_OPERATIONS = (
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE"),
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("TUPLE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("LIST", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "INST"),
)


class _Unpickler(pickle._Unpickler):
    dispatch = _Operations(
        (getattr(pickle, name)[0], pickle._Unpickler.dispatch[getattr(pickle, name)[0]])
        for name in _OPERATIONS
    )

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _ForbiddenGlobalError(f"{module}.{name}") from None

    def load_bytearray(self) -> None:
        # Python's makes an array of the length that is asked for, and then looks for its bytes.
        unpickler: Any = self
        (length,) = struct.unpack("<Q", unpickler.read(8))
        unpickler.append(bytearray(unpickler.read(length)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray


class _Whole:
    """A stream that does not try to read more than it has."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._size = os.fstat(stream.fileno()).st_size
        self.readline = stream.readline

    def read(self, size: int) -> bytes:
        if size > self._size - self._stream.tell():
            raise pickle.UnpicklingError("it ends too early")
        return self._stream.read(size)


def load_untrusted(path: Path) -> Any:
    """Unpickle `path`: lists, tuples, numbers, strings, bytes, and `ByteArray` for numpy arrays.

    Raises:
        Sf2Error: unreadable, not a pickle, or a pickle that asks for anything else.
    """
    try:
        with path.open("rb") as stream:
            try:
                return _load(path, stream, "ASCII")
            except UnicodeDecodeError:
                # Python 2 wrote images as its str.
                stream.seek(0)
            try:
                return _load(path, stream, "bytes")
            except UnicodeDecodeError as failure:
                raise _unreadable(path, str(failure)) from None
    except OSError as failure:
        raise Sf2Error(f"{path}: cannot be read ({failure.strerror})") from None


def _load(path: Path, stream: BinaryIO, encoding: str) -> Any:
    try:
        return _Unpickler(_Whole(stream), encoding=encoding).load()
    except (UnicodeDecodeError, OSError):
        raise
    except _ForbiddenGlobalError as failure:
        raise Sf2Error(
            f"{path}: refused: the pickle asks for {failure}, which no list of images needs",
            "Nothing of it was run. Get the file from a source that you trust.",
        ) from None
    except MemoryError:
        raise Sf2Error(f"{path}: the pickle asks for more memory than there is") from None
    except Exception as failure:
        # A damaged pickle fails in any way that its opcodes can.
        raise _unreadable(path, str(failure) or type(failure).__name__) from None


def _unreadable(path: Path, reason: str) -> Sf2Error:
    return Sf2Error(
        f"{path}: not a pickle of image bytes ({reason})",
        "Expected an InsightFace .bin: a pickle of (images, issame).",
    )
