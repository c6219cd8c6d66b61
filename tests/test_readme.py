"""The README against the demo: what it says the demo runs is what the demo runs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_demo_runs_the_readmes_commands():
    demo = (ROOT / "scripts" / "demo.sh").read_text()
    commands = re.findall(r"^run (sf2 .*)$", demo, flags=re.M)
    assert [command.split()[1] for command in commands] == ["pack", "train", "eval", "scale-test"]
    for command in commands:
        assert f"    {command}\n" in README


def test_what_the_readme_names_is_there():
    names = re.findall(r"\b(?:configs|scripts|shards|tests)/[\w./]+\.\w+", README)
    assert len(set(names)) > 4
    for name in names:
        assert (ROOT / name).exists(), name


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"(?:`|^    )make ([a-z-]+)", README, flags=re.M)
    assert {"demo", "test", "seeds"} <= set(targets)
    for target in targets:
        if target.startswith("bench-"):
            assert (ROOT / "scripts" / f"bench_{target.removeprefix('bench-')}.py").exists(), target
        else:
            assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_no_placeholder_is_left():
    assert not re.findall(r"^[A-Z]+_[A-Z]+$", README, flags=re.M)
