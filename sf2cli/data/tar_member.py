"""The members of a shard: USTAR, with fixed times and owners.

That keeps shards the same byte for byte, and spares the kilobyte that a PAX header adds to each
member. The headers of a set differ in name and size only, so one made by tarfile is the pattern
for all: making each anew would take as long as checking its image.
"""

from __future__ import annotations

import tarfile

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
_NAME, _SIZE, _SUM = slice(0, 100), slice(124, 136), slice(148, 156)


def member_header(name: str, size: int) -> bytes:
    """The header of a plain file.

    Args:
        name: ASCII, at most 100 characters.
        size: bytes, less than 8 GiB.
    """
    field = name.encode("ascii")
    octal = b"%011o" % size
    checksum = _PATTERN_SUM + sum(field) + sum(octal)
    return b"".join(
        (field.ljust(100, b"\0"), _TO_SIZE, octal, _TO_SUM, b"%06o\0 " % checksum, _FROM_SUM)
    )


def member_bytes(size: int) -> int:
    """How long a member of `size` bytes is: header, data, and zeros up to a whole block."""
    return BLOCK + size + -size % BLOCK


def padding(size: int) -> bytes:
    """The zeros after `size` bytes of data."""
    return bytes(-size % BLOCK)


def _pattern() -> bytes:
    info = tarfile.TarInfo("")
    info.mode = 0o444
    return info.tobuf(tarfile.USTAR_FORMAT)


_PATTERN = _pattern()
_TO_SIZE = _PATTERN[_NAME.stop : _SIZE.start]
# The NUL that ends the size is of the pattern.
_TO_SUM = _PATTERN[_SIZE.stop - 1 : _SUM.start]
_FROM_SUM = _PATTERN[_SUM.stop :]
# A checksum is that of the header with blanks in its own field.
_PATTERN_SUM = sum(_TO_SIZE) + sum(_TO_SUM) + sum(_FROM_SUM) + 8 * ord(" ")
