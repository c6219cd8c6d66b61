import tarfile

import pytest

from sf2cli.data.layout import Layout
from sf2cli.data.tar_member import END, member_header, sample_members


def reference(name, size):
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o444
    return info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 6001, 256_000_000])
@pytest.mark.parametrize("name", ["000000000.jpg", "999999999.cls", "1234567890.png", "x" * 100])
def test_headers_are_those_of_tarfile(name, size):
    assert member_header(name, size) == reference(name, size)


@pytest.mark.parametrize("length", [0, 1, 512, 700])
def test_a_sample_is_two_members_where_the_layout_says(length):
    layout = Layout(10**6)
    content = b""
    for number, label in enumerate((b"7", b"123456")):
        image = bytes([number + 1]) * length
        key = f"{number:09d}"
        members = sample_members(key, label, "jpg", image)
        assert members[:512] == reference(f"{key}.cls", len(label))
        assert members[512:1024] == label.ljust(512, b"\0")
        assert members[1024:1536] == reference(f"{key}.jpg", length)
        place = layout.add(len(label), length)
        content += members
        assert content[place : place + length] == image
        assert layout.bytes == len(content) + len(END)
