"""Files of results say when, where and with what they were measured."""

from __future__ import annotations

import subprocess
from datetime import datetime

import pytest

from gpu_transconv.tools.bench import machine

INTEL = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 207
model name\t: Intel(R) Xeon(R) Platinum 8581C
stepping\t: 2
flags\t\t: fpu vme avx512f{more}

processor\t: 1
model name\t: another
"""


@pytest.mark.parametrize(("more", "virtual"), [(" hypervisor lahf_lm", True), ("", False)])
def test_a_hypervisor_is_seen(tmp_path, more, virtual):
    (tmp_path / "cpuinfo").write_text(INTEL.format(more=more))
    found = machine.identify(tmp_path / "cpuinfo")
    assert found["cpu"] == "Intel(R) Xeon(R) Platinum 8581C"
    assert found["model"] == "GenuineIntel family 6 model 207 stepping 2"
    assert found["virtual"] is virtual
    assert ("virtual machine" in machine.name_machine(found)) is virtual


def test_what_a_system_does_not_tell_is_none(tmp_path):
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    for path in (tmp_path / "arm", tmp_path / "missing"):
        found = machine.identify(path)
        assert (found["model"], found["virtual"]) == (None, None)
        assert found["cpu"]
        assert "None" not in machine.name_machine(found)


def test_the_commit_is_that_of_the_checkout(tmp_path):
    def git(*words):
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert machine.commit(tmp_path) is None
    git("init")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "First")
    (tmp_path / "site-packages").mkdir()  # an installed copy inside somebody's checkout
    (tmp_path / "site-packages" / "code.py").write_text("1")
    assert machine.commit(tmp_path / "package") == git("rev-parse", "HEAD")
    assert machine.commit(tmp_path / "site-packages") is None
    (tmp_path / "package" / "code.py").write_text("2")
    assert machine.commit(tmp_path / "package") == git("rev-parse", "HEAD") + "+"


def test_a_heading_has_it_all():
    heading = machine.make_heading({"cpu": "A"})
    assert datetime.fromisoformat(heading["date"]).tzinfo is not None
    assert set(heading) == {"schema", "date", "commit", "machine", "versions"}
    assert {"python", "numpy", "numba"} <= set(heading["versions"])


def test_machine_figures() -> None:
    found = machine.measure_machine(1, copy_bytes=2**22, tries=1)
    assert min(found["peak_gflops"].values()) > 0.1  # how they compare depends on what else the machine does
    assert found["copy_gb_per_s"] > 0.1
    assert found["busy"] is None or 0 <= found["busy"] <= 1
