"""Shared by all tests: where things are, how Hypothesis runs, and what CI does not forgive."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]
IN_CI = os.environ.get("CI", "").lower() in ("true", "1")

# Examples are few and untimed: two busy cores must not decide whether a law holds. CI draws
# the same ones each time, so that it decides the same of the same code; elsewhere they vary.
hypothesis.settings.register_profile("house", deadline=None, print_blob=True, derandomize=IN_CI)
hypothesis.settings.load_profile("house")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs_server: needs a real server or tool; in CI a skip of it is a failure"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI servers and tools are there, so a test skipped for want of one has failed."""
    report = yield
    unforgiven = item.get_closest_marker("needs_server") or "promtool" in str(report.longrepr)
    if IN_CI and report.skipped and unforgiven and "xfail" not in report.keywords:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where it must run: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; a test that needs it skips without."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of shared data is not beside the repository")
    return folder
