"""A worker that asks and tells over HTTP: with `requests` here, and as short in any other language.

Any number of workers share a study: start each with the server's address, the study's name and a program's token. Without
arguments two find the damper of a machine, on a server of their own: with the best, it swings 6.41 times as far as at rest.

Run it: python examples/worker_over_http.py [URL STUDY TOKEN]
"""

import json
import os
import subprocess
import sys
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

import bbopt

BUDGET = int(os.environ.get("BBOPT_EXAMPLE_BUDGET", "30"))
# A server that is busy or away comes back; a request that is sent again does what it would have done.
RETRY = Retry(20, backoff_factor=0.2, status_forcelist=[429, 503], allowed_methods=None)


def swing(tuning: float, damping: float, mass: float = 0.05) -> float:
    """Largest swing of a machine with a tuned damper, over all speeds (Den Hartog, Mechanical Vibrations, 1956)."""
    g2 = np.linspace(0.5, 1.5, 1001) ** 2
    drag, gap = 4 * damping**2 * g2, mass * tuning**2 * g2 - (g2 - 1) * (g2 - tuning**2)
    return float(np.sqrt((drag + (g2 - tuning**2) ** 2) / (drag * (g2 - 1 + mass * g2) ** 2 + gap**2)).max())


def work(url: str, study: str, token: str, trials: int) -> None:
    with requests.Session() as http:
        http.mount("http", HTTPAdapter(max_retries=RETRY))
        http.headers["Authorization"] = f"Bearer {token}"
        for _ in range(trials):
            once = {"Idempotency-Key": uuid.uuid4().hex}  # an ask that is sent again gives the same trial again
            (trial,) = http.post(f"{url}/v1/studies/{study}/ask", json={"count": 1}, headers=once).json()["trials"]
            told = {"number": trial["number"], "values": swing(**trial["params"])}
            http.post(f"{url}/v1/studies/{study}/tell", json=told).raise_for_status()


if sys.argv[1:]:
    work(sys.argv[1], sys.argv[2], sys.argv[3], BUDGET)
    sys.exit()
with tempfile.TemporaryDirectory() as folder:
    space = bbopt.Space(tuning=bbopt.Float(0.7, 1.3), damping=bbopt.Float(0.01, 1))
    bbopt.Optimizer(bbopt.Task(space), store=f"{folder}/runs.db", name="damper", budget=BUDGET).close()
    serve = [sys.executable, "-m", "bbopt.cli", "serve", "--store", f"{folder}/runs.db", "--port", "0", "--json"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
        about = json.loads(server.stdout.readline() if server.stdout else "")
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda _: work(about["url"], "damper", about["owner"]["token"], BUDGET // 2), range(2)))
        server.terminate()
    print(f"best of {BUDGET}:", bbopt.Optimizer.open(f"{folder}/runs.db", "damper").best())
