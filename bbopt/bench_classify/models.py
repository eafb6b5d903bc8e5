"""The classifiers that are compared: two in-context learners of this project's surrogates, six of scikit-learn.

A model is fitted to rows in the unit cube (n, d) with labels 0, 1, ... and gives back something that predicts. What is
asked of it is the same for all; packages are imported when a model is first fitted. scikit-learn's models have their
default settings where nothing else is said, and one thread.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bbopt.errors import BboptError, MissingPackage, UsageError
from surrogates.columns import Inputs

__all__ = ["MODELS", "Fitted", "Model", "Prediction", "fit", "model", "need_sklearn", "unavailable"]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
ESTIMATORS = 8  # the tabpfn package's own default


@dataclass(frozen=True)
class Prediction:
    """What a model says of q rows: probabilities (q, k) of its k classes, and (q,) labels, its own decisions, where these
    are not those of largest probability."""

    probabilities: Array
    labels: Labels | None = None


class Fitted(Protocol):
    """A model after training: the classes that it has seen, in rising order, and what it says of rows (q, d)."""

    @property
    def classes(self) -> Labels: ...

    def predict(self, X: Array, /) -> Prediction: ...


Fit = Callable[[Inputs, Array, Labels, int], Fitted]
"""From the description of the columns, rows (n, d), labels (n,) of at least two classes, and a seed."""


@dataclass(frozen=True)
class Model:
    """A classifier by name: how it is fitted, what it is in words, and the most rows that it is trained with here.

    weights: what tells the trained weights that it comes with from others, where it has any.
    """

    name: str
    words: str
    fit: Fit
    largest: int | None = None
    weights: Callable[[], str] | None = None

    def describe(self) -> dict[str, Any]:
        """What must be equal for results to be of the same model, as JSON values. The model must be usable here."""
        own = {} if self.weights is None else {"weights": self.weights()}
        return {"model": self.words, "largest": self.largest, **own}


@dataclass(frozen=True)
class _Constant:
    """What is predicted where only one class was seen."""

    label: int

    @property
    def classes(self) -> Labels:
        return np.array([self.label], dtype=np.int64)

    def predict(self, X: Array) -> Prediction:
        return Prediction(np.ones((len(X), 1)))


@dataclass(frozen=True)
class _InContext:
    """A posterior of classes (`surrogates.protocol.ClassPredictive`)."""

    posterior: Any

    @property
    def classes(self) -> Labels:
        return np.asarray(self.posterior.classes, dtype=np.int64)

    def predict(self, X: Array) -> Prediction:
        return Prediction(np.asarray(self.posterior.probabilities(X), dtype=np.float64))


@dataclass(frozen=True)
class _Learned:
    """A fitted classifier of scikit-learn."""

    estimator: Any

    @property
    def classes(self) -> Labels:
        return np.asarray(self.estimator.classes_, dtype=np.int64)

    def predict(self, X: Array) -> Prediction:
        return Prediction(self.estimator.predict_proba(X))


@dataclass(frozen=True)
class _Machine:
    """A support vector machine with its own decisions, and with probabilities from its margins where these could be scaled."""

    machine: Any
    scaled: Any | None

    @property
    def classes(self) -> Labels:
        return np.asarray(self.machine.classes_, dtype=np.int64)

    def predict(self, X: Array) -> Prediction:
        from scipy.special import expit, softmax

        decided = np.asarray(self.machine.predict(X), dtype=np.int64)
        if self.scaled is not None:
            return Prediction(self.scaled.predict_proba(X), decided)
        margin = self.machine.decision_function(X)
        if margin.ndim == 2:
            return Prediction(softmax(margin, axis=1), decided)
        above = expit(margin)
        return Prediction(np.stack([1 - above, above], axis=1), decided)


def _pfn(inputs: Inputs, X: Array, labels: Labels, seed: int) -> Fitted:
    from surrogates.pfn.classify import fit_classes

    return _InContext(fit_classes(inputs, X, labels))


def _tabpfn(inputs: Inputs, X: Array, labels: Labels, seed: int) -> Fitted:
    from surrogates.tabpfn import fit_tabpfn_classes

    return _InContext(fit_tabpfn_classes(inputs, X, labels, estimators=ESTIMATORS, random_state=seed))


def _pfn_weights() -> str:
    from surrogates.pfn.shipped import shipped

    return f"SHA-256 {str(shipped()[1]['sha256'])[:16]}"


def _tabpfn_weights() -> str:
    from surrogates.tabpfn_weights import find_weights

    return find_weights("classifier").name


def _quietly(estimator: Any, X: Array, labels: Labels) -> Any:
    """Fit; a search that ends at a bound or at its last iteration counts as it is."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X, labels)


