"""The wheel holds everything, and its generic import names are not shadowed by the folder one happens to stand in."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIST = "import sys; sys.path.insert(0, sys.argv.pop(1)); import theory; print(theory.__file__); from derivations.cli import main; sys.argv[1:] = ['list']; main()"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(build, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_list_runs_from_the_wheel_in_a_folder_with_the_same_names(unpacked, tmp_path):
    for name in ("theory", "numerics", "derivations"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('the wrong package')\n")
    done = subprocess.run(
        [sys.executable, "-I", "-c", LIST, str(unpacked)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert str(unpacked) in done.stdout
    assert "rmsprop" in done.stdout


def test_console_script_ignores_the_present_folder(tmp_path):
    (tmp_path / "theory").mkdir()
    (tmp_path / "theory" / "__init__.py").write_text("raise ImportError('the wrong package')\n")
    done = subprocess.run(
        [Path(sys.executable).parent / "centralflow", "list"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "rmsprop" in done.stdout
