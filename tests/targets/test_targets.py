from __future__ import annotations

import pytest

from edgeconv import targets
from edgeconv.errors import UsageError
from edgeconv.options import ConvertOptions


@pytest.mark.parametrize("name", list(targets.TARGETS))
def test_targets_are_found_by_their_name(name: str) -> None:
    assert targets.find(name).name == name


def test_unknown_targets_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="use one of cpu"):
        targets.find("toaster")


def test_the_cpu_takes_every_model_as_it_is() -> None:
    options = ConvertOptions(quantize="fp16")
    assert targets.find("cpu").adapt(options) == options
    assert targets.find("cpu").float_stages(options) == ()
    assert targets.find("cpu").stages(options) == ()
