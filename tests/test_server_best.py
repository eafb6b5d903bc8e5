"""Winners of slates, which the pages show beside the best: by the core's own rule for several people."""

from __future__ import annotations

import bbopt
from server.best import winners
from server.ledger import Ledger


def test_a_row_that_one_of_two_looked_at_wins_by_its_share() -> None:
    """Summed scores would tie the first row (2 - 1) with the last one (1), which lost no comparison at all."""
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)), feedback="ranking")
    opt = bbopt.Optimizer(task, "random", quorum=2)
    a, b, c, d = opt.ask_query(4).numbers
    opt.rank([a, b, c], unseen=[d], rater="ann")
    assert winners(Ledger.of(opt)) == []  # one answer of two
    opt.rank([d, a], unseen=[b, c], rater="bob")
    best = opt.best()
    assert best is not None and winners(Ledger.of(opt)) == [best.number] == [d]


def test_a_slate_of_which_each_saw_one_row_has_no_winner() -> None:
    task = bbopt.Task(bbopt.Space(x=bbopt.Float(0, 1)), feedback="ranking")
    opt = bbopt.Optimizer(task, "random", quorum=2)
    a, b = opt.ask_query(2).numbers
    opt.rank([a], unseen=[b], rater="ann")
    opt.rank([b], unseen=[a], rater="bob")
    assert winners(Ledger.of(opt)) == []
