"""An environment that holds what the core needs and nothing else: `python core_environment.py FOLDER WHEEL`.

A virtual environment of its own, without pip. Its site-packages link to the packages that timelocal requires
outside of its extras, and to what these require in turn, as they are installed beside this interpreter, so
that torch is not copied. Nothing else can be imported there.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def build(folder: Path, requirements: Iterable[str]) -> Path:
    """Make the environment in `folder` for these requirements; returns its interpreter."""
    venv.create(folder, with_pip=False)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    for one in needed(requirements):
        for name in {path.parts[0] for path in one.files or ()} - {"..", "__pycache__"}:
            link, target = site / name, Path(str(one.locate_file(name)))
            if target.exists() and not link.exists():
                link.symlink_to(target, target_is_directory=target.is_dir())
    return folder / "bin" / "python"


def needed(requirements: Iterable[str]) -> list[Distribution]:
    """The installed distributions that fulfil requirements, and theirs, without any extra."""
    found: dict[str, Distribution] = {}
    waiting = list(requirements)
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        here = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if here and name not in found:
            found[name] = distribution(name)
            assert requirement.specifier.contains(found[name].version, prereleases=True), name
            waiting += found[name].requires or ()
    return list(found.values())


def main(folder: Path, wheel: Path) -> None:
    """The environment, and the wheel installed in it."""
    unpacked = folder.with_name(f"{folder.name}-wheel")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "install", "--no-deps", "--target", unpacked, wheel], check=True)
    (information,) = unpacked.glob("timelocal-*.dist-info")
    python = build(folder, Distribution.at(information).requires or ())
    subprocess.run([*pip, "--python", python, "install", "--no-deps", wheel], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
