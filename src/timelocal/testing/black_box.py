"""The contract of a black box: the properties that the rules that train it rely on.

from timelocal.testing import check_black_box
print(check_black_box(MyDevice()))
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from timelocal.cells import BlackBox, CellWeights, LayerTrajectory, check_report
from timelocal.errors import ArgumentError
from timelocal.network import Network, black_box
from timelocal.rules import ANP, DFA, WP, Rule
from timelocal.seeding import generator
from timelocal.testing.measure import autograd_shut
from timelocal.testing.report import ContractReport, Finding
from timelocal.typing import State

_SEQUENCES, _STEPS, _INPUTS, _HIDDEN = 3, 8, 3, 5


def check_black_box(
    cell: BlackBox, *, dtype: torch.dtype = torch.float64, resolution: float = 0.0
) -> ContractReport:
    """Run a black box on small batches and measure the properties that perturbation rules rely on.

    These are: its shapes; that states start from the initial one, depend on no later input and on no other
    sequence, and can be carried from one call to the next; that noise moves the measured nodes by exactly its
    own size; that weights and inputs matter; that it writes to none of its arguments; and that it learns.

    Args:
        cell: yours. It is copied (`copy.deepcopy`) for every run, so that a simulated device draws the same
            noise in each. If the copies differ, the properties that their noise would hide are not measured.
        dtype: of inputs and weights.
        resolution: of its measurements (one level of its converter), in units of the pre-activation.

    Returns a report; its `str` is a table.

    Raises:
        AssertionError: with that table, if anything is broken.

    >>> import torch, timelocal as tl
    >>> from timelocal.testing import check_black_box
    >>> class Clipped(tl.BlackBox):
    ...     name = "clipped"
    ...     def scan(self, weights, inputs, initial, node_noise=None):
    ...         hidden, measured = [initial[0]], []
    ...         for drive in self.drive(weights, inputs, node_noise):
    ...             measured.append(drive + hidden[-1] @ weights.hh.t())
    ...             hidden.append(measured[-1].clamp(-1, 1))
    ...         return self.report(inputs, torch.stack(hidden), torch.stack(measured))
    >>> check_black_box(Clipped()).ok
    True
    """
    report = ContractReport(getattr(cell, "name", type(cell).__name__))
    try:
        bench = _Bench(cell, dtype)
        device = _copied(cell)
        noisy = not _same(bench.scan(cell=device), bench.scan(cell=device))
    except Exception as broken:  # a user's device may raise anything
        report.findings.append(Finding("report", "", "", ok=False, details=(_told(broken),)))
        raise AssertionError(str(report)) from broken
    steady = bench.steady
    takes_noise = bench.takes_noise() if steady else None
    for name, declared, check in _CHECKS:
        if not steady and check in _NEED_STEADINESS:
            text = "not measured: copies of it do not behave alike"
            report.findings.append(Finding(name, declared, text, ok=True))
            continue
        try:
            found = check(bench, resolution)
        except Exception as broken:  # a user's device may raise anything
            found = Finding(name, declared, "", ok=False, details=(_told(broken),))
        report.findings.append(found)
    report.findings.append(_noise_of_its_own(noisy))
    report.findings.append(_trained_by(bench, noisy, takes_noise))
    if not report.ok:
        raise AssertionError(str(report))
    return report


class _Bench:
    """A black box on its test bench: small inputs, weights that matter, and a fresh copy for every run."""

    def __init__(self, cell: BlackBox, dtype: torch.dtype) -> None:
        self.cell = cell
        self.network = self.fresh_network(dtype)
        self.weights = CellWeights._make(
            own if own is None else own.detach() for own in self.own_weights()
        )
        g = generator(0, "black box")
        shape = (_STEPS, _SEQUENCES)
        self.inputs = torch.randn(*shape, _INPUTS, generator=g, dtype=torch.float64).to(dtype)
        self.noise = torch.randn(*shape, _HIDDEN, generator=g, dtype=torch.float64).to(dtype)
        states = len(cell.state_names)
        drawn = torch.rand(states, _SEQUENCES, _HIDDEN, generator=g, dtype=torch.float64).to(dtype)
        self.initial: State = tuple((drawn / 2).unbind(0))
        self.steady = _same(self.scan(), self.scan())

    def fresh_network(self, dtype: torch.dtype) -> Network:
        cell = _copied(self.cell)
        network = black_box(cell, _INPUTS, _HIDDEN, 2, seed=0, dtype=dtype)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(2)
        return network

    def own_weights(self) -> CellWeights:
        return self.network.recurrent.weights(0, 0)

    @torch.no_grad()
    def scan(
        self,
        *,
        cell: BlackBox | None = None,
        weights: CellWeights | None = None,
        inputs: Tensor | None = None,
        initial: State | None = None,
        noise: Tensor | None = None,
    ) -> LayerTrajectory:
        """A run of a fresh copy, or of the given one, continued; its report is checked."""
        x = self.inputs if inputs is None else inputs
        start = initial or self.initial
        if cell is None:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                return self.scan(
                    cell=_copied(self.cell), weights=weights, inputs=x, initial=start, noise=noise
                )
        run = cell.scan(weights or self.weights, x.clone(), start, _cloned(noise))
        check_report(cell, run, x, start)
        return run

    def takes_noise(self) -> bool:
        """Whether noise on the nodes changes anything at all."""
        return not _same(self.scan(), self.scan(noise=self.noise))


def _copied(cell: BlackBox) -> BlackBox:
    """A copy, or the cell itself if it cannot be copied."""
    try:
        return copy.deepcopy(cell)
    except Exception:  # a handle of a real device
        return cell


def _cloned(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()


def _parts(run: LayerTrajectory) -> tuple[Tensor, ...]:
    assert run.auxiliary is not None
    return (*run.states, run.auxiliary)


def _away(one: Tensor, other: Tensor) -> float:
    """The greatest difference, relative to values beyond 1."""
    return float(((one - other).abs() / other.abs().clamp(min=1)).max())


def _same(one: LayerTrajectory, other: LayerTrajectory, rows: slice = slice(None)) -> bool:
    """Whether two runs agree up to rounding, in the given sequences."""
    bar = 1e-9 if one.states[0].dtype == torch.float64 else 1e-5
    pairs = zip(_parts(one), _parts(other), strict=True)
    return all(_away(a[:, rows], b[:, rows]) <= bar for a, b in pairs)


def _finding(name: str, declared: str, ok: bool, right: str, wrong: str) -> Finding:
    return Finding(name, declared, right if ok else wrong, ok)


def _reports(bench: _Bench, _: float) -> Finding:
    run = bench.scan()
    finite = all(bool(part.isfinite().all()) for part in _parts(run))
    return _finding("report", "right shapes, finite", finite, "yes", "values that are not finite")


def _starts(bench: _Bench, _: float) -> Finding:
    run = bench.scan()
    names = [
        name
        for name, states, initial in zip(
            bench.cell.state_names, run.states, bench.initial, strict=True
        )
        if not torch.equal(states[0], initial)
    ]
    wrong = f"{', '.join(names)} start elsewhere"
    return _finding("states", "start from the initial ones", not names, "yes", wrong)


def _rows(bench: _Bench, _: float) -> Finding:
    other = bench.inputs.clone()
    other[:, 1:] += 1
    kept = _same(bench.scan(), bench.scan(inputs=other), slice(0, 1))
    wrong = "one sequence changes with another's input"
    return _finding("sequences", "independent of each other", kept, "yes", wrong)


def _causal(bench: _Bench, _: float) -> Finding:
    half = _STEPS // 2
    other = bench.inputs.clone()
    other[half:] += 1
    one, two = bench.scan(), bench.scan(inputs=other)
    assert one.auxiliary is not None
    assert two.auxiliary is not None
    kept = all(
        _away(a[: half + 1], b[: half + 1]) < 1e-5
        for a, b in zip(one.states, two.states, strict=True)
    ) and bool(_away(one.auxiliary[:half], two.auxiliary[:half]) < 1e-5)
    wrong = "a later input changes an earlier step"
    return _finding("time", "only goes forward", kept, "yes", wrong)


def _pieces(bench: _Bench, _: float) -> Finding:
    half = _STEPS // 2
    whole = bench.scan()
    cell = _copied(bench.cell)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = bench.scan(cell=cell, inputs=bench.inputs[:half])
        carried = tuple(states[-1] for states in first.states)
        second = bench.scan(cell=cell, inputs=bench.inputs[half:], initial=carried)
    joined = [torch.cat((a, b[1:])) for a, b in zip(first.states, second.states, strict=True)]
    bar = 1e-9 if bench.inputs.dtype == torch.float64 else 1e-5
    kept = all(_away(a, b) <= bar for a, b in zip(joined, whole.states, strict=True))
    wrong = "a different result in pieces: something else is carried, or the states are not used"
    return _finding("in pieces", "as in one go", kept, "yes", wrong)


def _noise(bench: _Bench, resolution: float) -> Finding:
    """ξ at the first step moves the nodes measured there by ξ; noise does not act on earlier steps."""
    declared = "added to the measured nodes"
    if not bench.takes_noise():
        text = "ignored: NP learns nothing from it. Use ANP(clean=False), or WP"
        return Finding("node_noise", declared, text, ok=True)
    first, last = torch.zeros_like(bench.noise), torch.zeros_like(bench.noise)
    first[0], last[-1] = bench.noise[0], bench.noise[-1]
    clean, moved, late = bench.scan(), bench.scan(noise=first), bench.scan(noise=last)
    assert clean.auxiliary is not None
    assert moved.auxiliary is not None
    assert late.auxiliary is not None
    change = moved.auxiliary[0] - clean.auxiliary[0]
    off = float((change - bench.noise[0]).abs().max())
    bar = resolution + (1e-9 if bench.inputs.dtype == torch.float64 else 1e-4)
    if off > bar:
        scale = float((change * bench.noise[0]).sum() / bench.noise[0].square().sum())
        text = (
            f"noise ξ moves the nodes by {scale:.3g} ξ, up to {off:.3g} away from ξ "
            f"(at most {resolution:g} of resolution)"
        )
        return Finding("node_noise", declared, text, ok=False)
    if not torch.equal(late.auxiliary[:-1], clean.auxiliary[:-1]):
        return Finding(
            "node_noise", declared, "noise at a later step moves an earlier one", ok=False
        )
    return Finding("node_noise", declared, f"yes, to {off:.1e}", ok=True)


def _live(bench: _Bench, _: float) -> Finding:
    run, idle = bench.scan(), []
    g = generator(1, "black box")
    for place, name in enumerate(("weight_ih", "weight_hh")):
        weights = list(bench.weights)
        own = weights[place]
        assert own is not None
        other = torch.randn(own.shape, generator=g, dtype=torch.float64).to(own)
        weights[place] = other * 2
        if _same(run, bench.scan(weights=CellWeights._make(weights))):
            idle.append(name)
    if _same(run, bench.scan(inputs=bench.inputs + 1)):
        idle.append("inputs")
    return _finding(
        "weights, inputs", "matter", not idle, "yes", f"nothing changes with {', '.join(idle)}"
    )


def _untouched(bench: _Bench, _: float) -> Finding:
    given = [bench.inputs.clone(), *(own.clone() for own in bench.initial), bench.noise.clone()]
    weights = CellWeights._make(None if own is None else own.clone() for own in bench.weights)
    kept = [own.clone() for own in (*given, *weights) if own is not None]
    with torch.no_grad():
        _copied(bench.cell).scan(weights, given[0], tuple(given[1:-1]), given[-1])
    now = [own for own in (*given, *weights) if own is not None]
    same = all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))
    return _finding("arguments", "not written to", same, "yes", "it modifies its inputs")


def _noise_of_its_own(noisy: bool) -> Finding:
    told = "yes: no run is clean. Use ANP(clean=False)" if noisy else "no: two runs are the same"
    return Finding("noise of its own", "", told, ok=True)


def _trained_by(bench: _Bench, noisy: bool, takes_noise: bool | None) -> Finding:
    """The rules that it supports find a gradient for every parameter, without autograd."""
    network = bench.fresh_network(bench.inputs.dtype)
    quiet = takes_noise is False
    rules: list[Rule] = [
        WP(network, loss="mse", at="every", sigma=0.5),
        DFA(network, loss="mse", at="every", slope="constant"),
    ]
    if noisy or not quiet:
        rules.insert(
            0, ANP(network, loss="mse", at="every", sigma=0.0 if quiet else 0.5, clean=not noisy)
        )
    targets = torch.zeros(_SEQUENCES, _STEPS, 2, dtype=bench.inputs.dtype)
    names = []
    for rule in rules:
        with autograd_shut(), torch.random.fork_rng():
            torch.manual_seed(0)
            found = rule.estimate(bench.inputs.transpose(0, 1), targets).gradients
        if all(bool(own.isfinite().all() and (own != 0).any()) for own in found.values()):
            names.append(type(rule).__name__)
    told = f"{' and '.join(names) or 'no rule'}" + (
        "; it has no noise and accepts none: no other rule learns" if quiet and not noisy else ""
    )
    return Finding("trained by", "ANP, WP or DFA(slope=…)", told, len(names) == len(rules))


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, AssertionError | ArgumentError) else repr(error)


_Check = Callable[[_Bench, float], Finding]
_CHECKS: tuple[tuple[str, str, _Check], ...] = (
    ("report", "right shapes, finite", _reports),
    ("states", "start from the initial ones", _starts),
    ("sequences", "independent of each other", _rows),
    ("time", "only goes forward", _causal),
    ("in pieces", "as in one go", _pieces),
    ("node_noise", "added to the measured nodes", _noise),
    ("weights, inputs", "matter", _live),
    ("arguments", "not written to", _untouched),
)
_NEED_STEADINESS = (_rows, _causal, _pieces, _noise)
