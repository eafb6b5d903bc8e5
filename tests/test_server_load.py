"""The benchmark of the server finds what it is there to find: lost, doubled and changed answers, and a slow server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import bbopt
from bbopt.bench_server import STUDY, TASK, Found, check, make_study, percentiles
from bbopt.bench_server_client import Answered, Arrivals, Http, judgement


def stored(store: Path, *answers: tuple[int, str, int], wrong: tuple[int, ...] = ()) -> None:
    """Answers (serial, rater, slate) in a fresh store, as the server would write them; some against what was meant."""
    make_study(store)
    opt = bbopt.Optimizer.open(store, STUDY)
    slates = [opt.ask_query(6) for _ in range(1 + max(slate for _, _, slate in answers))]
    for serial, rater, slate in answers:
        numbers = list(slates[slate].numbers)
        groups, unseen = judgement([opt.trial(number).params for number in numbers])
        order = [[numbers[row] for row in group] for group in groups]
        details = {"revision": 1, "elapsed_ms": serial}
        opt.rank(
            order[::-1] if serial in wrong else order,
            unseen=[numbers[row] for row in unseen],
            rater=rater,
            details=details,
        )
    opt.close()


def acknowledged(*answers: tuple[int, str]) -> list[Answered]:
    return [Answered(serial, rater, "", 0.0, done=1.0) for serial, rater in answers]


@pytest.mark.parametrize(
    ("answers", "wrong", "sent", "found"),
    [
        ([(1, "ann", 0), (2, "bob", 1)], (), [(1, "ann"), (2, "bob")], Found(0, 0, 0)),
        ([(1, "ann", 0)], (), [(1, "ann"), (2, "bob")], Found(1, 0, 0)),
        ([(1, "ann", 0), (1, "ann", 1)], (), [(1, "ann")], Found(0, 1, 0)),
        ([(1, "ann", 0), (2, "bob", 1)], (2,), [(1, "ann"), (2, "bob")], Found(0, 0, 1)),
        ([(1, "bob", 0)], (), [(1, "ann")], Found(0, 0, 1)),
        ([(1, "ann", 0)], (), [], Found(0, 0, 1)),
    ],
    ids=["right", "lost", "doubled", "changed", "of another rater", "never sent"],
)
def test_what_is_wrong_is_found(
    answers: list[tuple[int, str, int]],
    wrong: tuple[int, ...],
    sent: list[tuple[int, str]],
    found: Found,
    tmp_path: Path,
) -> None:
    stored(tmp_path / "s.db", *answers, wrong=wrong)
    assert check(tmp_path / "s.db", STUDY, acknowledged(*sent)) == found
    assert found.right == (found == Found(0, 0, 0))


def test_an_answer_that_nobody_acknowledged_may_be_there_or_not(tmp_path: Path) -> None:
    stored(tmp_path / "s.db", (1, "ann", 0))
    answers = [Answered(1, "ann", "", 0.0), Answered(2, "ann", "", 0.0)]
    assert check(tmp_path / "s.db", STUDY, answers).right


def test_answers_arrive_whether_anybody_is_free_or_not() -> None:
    """A slow server must not thin out its own load: what waits is due at its time, not when somebody takes it."""

    async def late() -> list[tuple[int, float]]:
        arrivals = Arrivals(1000.0, raters=1, most=20, first=5)
        running = asyncio.create_task(arrivals.run())
        arrivals.ready()
        await running
        taken = []
        while (arrival := await arrivals.next()) is not None:
            taken.append((arrival[0], arrival[1] - arrivals.began))
        return taken

    taken = asyncio.run(late())
    assert [serial for serial, _ in taken] == list(range(5, 25))
    assert [due for _, due in taken] == pytest.approx([number / 1000.0 for number in range(1, 21)], abs=1e-6)


def test_the_client_says_when_a_connection_broke() -> None:
    """In the middle of an answer, before it, and where nobody listens; the next request connects anew."""
    replies = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nno",
        b"",
        b"HTTP/1.1 404 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes",
    ]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(replies.pop(0))
        writer.close()

    async def talk() -> list[object]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        http, said = Http("127.0.0.1", port, "token"), []
        for _ in range(len(replies)):
            try:
                said.append(await http.request("GET", "/"))
            except ConnectionError:
                said.append("broken")
        http.close()
        server.close()
        await server.wait_closed()
        with pytest.raises(ConnectionError):
            await Http("127.0.0.1", port, "token").request("GET", "/")
        return said

    assert asyncio.run(talk()) == ["broken", "broken", (404, b"no"), (200, b"yes")]


def test_percentiles_are_of_what_was_measured() -> None:
    assert percentiles([0.1]) == (0.1, 0.1, 0.1)
    assert percentiles([float(i) for i in range(100)][::-1]) == (50.0, 95.0, 99.0)


def test_a_slate_of_the_benchmark_has_ties_and_an_unseen_item() -> None:
    """What `check` compares would be weaker otherwise."""
    opt = bbopt.Optimizer(TASK, "rank-sgd")
    groups, unseen = judgement([opt.trial(number).params for number in opt.ask_query(6).numbers])
    assert [len(group) for group in groups] == [1, 2, 1, 1] and len(unseen) == 1
    assert sorted([row for group in groups for row in group] + unseen) == list(range(6))
