"""Classification in context: probabilities, what may not matter, several classes and contexts, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bbopt.errors import ValueRefused
from surrogates.columns import Inputs
from surrogates.pfn.classify import CONTEXT, fit_classes
from surrogates.pfn.network import Network, Shape
from surrogates.protocol import ClassPredictive

MIXED = Inputs(("float", "float", "category"), (0, 0, 3), (0, 1, 2))
PLAIN = Inputs.continuous(2)


def network(spread: float = 0.1) -> Network:
    """A small network with random weights in every layer; without a spread, untrained."""
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = Network(Shape(width=32, layers=2, heads=4, inner=48, columns=6, anchors=6))
    with torch.no_grad():
        for part in made.parameters():
            part += spread * torch.randn(part.shape, generator=generator)
    return made.requires_grad_(False)


def rows(n: int, seed: int, inputs: Inputs = PLAIN) -> np.ndarray:
    rng = np.random.default_rng(seed)
    X = rng.random((n, inputs.dimension))
    for j, kind in enumerate(inputs.kind):
        if kind == "category":
            X[:, j] = rng.integers(inputs.levels[j], size=n)
    return X


def bands(X: np.ndarray, count: int) -> np.ndarray:
    """Classes 0 to count - 1, by the sum of the first two columns."""
    return np.minimum((X[:, :2].sum(axis=1) / 2.0 * count).astype(int), count - 1)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("inputs", [PLAIN, MIXED])
def test_probabilities_are_between_0_and_1_and_add_up(inputs: Inputs, count: int) -> None:
    X = rows(40, 0, inputs)
    labels = bands(X, count)
    found: ClassPredictive = fit_classes(inputs, X, 7 - 2 * labels, network())
    p = found.probabilities(rows(50, 1, inputs))
    assert found.classes.tolist() == sorted(set((7 - 2 * labels).tolist()))
    assert p.shape == (50, len(found.classes)) and p.min() >= 0.0 and p.max() <= 1.0
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize("count", [2, 3])
def test_the_order_of_rows_changes_nothing(count: int) -> None:
    X, order = rows(40, 2, MIXED), np.random.default_rng(0).permutation(40)
    labels, Q, net = bands(X, count), rows(30, 3, MIXED), network()
    one, other = fit_classes(MIXED, X, labels, net), fit_classes(MIXED, X[order], labels[order], net)
    np.testing.assert_allclose(one.probabilities(Q), other.probabilities(Q), atol=1e-4)


def test_names_of_several_classes_change_nothing_but_their_order() -> None:
    X, Q, net = rows(40, 4), rows(30, 5), network()
    labels, names = bands(X, 3), np.array([20, -5, 3])  # class 0 is called 20 now
    one, other = fit_classes(PLAIN, X, labels, net), fit_classes(PLAIN, X, names[labels], net)
    assert other.classes.tolist() == [-5, 3, 20]
    np.testing.assert_allclose(one.probabilities(Q)[:, [1, 2, 0]], other.probabilities(Q), atol=1e-6)


def test_swapped_classes_have_swapped_probabilities_before_training() -> None:
    """Two classes are one output of the sign; kernel regressions know no sign, weights may."""
    X, Q, net = rows(40, 6), rows(30, 7), network(0.0)
    labels = bands(X, 2)
    one, other = fit_classes(PLAIN, X, labels, net), fit_classes(PLAIN, X, 1 - labels, net)
    np.testing.assert_allclose(one.probabilities(Q), other.probabilities(Q)[:, ::-1], atol=1e-6)


@pytest.mark.parametrize("count", [2, 4])
def test_what_was_told_is_believed(count: int) -> None:
    """Far from the edges, with the weights that come with the package, a few points in a hundred may be wrong."""
    X, Q = rows(120, 8), rows(200, 9)
    found = fit_classes(PLAIN, X, bands(X, count))
    at = Q.sum(axis=1) / 2.0 * count
    inside = np.abs(at - np.rint(at)) > 0.15
    right = found.classes[found.probabilities(Q).argmax(axis=1)] == bands(Q, count)
    assert right[inside].mean() >= 0.9


def test_more_rows_than_a_context_are_all_read() -> None:
    """Dealt out over contexts of nearly equal size, each with every class in its share."""
    n = 2 * CONTEXT + 20
    X = rows(n, 10)
    labels = bands(X, 3)
    found = fit_classes(PLAIN, X, labels, network(0.0))
    sizes = [len(context.X) for context in found.contexts]
    assert len(sizes) == 3 and sum(sizes) == n and max(sizes) - min(sizes) <= 1 and max(sizes) <= CONTEXT
    read = np.concatenate([context.X for context in found.contexts])
    assert (np.sort(read, axis=0) == np.sort(X, axis=0)).all()
    for context in found.contexts:
        share = (context.Y > 0).mean(axis=0)
        np.testing.assert_allclose(share, np.bincount(labels) / n, atol=0.01)
    Q = rows(150, 11)
    p = found.probabilities(Q)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)
    assert (p.argmax(axis=1) == bands(Q, 3)).mean() >= 0.85


def test_a_rare_class_is_in_no_more_contexts_than_it_has_rows() -> None:
    """Contexts that saw one class alone have a word too."""
    X = rows(2 * CONTEXT, 12)
    labels = np.zeros(len(X), int)
    labels[0] = 1
    p = fit_classes(PLAIN, X, labels, network(0.0)).probabilities(rows(20, 13))
    assert np.isfinite(p).all() and (p[:, 0] > 0.4).all()


def test_one_class_is_certain() -> None:
    found = fit_classes(PLAIN, rows(5, 14), np.full(5, 4), network())
    assert found.classes.tolist() == [4] and (found.probabilities(rows(3, 15)) == 1.0).all()


def test_one_row_per_class_and_rows_that_contradict_each_other() -> None:
    X = np.array([[0.2, 0.2], [0.8, 0.8]])
    assert np.isfinite(fit_classes(PLAIN, X, np.array([0, 1]), network()).probabilities(rows(5, 16))).all()
    same = np.full((6, 2), 0.5)
    p = fit_classes(PLAIN, same, np.array([0, 1, 0, 1, 0, 1]), network(0.0)).probabilities(same[:1])
    assert 0.2 < p[0, 1] < 0.8


def test_log_of_the_second_class_is_its_probability_and_has_a_gradient() -> None:
    X, Q = rows(40, 17, MIXED), rows(30, 18, MIXED)
    found = fit_classes(MIXED, X, bands(X, 2), network())
    features = torch.from_numpy(MIXED.features(Q)).requires_grad_(True)
    log_p = found.log_second(features)
    np.testing.assert_allclose(log_p.exp().detach().numpy(), found.probabilities(Q)[:, 1], atol=1e-5)
    (slope,) = torch.autograd.grad(log_p.sum(), features)
    assert bool(torch.isfinite(slope).all()) and float(slope.abs().max()) > 0.0


@pytest.mark.parametrize(
    "labels", [[0, 1, 0], [0, 1, 0, 1, 1], [0.0, 1.0, 0.0, 1.0], [[0], [1], [0], [1]], ["a", "b", "a", "b"]]
)
def test_labels_that_do_not_fit_are_refused(labels: list[object]) -> None:
    with pytest.raises(ValueRefused, match="whole-number labels"):
        fit_classes(PLAIN, rows(4, 19), np.array(labels), network())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    X = rows(6, 20)
    found = fit_classes(PLAIN, X, np.array([0, 1] * 3), network())
    X[3, 1] = bad
    with pytest.raises(ValueRefused, match="row 3"):
        fit_classes(PLAIN, X, np.array([0, 1] * 3), network())
    with pytest.raises(ValueRefused, match="row 3"):
        found.probabilities(X)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueRefused, match="shape"):
        fit_classes(PLAIN, np.zeros((4, 3)), np.zeros(4, int), network())
    with pytest.raises(ValueRefused, match="at least one"):
        fit_classes(PLAIN, np.zeros((0, 2)), np.zeros(0, int), network())
