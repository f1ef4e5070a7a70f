"""Where the cache folder is, also on a machine to which the package was copied without its dependencies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gpu_transconv import cache_folder


def test_a_named_folder_needs_no_other_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    monkeypatch.setenv("GPU_TRANSCONV_CACHE_DIR", "some/folder")
    assert cache_folder.folder() == Path("some/folder")


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("named", [False, True], ids=["usual", "named"])
def test_without_platformdirs_the_folder_is_the_same(platform, named, monkeypatch, tmp_path):
    monkeypatch.delenv("GPU_TRANSCONV_CACHE_DIR", raising=False)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
        if named:
            monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("HOME", str(tmp_path))
    module = {"linux": "unix", "darwin": "macos", "win32": "windows"}[platform]
    platforms = pytest.importorskip(f"platformdirs.{module}")
    kind = {"linux": "Unix", "darwin": "MacOS", "win32": "Windows"}[platform]
    if platform == "win32":
        monkeypatch.setattr(platforms, "get_win_folder", lambda _: str(tmp_path / "LOCALAPPDATA"))
        if not named:
            (tmp_path / "AppData").mkdir()
    expected = Path(getattr(platforms, kind)("gpu_transconv", appauthor=False).user_cache_dir)
    monkeypatch.setattr(cache_folder.sys, "platform", platform)
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    if platform == "win32" and not named:
        assert cache_folder.folder() == tmp_path / "AppData" / "Local" / "gpu_transconv" / "Cache"
    else:
        assert cache_folder.folder() == expected


def test_a_user_without_a_home(monkeypatch, tmp_path):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("GPU_TRANSCONV_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(cache_folder.Path, "home", nobody)
    monkeypatch.setattr(cache_folder.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(cache_folder.sys, "platform", "linux")
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert cache_folder.folder() == tmp_path / ".cache" / "gpu_transconv"