def _sklearn(make: Callable[[int], Any], inputs: Inputs, X: Array, labels: Labels, seed: int) -> Fitted:
    return _Learned(_quietly(make(seed), X, labels))


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=200, random_state=seed, n_jobs=1)


def _boosting(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=seed)


def _neighbours(seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), KNeighborsClassifier(5))


def _process(seed: int) -> Any:
    from sklearn.gaussian_process import GaussianProcessClassifier
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    return GaussianProcessClassifier(ConstantKernel(1.0) * RBF(1.0), random_state=seed)


def _logistic(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed))


def _machine(inputs: Inputs, X: Array, labels: Labels, seed: int) -> Fitted:
    """Platt's scaling needs held-out margins of every class; with a single row of one, margins become odds as they are."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    made = make_pipeline(StandardScaler(), SVC(C=10.0))
    folds = min(5, int(np.unique(labels, return_counts=True)[1].min()))
    if folds < 2:
        return _Machine(made.fit(X, labels), None)
    scaled = CalibratedClassifierCV(made, method="sigmoid", cv=folds, ensemble=False).fit(X, labels)
    return _Machine(scaled.calibrated_classifiers_[0].estimator, scaled)


MODELS: Mapping[str, Model] = {
    made.name: made
    for made in (
        Model("pfn", "the network that ships with bbopt, in context, default settings", _pfn, None, _pfn_weights),
        Model(
            "tabpfn", f"the tabpfn package, {ESTIMATORS} estimators, up to 1000 rows", _tabpfn, 1000, _tabpfn_weights
        ),
        Model("random_forest", "random forest of 200 trees", partial(_sklearn, _forest)),
        Model("boosting", "histogram gradient boosting, default settings", partial(_sklearn, _boosting)),
        Model("svm", "support vector machine, RBF kernel, C = 10, inputs standardised, Platt's scaling", _machine),
        Model("neighbours", "5 nearest neighbours, inputs standardised", partial(_sklearn, _neighbours)),
        Model("gp", "Gaussian process classifier, scaled RBF kernel, up to 500 rows", partial(_sklearn, _process), 500),
        Model("logistic", "logistic regression, inputs standardised", partial(_sklearn, _logistic)),
    )
}


def model(name: str) -> Model:
    """The model of this name. Raises `UsageError` where there is none.

    >>> model("gp").largest
    500
    """
    if name not in MODELS:
        raise UsageError(f"no model {name!r}; there are {', '.join(MODELS)}")
    return MODELS[name]


def fit(chosen: Model, inputs: Inputs, X: Array, labels: Labels, seed: int) -> Fitted:
    """The model trained on rows (n, d) with labels (n,). Where these are all the same, that label is predicted.

    >>> fit(model("logistic"), Inputs.continuous(1), np.array([[0.1], [0.7]]), np.array([1, 1]), 0).classes.tolist()
    [1]
    """
    if len(labels) == 0:
        raise UsageError("expected at least one row to train with, got none")
    if (labels == labels[0]).all():
        return _Constant(int(labels[0]))
    return chosen.fit(inputs, X, labels, seed)


@cache
def unavailable(name: str) -> str:
    """Why the model of this name cannot be used on this machine; empty where it can. Tried with a few rows, once.

    >>> unavailable("logistic")
    ''
    """
    chosen = model(name)
    X = np.linspace(0.0, 1.0, 12)[:, None]
    try:
        fit(chosen, Inputs.continuous(1), X, (X[:, 0] > 0.4).astype(np.int64), 0).predict(X)
    except (BboptError, ImportError) as error:
        return str(error) or type(error).__name__
    return ""


def need_sklearn() -> None:
    """Raise `MissingPackage` where scikit-learn, which also computes the scores, is not installed."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise MissingPackage("the comparison of classifiers needs scikit-learn: pip install 'bbopt[bench]'") from error
