"""What every test may rely on."""

import sys

import pytest

from sf2cli.evaluation.cache import FOLDER_VARIABLE


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory):
    """No test reads or fills the user's cache of embeddings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _main_ends_no_test_process():
    """`main` ends a process at once where DeepSpeed is imported, as other tests may have it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sf2cli.cli._end_with_threads", sys.exit)
        yield
