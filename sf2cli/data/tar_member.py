"""The members of a shard: USTAR, with fixed times and owners.

That keeps shards the same byte for byte, and spares the kilobyte that a PAX header adds to each
member. The headers of a set differ in name and size only, so one made by tarfile is the pattern
for all: making each anew would take as long as checking its image.
"""

from __future__ import annotations

import tarfile
from functools import lru_cache

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
_ZEROS = bytes(BLOCK)
_NAME, _SIZE, _SUM = slice(0, 100), slice(124, 136), slice(148, 156)


def member_header(name: str, size: int) -> bytes:
    """The header of a plain file.

    Args:
        name: ASCII, at most 100 characters.
        size: bytes, less than 8 GiB.
    """
    field = name.encode("ascii")
    before, checksum, after = _around_checksum(len(field), "", size)
    return b"".join((field, before, b"%06o\0 " % (checksum + sum(field)), after))


def sample_members(key: str, label: bytes, kind: str, image: bytes | memoryview) -> bytes:
    """The two members of a sample: `KEY.cls` with its label, and `KEY.KIND` with its image."""
    field = key.encode("ascii")
    digits = sum(field)
    before, checksum, rest = _label_member(len(field), label)
    image_before, image_checksum, after = _around_checksum(len(field), "." + kind, len(image))
    return b"".join(
        (
            *(field, before, b"%06o\0 " % (checksum + digits), rest),
            *(field, image_before, b"%06o\0 " % (image_checksum + digits), after),
            *(image, padding(len(image))),
        )
    )


def padding(size: int) -> bytes:
    """The zeros after `size` bytes of data."""
    return _ZEROS[: -size % BLOCK]


def _pattern() -> bytes:
    info = tarfile.TarInfo("")
    info.mode = 0o444
    return info.tobuf(tarfile.USTAR_FORMAT)


_PATTERN = _pattern()


@lru_cache(maxsize=16_384)
def _around_checksum(stem: int, suffix: str, size: int) -> tuple[bytes, int, bytes]:
    """What a header has between a name's first `stem` characters and its checksum; the checksum
    without those characters; and what follows."""
    octal = b"%011o" % size
    # The NUL that ends the size is of the pattern.
    before = (
        suffix.encode("ascii").ljust(_NAME.stop - stem, b"\0")
        + _PATTERN[_NAME.stop : _SIZE.start]
        + octal
        + _PATTERN[_SIZE.stop - 1 : _SUM.start]
    )
    after = _PATTERN[_SUM.stop :]
    # A checksum is that of the header with blanks in its own field.
    return before, sum(before) + sum(after) + 8 * ord(" "), after


@lru_cache(maxsize=16)
def _label_member(stem: int, label: bytes) -> tuple[bytes, int, bytes]:
    """As `_around_checksum`, and the data with it: the images of an identity follow each other."""
    before, checksum, after = _around_checksum(stem, ".cls", len(label))
    return before, checksum, after + label + padding(len(label))
