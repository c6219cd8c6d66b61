"""What every test may rely on."""

import pytest

from sf2cli.evaluation.cache import FOLDER_VARIABLE


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory):
    """No test reads or fills the user's cache of embeddings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield
