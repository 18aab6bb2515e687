"""A rule under skorch: a scikit-learn estimator with skorch's callbacks, trained without BPTT.

    pip install timelocal skorch
    python with_skorch.py

skorch asks a module for predictions and a criterion for their loss. A rule is both: `rule(inputs, targets)`
is the loss, `rule.outputs(inputs)` are the predictions.
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping
from skorch.dataset import unpack_data

import timelocal as tl


def network_with_rule(hidden: int = 32, rule: type[tl.Rule] = tl.DFA) -> tl.Rule:
    """skorch's `module`: what it takes here may be searched over as `module__hidden`, `module__rule`."""
    return rule(tl.GRU(8, hidden, output_size=10, seed=0))


class RuleClassifier(NeuralNetClassifier):
    """Trains by the rule's estimate of the gradient, and predicts with the rule's outputs."""

    def infer(self, x: torch.Tensor, **fit_params: Any) -> torch.Tensor:
        return self.module_.outputs(x)

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, torch.Tensor]:
        self._set_training(True)
        inputs, targets = unpack_data(batch)
        loss = self.module_(inputs, targets)
        loss.backward()
        return {"loss": loss, "y_pred": self.infer(inputs)}


def main(epochs: int = 20, count: int = 1000) -> dict[str, float]:
    """Accuracy in cross-validation by rule."""
    digits = tl.data.load("digits-rows")
    net = RuleClassifier(
        network_with_rule,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.01,
        batch_size=32,
        max_epochs=epochs,
        callbacks=[EarlyStopping(patience=5)],
        verbose=0,
    )
    search = GridSearchCV(net, {"module__rule": [tl.DFA, tl.BPTT]}, cv=2, scoring="accuracy")
    search.fit(digits.inputs[:count].numpy(), digits.targets[:count].numpy())
    rules = [one["module__rule"].__name__ for one in search.cv_results_["params"]]
    return dict(zip(rules, search.cv_results_["mean_test_score"].tolist(), strict=True))


if __name__ == "__main__":
    print(main())
