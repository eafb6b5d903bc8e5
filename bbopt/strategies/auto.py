"""The strategy that `strategy="auto"` stands for: chosen once, from the task and the budget, with the reason in words.

Neither `pfn` nor `amortised-gp` is among its choices. They were to be, where they win. Beside our own fitted Gaussian
process the network `pfn` has won neither on quality nor on time in what was measured, `make bench-pfn` (17 engineering
problems) and `make bench-ask-pfn` (15 constraints). `amortised-gp` predicts much better with few rows
(`make bench-surrogates`), but searches end as well as those of `gp` on most problems, better on some and worse on some
(`make bench-amortised`), and which ones a task does not tell beforehand; an ask costs more. Whoever trains better weights
finds out with the same commands.

Many columns: `gp` up to 200 of them. In what was measured, `make bench-many` with --all (20 to 100 columns, 200 evaluations),
it ends far below CMA-ES and mostly below `turbo`: in 20 columns in three of three cases, in 60 to 100 on Rosenbrock's function
and Levy's, but not on Ackley's, which a task does not tell beforehand. Its asks take half a CPU second with 200 columns
and 1,000 rows (95 of 100 below one; new hyperparameters every 20 rows take up to three). A sparse prior of the lengthscales
(`lengthscales="sparse"`) found no more where 6 of 50 columns matter: `gp` finds them with its own, too.

Rankings: `preference-gp` for few parameters and answers, `rank-sgd` beyond. In what was measured, `make bench-preference`
(six problems of two to six parameters, 16 slates of six, people without noise and with some), the model ends nearer to the
optimum than `rank-sgd` in 11 of 12 cases and than CMA-ES in 11. People who are hardly sure of anything are better served by `rank-sgd`
in six parameters, which nobody can tell beforehand. Where some parameters are choices, whole numbers or contexts, the model
is the only one of the two that moves them. Both work without torch. CMA-ES is chosen where answers are so many, and so
cheap, that learning a metric pays (50 slates of six per parameter).
"""

from __future__ import annotations

from bbopt.strategies.cmaes import CMAES, LARGEST_SIZE
from bbopt.strategies.latent import Latent
from bbopt.strategy import ABILITIES, Strategy
from bbopt.table import configured, load
from bbopt.task import Task

MODEL_BUDGET = 1000  # evaluations beyond which a Gaussian process costs more than it saves
MODEL_COLUMNS = 100  # of a Gaussian process over designs and environments
GP_COLUMNS = 200  # up to which an ask of gp stays below two CPU seconds with 1,000 rows
TASTE_COLUMNS = 6  # up to which a model of preferences was seen to find more than descent does
TASTE_MOST_COLUMNS = 20  # up to which it is used where descent cannot
TASTE_ROWS = 1200  # shown rows (200 slates of six) up to which an ask of it stays below a second
MANY_ROWS = 300  # shown rows per column from which CMA-ES has the answers that it needs


def choose(task: Task, budget: int | None = None) -> tuple[Strategy, str]:
    """The strategy for a task, and why. `budget`: how many evaluations are planned, if that is known.

    >>> from bbopt.space import Float, Space
    >>> choose(Task(Space(x=Float(0, 1))), budget=5000)[0]
    CMAES(population=None, step_size=0.3, active=True)
    """
    needs, columns = task.needs(), task.space.dimension
    if "rankings" in needs:
        chosen = _of_rankings(task, needs, budget)
        if chosen is not None:
            return chosen
    if "environment" in needs:
        return _of_environments(task, needs, budget)
    evolution = needs <= CMAES.handles and Latent(task.space).size <= LARGEST_SIZE
    if "rankings" in needs:
        why_no_model = "the answers are rankings, and it learns from the order of rows alone"
    elif "unbounded" in needs:
        why_no_model = "some parameters have no bounds, where a model of the whole space has no support"
    elif columns > GP_COLUMNS:
        why_no_model = f"{columns} columns are too many for a Gaussian process"
    elif budget is not None and budget > MODEL_BUDGET:
        why_no_model = f"with {budget} evaluations a Gaussian process would cost more time than it saves evaluations"
    else:
        missing = needs - load("gp").handles
        if not missing:
            size = f"{columns} columns and {f'{budget} evaluations' if budget else 'a budget not given'}"
            made = configured("gp", {} if budget is None else {"budget": budget})
            return made, f"gp: a Gaussian process makes the most of few evaluations ({size})"
        why_no_model = f"the Gaussian process does not handle {_words(missing)}"
    if evolution:
        return CMAES(), f"cmaes: {why_no_model}"
    missing = needs - CMAES.handles
    rest = (
        f"no method here that learns handles {_words(missing)}"
        if missing
        else f"{columns} columns are too many for one that learns"
    )
    from bbopt.designs import LARGEST_DIMENSION  # SciPy, which the other choices can do without

    if columns <= LARGEST_DIMENSION:
        return configured("sobol", {}), f"sobol: {rest}; its points cover the space evenly and learn nothing"
    return configured("random", {}), f"random: {rest}; its points are drawn uniformly and learn nothing"


def _of_environments(task: Task, needs: frozenset[str], budget: int | None) -> tuple[Strategy, str]:
    """The choice where nature draws some parameters: one method learns there; others cover the space."""
    columns, missing = task.space.dimension, needs - load("environment-gp").handles
    risk = f"the {task.objectives[0].risk_text} over {', '.join(task.environment)}"
    if not missing and columns <= MODEL_COLUMNS:
        made = configured("environment-gp", {} if budget is None else {"budget": budget})
        return made, f"environment-gp: a Gaussian process over designs and environments, for {risk}"
    why = (
        f"no method here that learns handles {_words(missing)} beside environments"
        if missing
        else f"{columns} columns are too many for a Gaussian process"
    )
    return configured("random", {}), f"random: {why}; its points are drawn as nature draws, and learn nothing of {risk}"


def _of_rankings(task: Task, needs: frozenset[str], budget: int | None) -> tuple[Strategy, str] | None:
    """The choice among those that learn from people's orders; None: evolution, or what learns nothing. budget: rows shown."""
    columns, taste, descent = task.space.dimension, load("preference-gp"), load("rank-sgd")
    plan = "a budget not given" if budget is None else f"{budget} rows to be shown"
    many = budget is not None and budget > max(TASTE_ROWS, MANY_ROWS * columns)
    smooth = all(levels == 0 for levels in task.space.columns.levels) and needs <= descent.handles
    few = columns <= (TASTE_COLUMNS if smooth else TASTE_MOST_COLUMNS) and (budget is None or budget <= TASTE_ROWS)
    if needs <= taste.handles and few:
        made = configured("preference-gp", {} if budget is None else {"budget": budget})
        why = "" if smooth else ", and descent moves no choices, steps or contexts"
        return made, f"preference-gp: a model of taste makes the most of few rankings ({columns} columns, {plan}{why})"
    if smooth and not many:
        return configured("rank-sgd", {}), f"rank-sgd: descent by rankings, of {columns} columns ({plan})"
    return None


def _words(abilities: frozenset[str]) -> str:
    return ", ".join(f"{ABILITIES[name]} ({name})" for name in sorted(abilities))
