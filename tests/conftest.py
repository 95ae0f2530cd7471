"""What every test may lean on: the reference folder where it is present, and properties without a clock."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine must not fail a property: time is the benchmarks' business.
settings.register_profile("gpufleet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gpufleet")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of recorded payloads and tables that lies beside the project; tests that need it skip without it."""
    folder = ROOT.parent / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip("the reference folder is not beside this checkout")
    return folder
