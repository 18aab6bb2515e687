"""The kernels under the compiler's sanitizers: no read or write out of place, no race between threads."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
AVX2 = ("-mavx2", "-mfma")
FLAGS = {
    "generic": (),
    "avx2": AVX2,
    "avx512": (*AVX2, "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq"),
}
CAN_RUN = {"AVX2": ("generic", "avx2"), "AVX512": ("generic", "avx2", "avx512")}


def build(source: Path, program: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler")
    command = [
        compiler,
        "-std=c++17",
        "-g",
        "-w",
        "-pthread",
        f"-I{ROOT / 'native'}",
        *flags,
    ]
    return subprocess.run(
        [*command, str(source), "-ldl", "-o", str(program)], capture_output=True, text=True
    )


def run(program: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program)], capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
@pytest.mark.parametrize("instruction_set", FLAGS)
def test_no_sanitizer_complains(instruction_set: str, sanitizer: str, tmp_path: Path) -> None:
    if instruction_set not in CAN_RUN.get(torch.backends.cpu.get_cpu_capability(), ("generic",)):
        pytest.skip(f"this processor has no {instruction_set}")
    flag = f"-fsanitize={sanitizer}"
    probe = tmp_path / "probe.cpp"
    probe.write_text("int main() { return 0; }", encoding="ascii")
    if build(probe, tmp_path / "probe", flag).returncode or run(tmp_path / "probe").returncode:
        pytest.skip(f"no {flag} here")
    driver = Path(__file__).parent / "kernels_driver.cpp"
    program = tmp_path / "driver"
    # without optimization AddressSanitizer compiles in a quarter of the time, ThreadSanitizer runs six times
    # as long
    flags = (flag, "-O1" if sanitizer == "thread" else "-O0", "-fno-sanitize-recover=all")
    built = build(driver, program, *flags, *FLAGS[instruction_set])
    assert built.returncode == 0, built.stderr
    ran = run(program)
    assert ran.returncode == 0, ran.stdout + ran.stderr
