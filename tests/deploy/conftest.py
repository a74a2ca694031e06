"""The image of this repository, built once for the tests of a process."""

from __future__ import annotations

import pytest

from mirrord.testing.servers import require
from tests.support.container import TOOLS, ContainerImage, built_image, unbuildable


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> ContainerImage:
    require(*TOOLS)
    if reason := unbuildable():
        pytest.skip(reason)
    return built_image(tmp_path_factory.mktemp("image"))
