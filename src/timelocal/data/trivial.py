"""Trivial predictors, which learn next to nothing: the floors of every result."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from timelocal.arguments import as_real, as_tensor, is_whole, whole_problem
from timelocal.data.metrics import mse
from timelocal.data.sequences import Sequences, sequences_problem
from timelocal.errors import Problem, described, raise_problems


def majority_class(train_targets: Tensor, test_targets: Tensor) -> float:
    """Accuracy on the test part of always answering the most frequent class of the training part.

    Args:
        train_targets: labels, int64, any shape; ties are broken by the smallest label.
        test_targets: labels, int64, any shape.

    Returns:
        The fraction of test labels that equal it, in 0..1.

    Raises:
        ArgumentError: a part is empty, or its targets are not classes.

    >>> majority_class(torch.tensor([0, 1, 1]), torch.tensor([1, 1, 1, 0]))
    0.75
    """
    train_targets = as_tensor("train_targets", train_targets)
    test_targets = as_tensor("test_targets", test_targets)
    raise_problems(
        None
        if targets.numel() and not targets.is_floating_point() and int(targets.min()) >= 0
        else Problem(name, described(targets), "at least one integer label, none below 0")
        for name, targets in (("train_targets", train_targets), ("test_targets", test_targets))
    )
    labels, counts = train_targets.long().unique(
        return_counts=True
    )  # in order: ties as a histogram's
    return (test_targets == labels[counts.argmax()]).double().mean().item()


def persistence(part: Sequences, feature: int = 0) -> Tensor:
    """Predict no change: at every step, the input of that step.

    Args:
        part: inputs (N, T, I).
        feature: the input feature that is to be predicted.

    Returns:
        Predictions (N, T, 1).

    >>> persistence(Sequences(torch.tensor([[[1.0], [2.0]]]), torch.zeros(1, 2, 1))).tolist()
    [[[1.0], [2.0]]]
    """
    raise_problems([sequences_problem("part", part)])
    features = part.inputs.shape[2]
    raise_problems([whole_problem("feature", feature, -features, features - 1)])
    return part.inputs[..., int(feature)].unsqueeze(-1)


def linear_on_lags(train: Sequences, test: Sequences, lags: int, ridge: float) -> Tensor:
    """Predict by a linear map of the last inputs, fitted to the training part by ridge regression.

    The weights minimise Σ ‖y_t − c − Σ_k W_k x_{t−k}‖² + ridge ‖W‖², k from 0 to lags − 1, over the
    steps with enough inputs before them in their own sequence.

    Args:
        train: inputs (N, T, I), targets (N, T, O), of one length.
        test: the same, T and N its own.
        lags: the number of inputs, including the current one; 1 or more.
        ridge: above 0, in the unit of squared inputs, summed over sequences and steps.

    Returns:
        Predictions (N, T − lags + 1, O) in the dtype of the test inputs; the first is for step
        lags − 1.

    Raises:
        ArgumentError: too few lags or too many, no ridge, or sequences of several lengths.

    >>> x = torch.rand(3, 40, 1, generator=torch.Generator().manual_seed(0))
    >>> part = Sequences(x[:, 1:], x[:, :-1])  # the input before: a linear map of two lags
    >>> predicted = linear_on_lags(part, part, lags=2, ridge=1e-9)
    >>> torch.allclose(predicted, part.targets[:, 1:], atol=1e-6)
    True
    """
    raise_problems([sequences_problem("train", train), sequences_problem("test", test)])
    raise_problems(
        [
            None
            if 0 < as_real(ridge) < math.inf
            else Problem("ridge", described(ridge), "a finite number above 0"),
            *(
                None
                if is_whole(lags, 1, part.inputs.shape[1])
                else Problem(
                    "lags", described(lags), f"1 to {part.inputs.shape[1]}, the steps of `{name}`"
                )
                for name, part in (("train", train), ("test", test))
            ),
            *(
                None
                if part.lengths is None
                else Problem(f"{name}.lengths", "several", "sequences of one length")
                for name, part in (("train", train), ("test", test))
            ),
            None
            if train.targets.shape[:-1] == train.inputs.shape[:-1]
            else Problem(
                "train.targets", described(train.targets), "(N, T, O), values at every step"
            ),
            None
            if test.inputs.shape[2] == train.inputs.shape[2]
            else Problem("test", f"{test.inputs.shape[2]} features", f"{train.inputs.shape[2]}"),
        ]
    )
    lags, ridge = int(lags), as_real(ridge)
    x = _windows(train.inputs, lags)
    y = train.targets[:, lags - 1 :].double()
    mean_x, mean_y = x.mean((0, 1)), y.mean((0, 1))
    square = ridge * torch.eye(len(mean_x), dtype=torch.float64)
    product = torch.zeros(len(mean_x), len(mean_y), dtype=torch.float64)
    for x_n, y_n in zip(x, y, strict=True):  # one at a time, for what the centred copy takes
        centred = x_n - mean_x
        square += centred.T @ centred
        product += centred.T @ (y_n - mean_y)
    weights = torch.linalg.solve(square, product)
    predicted = (_windows(test.inputs, lags) - mean_x) @ weights + mean_y
    return predicted.to(test.inputs.dtype)


def chosen_ridge(
    train: Sequences,
    validation: Sequences,
    test: Sequences,
    lags: tuple[int, ...],
    penalties: tuple[float, ...],
) -> Tensor:
    """Like `linear_on_lags`, with the lags and the ridge penalty that are best on the validation part.

    All are fitted and judged on the same steps, those with the largest number of lags before them.

    Args:
        train, validation, test: inputs (N, T, I), targets (N, T, O), T each their own.
        lags: to choose from.
        penalties: values of `ridge` to choose from.

    Returns:
        Predictions (N, T − max lags + 1, O) of the test part.

    >>> x = torch.rand(3, 40, 1, generator=torch.Generator().manual_seed(0))
    >>> part = Sequences(x[:, 1:], x[:, :-1])  # the input before: a linear map of two lags
    >>> predicted = chosen_ridge(part, part, part, (1, 2, 3), (1e-9, 1.0))
    >>> torch.allclose(predicted, part.targets[:, 2:], atol=1e-6)
    True
    """
    most = max(lags)
    x, judged, asked = (_latest_first(part.inputs, most) for part in (train, validation, test))
    y, wanted = (part.targets[:, most - 1 :].double() for part in (train, validation))
    mean_x, mean_y = x.mean((0, 1)), y.mean((0, 1))
    centred = (x - mean_x).flatten(0, 1)
    square, product = centred.T @ centred, centred.T @ (y - mean_y).flatten(0, 1)
    best = (math.inf, torch.zeros(0))
    for count in lags:
        width = count * train.inputs.shape[2]
        values, vectors = torch.linalg.eigh(square[:width, :width])
        turned = vectors.T @ product[:width]
        for ridge in penalties:
            weights = vectors @ (turned / (values + ridge)[:, None])
            told, predicted = (
                (part[..., :width] - mean_x[:width]) @ weights + mean_y for part in (judged, asked)
            )
            best = min(best, (mse(told, wanted), predicted), key=lambda one: one[0])
    return best[1].to(test.inputs.dtype)


def _latest_first(inputs: Tensor, lags: int) -> Tensor:
    """(N, T − lags + 1, lags · I): at each step the last `lags` inputs, that of the step itself first."""
    return inputs.double().unfold(1, lags, 1).flip(-1).transpose(-1, -2).flatten(2)


def _windows(inputs: Tensor, lags: int) -> Tensor:
    """(N, T − lags + 1, I · lags): at each step the last `lags` inputs."""
    return inputs.double().unfold(1, lags, 1).flatten(2)


def blank_then_uniform(part: Sequences) -> Tensor:
    """The best prediction for the copying task without memory: when a symbol is due, but not which.

    Args:
        part: targets (N, T, C), one-hot, of which class 0 is the blank and class C − 1 the marker,
            which is never a target.

    Returns:
        Predictions (N, T, C): the blank where it is due, else 1 / (C − 2) for every symbol.

    >>> part = Sequences(torch.zeros(1, 2, 4), torch.eye(4)[None, [0, 2]])
    >>> blank_then_uniform(part).tolist()
    [[[1.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0]]]
    """
    raise_problems([sequences_problem("part", part)])
    classes = part.targets.shape[-1]
    if part.targets.dim() != 3 or classes < 3:
        expected = "(N, T, C), one-hot: blank, symbols, marker"
        raise_problems([Problem("part", f"targets of {described(part.targets)}", expected)])
    uniform = torch.full((classes,), 1 / (classes - 2)).to(part.targets)
    uniform[[0, -1]] = 0
    blank = part.targets[..., :1]
    one = torch.zeros_like(uniform)
    one[0] = 1
    return blank * one + (1 - blank) * uniform
