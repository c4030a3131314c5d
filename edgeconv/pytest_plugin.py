"""A pytest plugin: parity of bundles as tests.

::

    @pytest.mark.edgeconv_bundle("model.edgeconv")
    def test_model(edgeconv_bundle):
        assert_parity(edgeconv_bundle, gates={"tflite_int8": {"sqnr_db": 30}})

with ``from edgeconv.pytest_plugin import assert_parity``. Without the marker, ``--edgeconv-bundle``
names the bundle; without either the test is skipped. Nothing else of edgeconv is imported before a
test asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from edgeconv.parity.verdict import Verification

MARKER = "edgeconv_bundle"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--edgeconv-bundle``."""
    group = parser.getgroup("edgeconv")
    group.addoption(
        "--edgeconv-bundle", metavar="DIRECTORY", help="bundle that the fixture edgeconv_bundle is"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", f"{MARKER}(path): the bundle that a test is about")


@pytest.fixture
def edgeconv_bundle(request: pytest.FixtureRequest) -> Path:
    """The bundle of the test's marker, relative to pytest's root, or of ``--edgeconv-bundle``."""
    marker = request.node.get_closest_marker(MARKER)
    given = marker.args[0] if marker else request.config.getoption("--edgeconv-bundle")
    if given is None:
        pytest.skip("no bundle: mark the test with edgeconv_bundle(path), or --edgeconv-bundle")
    return Path(request.config.rootpath, given)


def assert_parity(
    bundle: Path,
    gates: Mapping[str, Mapping[str, float]] | None = None,
    baseline: Path | None = None,
    *,
    layers: bool = False,
) -> Verification:
    """Verify a bundle, and fail with what its report says.

    Args:
        bundle: The bundle directory.
        gates: Limits by stage, ``all`` for every stage; over those of ``edgeconv.toml``.
        baseline: An earlier ``parity.json`` or bundle.
        layers: Measure the error of each layer, too, so that a failure names one.

    Returns:
        What was found.

    Raises:
        AssertionError: A gate failed, or a figure regressed.
        InvalidModel: It is no bundle, or a damaged one.
    """
    __tracebackhide__ = True
    from edgeconv.core.gate_files import merged, read_gates
    from edgeconv.parity.bundle import VerifyOptions, verify_bundle
    from edgeconv.reports.text import render_text
    from edgeconv.targets.gates import known_gates

    limits: dict[str, Any] = merged(read_gates(Path.cwd(), known_gates()), gates or {})
    options = VerifyOptions(gates=limits, baseline=baseline, layers=layers)
    found = verify_bundle(Path(bundle), options)
    if not found.passed:
        raise AssertionError("\n" + render_text(found.manifest, found.parity))
    return found
