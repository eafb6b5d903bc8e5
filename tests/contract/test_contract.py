"""The laws of DESIGN.md over every strategy there is. No test here looks at a strategy's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from bbopt.errors import NotHandled
from bbopt.strategy import ABILITIES
from contract import laws, ranking_laws, study_laws
from contract.study import drive, study
from contract.subjects import SUBJECTS, Subject
from contract.tasks import Case, needing, one_point, plain, rich, small_finite

every = pytest.mark.parametrize("subject", SUBJECTS, ids=str)
HUGE = (1e300, -1e300, 1.0, 1e-300)


def cases(subject: Subject) -> list[Case]:
    """A plain task, and one with everything that the strategy claims to handle."""
    return [plain(), rich(subject.make().handles)]


@every
def test_declares_its_traits(subject: Subject) -> None:
    laws.is_a_strategy(subject.make())


@every
def test_law_1_ask_and_tell_are_pure(subject: Subject) -> None:
    for case in cases(subject):
        laws.ask_is_pure(subject.make(), case, subject.rows(8, 4))
        laws.tell_is_pure(subject.make(), case, 4)


@every
def test_law_2_state_is_plain_data(subject: Subject) -> None:
    for case in cases(subject):
        laws.state_is_plain(subject.make(), case, 4)


@every
def test_law_3_the_fold_is_the_state(subject: Subject, tmp_path: Path) -> None:
    laws.fold_gives_the_state(subject.make(), rich(subject.make().handles), 4)
    study_laws.state_is_the_fold(subject.make(), rich(subject.make().handles), tmp_path, subject.rows(17, 8))


@every
def test_law_4_thirty_asks_are_fifteen_and_fifteen(subject: Subject, tmp_path: Path) -> None:
    study_laws.resumes_exactly(subject.make(), rich(subject.make().handles), tmp_path, subject.rows(30, 16))


@pytest.mark.slow
@every
def test_law_4_in_full(subject: Subject, tmp_path: Path) -> None:
    study_laws.resumes_exactly(subject.make(), rich(subject.make().handles), tmp_path, 30)


@every
def test_law_4_seeds(subject: Subject) -> None:
    study_laws.seeds_differ(subject.make(), plain())


@every
def test_law_5_queries(subject: Subject) -> None:
    for case in cases(subject):
        laws.queries_are_canonical(subject.make(), case, subject.rows(12, 4))
        laws.repeated_asks_work(subject.make(), case, 6)


@every
def test_law_5_odd_ask_sizes(subject: Subject) -> None:
    study_laws.odd_sizes_lose_nothing(subject.make(), rich(subject.make().handles), subject.rows(41, 14))


@every
def test_law_5_rows_are_honest(subject: Subject) -> None:
    study_laws.rows_are_honest(subject.make(), rich(subject.make().handles), subject.rows(60, 12))


@every
@pytest.mark.parametrize("status", ["lost", "impossible"])
def test_law_6_failed_rows(subject: Subject, status: str) -> None:
    for case in cases(subject):
        laws.survives(subject.make(), case, status, 4)  # all of them
        laws.survives(subject.make(), case, {0: status}, 4)
    study_laws.survives_failures(subject.make(), plain(), subject.rows(24, 10), status == "impossible", 0.4)
    study_laws.survives_failures(subject.make(), plain(), subject.rows(16, 8), status == "impossible", 1.0)


@every
@pytest.mark.parametrize("levels", [(1.0,), (0.0,), HUGE, (1e300,), (1.0, 1.0 + 1e-15)], ids=str)
def test_law_6_constant_and_huge_values(subject: Subject, levels: tuple[float, ...]) -> None:
    case = rich(subject.make().handles)
    laws.survives_values(subject.make(), case, levels, 4)
    study_laws.survives_levels(subject.make(), case, subject.rows(20, 8), levels)


@every
def test_law_6_duplicates(subject: Subject) -> None:
    laws.survives_duplicates(subject.make(), plain(), 6)
    case = plain()
    opt = study(subject.make(), case)
    point = {"x0": 0.5, "x1": 0.5}
    numbers = [opt.add(point, case.function(point)).number for _ in range(4)]
    assert numbers == [0, 1, 2, 3]
    drive(opt, case, 6)


@every
def test_law_6_one_point(subject: Subject) -> None:
    study_laws.one_point_is_enough(subject.make(), one_point())


@every
def test_finite_space_is_used_up_without_repeats(subject: Subject) -> None:
    study_laws.finite_space_is_used_up(subject.make(), small_finite(), 27)


@every
def test_law_9_corrections_refold(subject: Subject, tmp_path: Path) -> None:
    study_laws.corrections_refold(subject.make(), rich(subject.make().handles), tmp_path, subject.rows(11, 8))


@every
def test_people_rank(subject: Subject, tmp_path: Path) -> None:
    ranking_laws.people_rank(subject.make(), tmp_path, subject.rows(12, 6))
    for said in ranking_laws.NOTHING:
        ranking_laws.survives_answers(subject.make(), said, subject.rows(6, 3))


@every
def test_law_10_leases(subject: Subject) -> None:
    study_laws.leases_run_out(subject.make(), plain())


@every
def test_points_of_the_users_own(subject: Subject) -> None:
    study_laws.user_points_are_welcome(subject.make(), rich(subject.make().handles))


@every
def test_cancelled_rows_do_not_block(subject: Subject) -> None:
    study_laws.cancelled_rows_do_not_block(subject.make(), plain())


@every
def test_fixed_parameters(subject: Subject) -> None:
    case = rich(subject.make().handles)
    study_laws.fixed_is_kept(subject.make(), case, "bolts", 7)
    study_laws.fixed_is_kept(subject.make(), case, "a", 0.5)


@every
def test_two_askers_on_one_file(subject: Subject, tmp_path: Path) -> None:
    study_laws.two_askers(subject.make(), plain(), tmp_path / "two.db")


@every
def test_a_task_beyond_its_abilities_is_refused_by_name(subject: Subject) -> None:
    strategy = subject.make()
    for ability in sorted(set(ABILITIES) - strategy.handles - {"fixed"}):
        with pytest.raises(NotHandled, match=ability):
            study(strategy, Case(needing(ability), lambda params: {}))
