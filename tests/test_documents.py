"""All code blocks of the documents, and the examples in docstrings, run and print what they show."""

import doctest
import importlib
import os
import pkgutil
import pydoc
import re
import shutil
import subprocess
import sys
from pathlib import Path

import obstore
import pytest

import builder
import store_spec
from tests.campaigns.processes import cluster
from tests.document_section import bash, environment_in
from tests.documents import DOCUMENTS, REPOSITORY, blocks, command, installed, read_document, sections
from tests.frozen.cases import write_recordings
from tests.real_data.gallery import SECTION as GALLERY
from tests.store.cloud_servers import s3_bucket

SECTIONS = {
    (name, title): found
    for name in DOCUMENTS
    for title, found in sections(read_document(name), name).items()
    if title != GALLERY  # tests/real_data runs it
}
TRAINING = ("README.md", "Train an LSTM")
FRAMEWORKS = ("store_spec/README.md", "Use it with torch, Keras and JAX")
BUCKETS = ("README.md", "Buckets and clusters")
APART = (TRAINING, FRAMEWORKS, BUCKETS)  # run by other tests


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment in which `seqzarr` and `python` are those that run the tests."""
    return environment_in(tmp_path_factory.mktemp("environment") / "programs") | {
        "OMP_NUM_THREADS": "1",  # two libraries that each take all cores are slower than one core
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, environment) -> Path:
    """Return a folder like a clone in which the README's first command was run, without the installation."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "tests").mkdir()
    (folder / "tests" / "data").symlink_to(REPOSITORY / "tests" / "data")
    job = installed(command("main-job", read_document("README.md")))
    assert "270 sequences" in bash(job, "README.md", folder, environment)
    write_recordings(folder / "recordings")  # a reader has other files there
    return folder


@pytest.fixture
def after_main_job(clone: Path, tmp_path: Path) -> Path:
    """Return a copy of that folder: each section needs only the results of the first command."""
    return Path(shutil.copytree(clone, tmp_path / "clone", symlinks=True))


def run_section(section: tuple[str, str], after_main_job: Path, environment: dict[str, str]) -> str:
    """Run a section's blocks in that folder; return what they print."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.document_section", *section],
        cwd=after_main_job,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if section not in (TRAINING, FRAMEWORKS):
        assert done.stderr == ""
    expected = sum(block.mark not in ("ci", "untested") and block.language != "text" for block in SECTIONS[section])
    assert f"\n{expected} blocks run\n" in f"\n{done.stdout}"
    return done.stdout


@pytest.mark.slow
def test_the_section_on_buckets_and_clusters_works(after_main_job, environment, tmp_path):
    with s3_bucket() as bucket, cluster(tmp_path, {}) as scheduler:
        store, train = obstore.store.from_url(bucket), REPOSITORY / "tests" / "data" / "japanese-vowels" / "train"
        for file in train.iterdir():
            obstore.put(store, f"train/{file.name}", file)
        run_section(BUCKETS, after_main_job, os.environ | environment | {"SCHEDULER": scheduler.address})


@pytest.mark.parametrize("section", [each for each in SECTIONS if each not in APART], ids=": ".join)
def test_blocks_of_a_section_have_the_output_that_they_show(section, after_main_job, environment):
    run_section(section, after_main_job, environment)


@pytest.mark.slow
@pytest.mark.frameworks
def test_keras_learns_from_the_same_store(after_main_job, environment):
    printed = run_section(FRAMEWORKS, after_main_job, environment)
    [percent] = re.findall(r"Keras is right about ([\d.]+)%", printed)
    assert float(percent) > 75  # by chance it would be 11


@pytest.mark.slow
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


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_belongs_to_a_section(document):
    text = read_document(document)
    every = blocks(text, document)
    assert [block for found in sections(text, document).values() for block in found] == every
    for block in every:
        if block.language == "text":
            assert not re.search(r"^(\$|>>>|import|from|pip|python|seqzarr) ", block.text, re.MULTILINE)
    assert len(re.findall(r"^`{3,}", text, re.MULTILINE)) == 2 * len(every)


def test_only_two_blocks_are_left_to_ci():
    every = [block for document in DOCUMENTS for block in blocks(read_document(document), document)]
    assert [block.name for block in every if block.mark == "ci"] == ["main-job", "tests"]
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert {"main-job", "tests"} <= set(re.findall(r"readme_command ([\w-]+)", ci))


def test_only_short_blocks_about_clusters_are_untested():
    untested = [one for name in DOCUMENTS for one in blocks(read_document(name), name) if one.mark == "untested"]
    assert [block.name for block in untested] == ["slurm", "kubernetes", "coiled"]
    for block in untested:
        compile(block.text, block.place, "exec")
        assert block.text.count("\n") <= 5


def test_the_readme_has_at_most_220_lines():
    assert len(read_document("README.md").splitlines()) <= 220


@pytest.mark.parametrize("name", [*DOCUMENTS, "tests/README.md", "tests/benchmarks/README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files_and_headings_that_exist(name):
    for path, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", read_document(name)):
        target = (REPOSITORY / name).parent / path if path else REPOSITORY / name
        assert target.exists(), f"{name} links to {path}"
        titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {title.lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "tests/README.md"])
def test_modules_and_folders_that_texts_name_exist(name):
    named = set(re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?)`", read_document(name)))
    roots = [REPOSITORY, *(REPOSITORY / top for top in ("builder", "store_spec", "tests"))]
    assert named
    assert not {path for path in named if not any((root / path).exists() for root in roots)}


def test_what_docstrings_name_by_its_full_name_exists():
    texts = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "store_spec").rglob("*.py")]
    named = {name for text in texts for name in re.findall(r"`(store_spec\.\w+\.[\w.]+)`", text)}
    assert len(named) > 9
    assert not {name for name in named if pydoc.locate(name) is None}


def test_contributing_has_a_line_for_each_package():
    text = read_document("CONTRIBUTING.md")
    packages = {
        f"{path.parent.relative_to(REPOSITORY)}/"
        for top in ("builder", "store_spec")
        for path in REPOSITORY.glob(f"{top}/**/__init__.py")
    }
    lacking = {package for package in packages if f"`{package}`" not in text}
    assert not lacking


# These import a framework, and other tests run them.
ADAPTERS = {"store_spec.torch", "store_spec.torch_epochs", "store_spec.tensorflow"}

MODULES = [
    module.name
    for package in (builder, store_spec)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if module.name not in ADAPTERS and not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", ["builder", "store_spec", *MODULES])
def test_the_examples_in_the_docstrings_run(name, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0


def test_docstrings_have_examples():
    """The test above would pass for a package whose modules were not found."""
    for package in (builder, store_spec):
        folder = Path(package.__path__[0])
        assert (
            len([name for name in MODULES if name.startswith(package.__name__)]) >= len(list(folder.glob("*.py"))) - 4
        )
        assert any(">>> " in file.read_text() for file in folder.glob("*.py"))
