"""The native kernels: one optional extension per instruction set, all from the same source.

Everything else about the package is in pyproject.toml. An extension that does not compile (no compiler,
another processor, another compiler) is left out, and the package runs without it, on plain torch.
"""

import platform
from pathlib import Path

from setuptools import Extension, setup

INSTRUCTION_SETS = {"generic": []}
if platform.machine() in ("x86_64", "AMD64"):
    avx2 = ["-mavx2", "-mfma"]
    avx512 = [*avx2, "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq"]
    INSTRUCTION_SETS |= {"avx2": avx2, "avx512": [*avx512, "-mprefer-vector-width=512"]}

FLAGS = [
    "-std=c++17",
    "-O3",
    "-g0",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",  # a product is fused with a sum only where the source says so
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",  # vector types cross only inlined calls
    "-Wno-uninitialized",  # GCC 12 complains of its own intrinsics
    "-Wno-maybe-uninitialized",
]

setup(
    ext_modules=[
        Extension(
            f"timelocal.kernels._native_{name}",
            sources=[f"native/{name}.cpp"],
            depends=sorted(str(path) for path in Path("native").rglob("*.h")),
            extra_compile_args=FLAGS + flags,
            language="c++",
            py_limited_api=True,
            optional=True,
        )
        for name, flags in INSTRUCTION_SETS.items()
    ],
    options={
        "bdist_wheel": {"py_limited_api": "cp311"},
        "build_ext": {"parallel": len(INSTRUCTION_SETS)},  # all at once: their times are alike
    },
)
