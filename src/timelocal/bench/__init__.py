"""Speed: this library compared with torch.nn, JAX, and the hardware's own limit."""

from timelocal.bench.estimator import estimator_benchmark
from timelocal.bench.exact import exact_benchmark
from timelocal.bench.fit import fit_benchmark
from timelocal.bench.online import online_benchmark
from timelocal.bench.run import Comparison, benchmark, summary
from timelocal.bench.sequences import sequences_benchmark
from timelocal.bench.shapes import SHAPES, Shape, long_sequences

__all__ = [
    "SHAPES",
    "Comparison",
    "Shape",
    "benchmark",
    "estimator_benchmark",
    "exact_benchmark",
    "fit_benchmark",
    "long_sequences",
    "online_benchmark",
    "sequences_benchmark",
    "summary",
]
