"""One tiny checkpoint for all tests of commands."""

import pytest

from jaxablate.experiments.tiny import write_tiny_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "model"
    write_tiny_model(folder, seed=0)
    return folder
