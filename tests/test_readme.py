"""The README does what it says: all its blocks are run, and what it shows is what comes out."""

import os
import re
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from tests.readme import README, blocks, command, sections
from tests.readme_section import needs_frameworks

REPOSITORY = README.parent
SECTIONS = sections(README.read_text(encoding="utf-8"))
SETUP = "python3 -m venv .venv && .venv/bin/pip install . && "
TRAINING = "Train an LSTM"
FRAMEWORKS = "Use it with torch, Keras and JAX"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `seqzarr` and `python` are those that run the tests."""
    programs = tmp_path_factory.mktemp("programs")
    scripts = Path(sys.executable).parent
    if not (scripts / "seqzarr").exists():
        shim = programs / "seqzarr"
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m builder "$@"\n')
        shim.chmod(0o755)
    return os.environ | {
        "PATH": os.pathsep.join([str(programs), str(scripts), os.environ["PATH"]]),
        "PYTHONPATH": str(REPOSITORY),
        "COLUMNS": "80",
        "OMP_NUM_THREADS": "1",  # two libraries that each take all cores are slower than one core
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


@pytest.fixture(scope="module")
def after_main_job(tmp_path_factory: pytest.TempPathFactory, environment) -> Path:
    """A folder like a clone in which the README's first command was run, but for the installation."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "tests").mkdir()
    (folder / "tests" / "data").symlink_to(REPOSITORY / "tests" / "data")
    whole = command("main-job", README.read_text(encoding="utf-8"))
    assert whole.startswith(SETUP)
    job = whole.removeprefix(SETUP).replace(".venv/bin/seqzarr", "seqzarr")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", job], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    assert "270 sequences" in done.stdout
    (folder / "recordings").mkdir()
    for number in range(6):  # a reader has files of her own
        with wave.open(str(folder / "recordings" / f"{number}_take_1.wav"), "wb") as recording:
            recording.setparams((1, 2, 8000, 0, "NONE", ""))
            recording.writeframes(np.arange(100 + number, dtype="<i2").tobytes())
    return folder


def run_section(title: str, after_main_job: Path, environment: dict[str, str]) -> str:
    """Run a section's blocks in that folder; return what they print.

    The sections share it, as for a reader who follows them all, but each needs only what the main job left.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.readme_section", title],
        cwd=after_main_job,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if not needs_frameworks(SECTIONS[title]):
        assert done.stderr == ""
    expected = sum(block.mark != "ci" and block.language != "text" for block in SECTIONS[title])
    assert f"\n{expected} blocks run\n" in f"\n{done.stdout}"
    return done.stdout


@pytest.mark.parametrize("title", [title for title in SECTIONS if title not in (TRAINING, FRAMEWORKS)])
def test_blocks_of_a_section_do_what_they_show(title, after_main_job, environment):
    assert not needs_frameworks(SECTIONS[title])
    run_section(title, after_main_job, environment)


@pytest.mark.frameworks
def test_keras_learns_from_the_same_store(after_main_job, environment):
    printed = run_section(FRAMEWORKS, after_main_job, environment)
    [percent] = re.findall(r"Keras is right about ([\d.]+)%", printed)
    assert float(percent) > 75  # by chance it would be 11


@pytest.mark.frameworks
def test_the_training_loop_is_short_and_right_about_nine_of_ten_sequences_that_it_never_saw(
    after_main_job, environment
):
    [script] = [block for block in SECTIONS[TRAINING] if block.name == "train.py"]
    assert script.text.count("\n") <= 40
    printed = run_section(TRAINING, after_main_job, environment)
    [(right, total)] = re.findall(r"(\d+) of (\d+) others right", printed)
    assert int(total) > 50
    assert int(right) / int(total) >= 0.9


def test_every_block_belongs_to_a_section_and_two_alone_are_left_to_ci():
    every = blocks(README.read_text(encoding="utf-8"))
    assert [block for found in SECTIONS.values() for block in found] == every
    assert [block.name for block in every if block.mark == "ci"] == ["main-job", "tests"]
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert {"main-job", "tests"} <= set(re.findall(r"readme_command ([\w-]+)", ci))
    for block in every:
        if block.language == "text":
            assert not re.search(r"^(\$|>>>|import|from|pip|python|seqzarr) ", block.text, re.MULTILINE)
    fences = re.findall(r"^`{3,}", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(every)


def test_the_readme_is_no_longer_than_a_newcomer_reads():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 475


def test_files_that_the_readme_and_contributing_link_to_exist():
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (REPOSITORY / target).exists(), f"{name} links to {target}"


def test_contributing_names_every_module_and_no_other():
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/])((?:builder|store_spec)(?:/\w+)+\.(?:py|md))\b", text))
    there = {
        path.relative_to(REPOSITORY).as_posix()
        for package in ("builder", "store_spec")
        for path in (REPOSITORY / package).rglob("*")
        if path.suffix in (".py", ".md") and path.name != "__init__.py"
    }
    assert named == there
