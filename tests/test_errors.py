"""What messages are made of."""

import errno
import os

from sf2cli.errors import did_you_mean, in_short, why


def test_why_leaves_out_number_and_path():
    failure = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "names.tsv")
    assert "names.tsv" in str(failure)
    assert why(failure) == "No such file or directory"
    assert why(OSError("no address")) == "no address"
    assert why(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")) == "not UTF-8 text"
    assert why(ValueError("no JSON")) == "no JSON"


def test_in_short_is_one_line_and_cuts_no_word():
    words = "connection\nclosed  by peer " * 20
    said = in_short(RuntimeError(words))
    assert len(said) <= 200
    assert said.endswith(" ...")
    assert set(said.removesuffix(" ...").split()) == {"connection", "closed", "by", "peer"}
    assert in_short(RuntimeError("connection\nclosed")) == "connection closed"


def test_in_short_keeps_the_beginning_of_one_long_word():
    said = in_short(RuntimeError("open /" + "x" * 300))
    assert said == "open /" + "x" * 190 + " ..."


def test_a_slip_is_told_from_another_word():
    names = ["a.rate", "a.name", "b.name", "b.length"]
    assert did_you_mean("a.raet", names) == "; did you mean a.rate?"
    # Of one section alone: there it belongs, unless another one was named.
    assert did_you_mean("length", names) == "; did you mean b.length?"
    assert did_you_mean("a.length", names) == ""
    assert did_you_mean("a.seed", [*names, "seed"]) == "; did you mean seed?"
    # In two: either may be meant.
    assert did_you_mean("name", names) == ""
    assert did_you_mean("a.colour", names) == ""
    assert did_you_mean("a.rate", ["a.rate"]) == ""
