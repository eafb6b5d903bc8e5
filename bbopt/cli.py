"""The command line, `bbopt`: studies, trials and benchmarks from a shell.

Standard output carries the result, a table for people or one JSON document with `--json`; everything else (progress,
notes, errors) goes to standard error. Exit status: 0 success, 1 an error of bbopt or of a file, 2 a command line that
cannot be read, 130 interrupted. Nothing ever asks a question. Modules that cost time are imported inside the commands.
"""

from __future__ import annotations

import errno
import signal
from typing import Any

import click

import bbopt
from bbopt.cli_advise import advise
from bbopt.cli_bench import bench, problems, report, strategies
from bbopt.cli_classify import bench_classify
from bbopt.cli_compare import compare
from bbopt.cli_rankings import agreement, rank, settle
from bbopt.cli_serve import serve
from bbopt.cli_study import create, list_, show
from bbopt.cli_surrogates import bench_surrogates
from bbopt.cli_tables import export, import_
from bbopt.cli_train import train
from bbopt.cli_train_network import network
from bbopt.cli_trials import add, amend, ask, best, cancel, enqueue, fail, front, retract, tell

__all__ = ["main"]


class _Failure(click.ClickException):
    """An error that ends the program with its message, and without a traceback."""

    def show(self, file: Any = None) -> None:
        click.echo(self.message, file, err=True)


class _Interrupted(_Failure):
    exit_code = 128 + signal.SIGINT  # as shells count it


class _Commands(click.Group):
    """Commands whose expected errors become a message and an exit status; in the order of their use, not of the alphabet."""

    def invoke(self, ctx: click.Context) -> Any:
        from bbopt.errors import BboptError

        try:
            return super().invoke(ctx)
        except BboptError as error:
            raise _Failure(f"{type(error).__name__}: {_message(error)}") from error
        except UnicodeDecodeError as error:
            raise _Failure(f"expected text in UTF-8, got something else ({error})") from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # whoever reads our output has enough; click ends quietly
            raise _Failure(f"{error.filename or 'file'}: {error.strerror or error}") from error
        except KeyboardInterrupt as error:
            raise _Interrupted("interrupted") from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def _message(error: BaseException) -> str:
    """The text of an error; a KeyError would put quotes around it."""
    return str(error.args[0]) if len(error.args) == 1 else str(error)


@click.group("bbopt", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(bbopt.__version__, package_name="bbopt")
def main() -> None:
    """Black-box optimization from a shell: ask for points, evaluate them anywhere, tell what came of them.

    \b
    A study lives in a store, one file that any number of processes of this machine may share:
      bbopt create runs.db vessel --problem pressure_vessel --seed 1
      bbopt ask runs.db vessel
      bbopt tell runs.db vessel 0 cost=8000 shell_deficit=-0.1 head_deficit=-0.1 volume=1.5e6 shell_length=90
      bbopt best runs.db vessel

    \b
    A benchmark lives in a folder and goes on where it was interrupted:
      bbopt bench engineering --strategy gp --strategy random --budget 60 --seeds 3 --out results
      bbopt report results

    \b
    bbopt beside the other toolkits that are installed:
      bbopt compare --out comparison

    \b
    People rank what cannot be measured, in a browser:
      bbopt serve --demo

    With --json, standard output is one JSON document with a "format" number (1); trials in it have number, params,
    context, attempt, status, values, std, cost, feasible, owner, reason, seconds, note and query, a number that is not
    finite is null. Messages go to standard error, as "NameOfError: what was expected, what came, what to do". Exit
    status: 0 success, 1 error, 2 wrong usage, 130 interrupted.
    """


for _command in (create, list_, show, ask, tell, fail, rank, best, front, enqueue, cancel, amend, retract, add):
    main.add_command(_command)
for _command in (settle, agreement, export, import_, problems, strategies, bench, report, bench_classify):
    main.add_command(_command)
for _command in (advise, compare, bench_surrogates, train, serve):
    main.add_command(_command)
train.add_command(network)

if __name__ == "__main__":
    main()
