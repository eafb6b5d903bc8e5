# Two commands set up a fresh machine that has Python 3.11 or newer: `make run` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed
OUT ?= bench-results
export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1

.PHONY: run test test-slow check demo-ranking bench-compare bench-ask-peers bench-many bench-environments bench-ranking bench-preference bench-server bench-server-soak bench-applications bench-ask bench-ask-pfn bench-ask-amortised bench-paper bench-pfn bench-overhead bench-wide bench-classify bench-engineering bench-quality bench-surrogates bench-amortised bench-floor bench-features bench-ray bench-gpu bench-deepzero bench-zo clean

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $$(grep '^torch==' constraints.txt)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[botorch,pfn,tabpfn,bench,network,ray,compare,server,test]'
	touch $(READY)

run: $(READY)  ## install, run the engineering benchmark in a few minutes, write a report
	$(BIN)/bbopt bench engineering --strategy gp --strategy random --budget 60 --seeds 3 --out $(OUT)/engineering
	$(BIN)/bbopt report $(OUT)/engineering

# One worker per file: what a file sets up, a browser or a cluster, is set up once. In order: files of few long tests would end last.
test: $(READY)  ## the default test suite, at most 10 minutes on 2 cores
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(READY)  ## statistics over many seeds and long searches
	$(BIN)/python -m pytest -q -n 2 --slow

check: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo-ranking: $(READY)  ## landscapes to rank in the browser: prints a link to click, Ctrl-C ends it
	mkdir -p $(OUT)
	$(BIN)/bbopt serve --demo --store $(OUT)/demo.db

bench-ask: $(READY)  ## CPU seconds per ask, beside BoTorch's own fit and optimisation in the same run
	$(BIN)/python -m bbopt.bench_ask

bench-ask-pfn: $(READY)  ## the same for pfn with up to 15 constraints, with gp beside it
	$(BIN)/python -m bbopt.bench_ask pfn

bench-ask-amortised: $(READY)  ## the same for amortised-gp and its surrogate alone, with gp beside it
	$(BIN)/python -m bbopt.bench_ask amortised-gp

bench-wide: $(READY)  ## milliseconds and megabytes of a step over 270,000 coordinates
	$(BIN)/python -m bbopt.bench_wide

bench-overhead: $(READY)  ## microseconds per ask and tell without a model
	$(BIN)/python -m bbopt.bench_overhead

bench-applications: $(READY)  ## a certified defence and a PDE corrector trained by queries, beside first order (a minute; --all: minutes)
	$(BIN)/python -m bbopt.bench_applications

bench-classify: $(READY)  ## classifiers on engineering designs: F1 against training rows, 20 draws of 8 data sets (resumable)
	$(BIN)/bbopt bench-classify --out $(OUT)/classify

bench-surrogates: $(READY)  ## amortised GP and PFN: gaps beside fitted processes and the Bayes floor, calibration, checks, pictures (resumable)
	$(BIN)/bbopt bench-surrogates --out $(OUT)/surrogates

bench-floor: $(READY)  ## what the Bayes floor of the plain tasks lacks in surrogates/evaluation/floor.json (resumable; minutes)
	$(BIN)/python -m bbopt.bench_floor

bench-features: $(READY)  ## what the amortised GP would gain if it were told warps, trends, a second scale (minutes)
	$(BIN)/python -m bbopt.bench_features

bench-zo: $(READY)  ## finite-difference gradients of networks: every engine beside the plain loop and vmap (under a minute)
	$(BIN)/python -m bbopt.bench_zo

bench-engineering: $(READY)  ## the engineering suite in full: 3 strategies, 100 evaluations, 10 seeds (resumable)
	$(BIN)/bbopt bench engineering --strategy gp --strategy random --strategy sobol --budget 100 --seeds 10 --out $(OUT)/engineering-full
	$(BIN)/bbopt report $(OUT)/engineering-full

PAPER := --strategy random
PAPER += $(foreach rule,cei cei+ penalty,--strategy pfn:search=random,initial=20,acquisition=$(rule))
PAPER += $(foreach rule,logei cei+ penalty,--strategy gp:initial=20,acquisition=$(rule))
bench-pfn: $(READY)  ## the engineering suite with pfn beside gp and random: 100 evaluations, 20 seeds (hours, resumable)
	$(BIN)/bbopt bench engineering --strategy pfn --strategy gp --strategy random --initial 20 --budget 100 --seeds 20 --out $(OUT)/pfn
	$(BIN)/bbopt report $(OUT)/pfn
	$(BIN)/bbopt report $(OUT)/pfn --evaluations 40

bench-paper: $(READY)  ## the published protocol: 20 uniform points, then 100 iterations; PFN and GP with CEI, CEI+ and penalty (resumable)
	$(BIN)/bbopt bench engineering $(PAPER) --initial 20 --budget 120 --seeds 3 --out $(OUT)/paper
	$(BIN)/bbopt report $(OUT)/paper

bench-ray: $(READY)  ## evaluations and a parallel step on Ray beside this process: throughput, overhead, speed-up (a minute, two idle cores)
	$(BIN)/python -m bbopt.bench_ray

bench-gpu: $(READY)  ## queries per second of the network engines, batch sizes, a step of ResNet-20; on the GPU, or smaller on the CPU
	$(BIN)/python -m bbopt.bench_gpu

bench-ranking: $(READY)  ## rank-sgd in the paper's settings beside CMA-ES, openes and differences of values, with noise (minutes)
	$(BIN)/python -m bbopt.bench_ranking --out $(OUT)/ranking

bench-compare: $(READY)  ## bbopt beside Optuna, Ax, a BoTorch loop, pycma, COBYLA: 12 problems, 10 seeds (hours, resumable)
	$(BIN)/bbopt compare core --seeds 10 --slow-seeds 5 --out $(OUT)/compare --check

bench-many: $(READY)  ## many columns: quality, and ask time at 200 columns and 1,000 rows (minutes)
	$(BIN)/python -m bbopt.bench_many

bench-environments: $(READY)  ## true risks of the designs that environment-gp and random search name (minutes)
	$(BIN)/python -m bbopt.bench_environments

bench-ask-peers: $(READY)  ## CPU seconds of gp's ask beside BoTorch, Ax and Optuna, and with 1,000 trials (minutes)
	$(BIN)/python -m bbopt.bench_ask_peers

bench-preference: $(READY)  ## preference-gp beside a plain BoTorch loop: CPU seconds per ask, regret (minutes, resumable)
	$(BIN)/python -m bbopt.bench_preference --out $(OUT)/preference

bench-server: $(READY)  ## 50 raters, 2,000 answers at 25 a second, then 20 kills: nothing acknowledged is lost (two idle cores, 2 minutes)
	PYTHONUNBUFFERED=1 $(BIN)/python -m bbopt.bench_server

bench-server-soak: $(READY)  ## mixed work on the server for three minutes: memory, and the store beside what was acknowledged
	PYTHONUNBUFFERED=1 $(BIN)/python -m bbopt.bench_server_soak

bench-deepzero: $(READY)  ## what DeepZero's parts buy on digits: dense, random, sparse estimates, shares of layers (10 minutes, resumable)
	$(BIN)/python -m bbopt.bench_deepzero --out $(OUT)/deepzero

FUNCTIONS := branin hartmann3 hartmann6 ackley_4 ackley_10 levy_8 rosenbrock_4 rosenbrock_8 styblinski_tang_6
bench-amortised: $(READY)  ## amortised-gp against gp, paired by seed: 9 functions and the engineering suite, 20 seeds (hours, resumable)
	for f in $(FUNCTIONS); do $(BIN)/bbopt bench $$f -s amortised-gp -s gp:search=whole --initial 10 --budget 50 --seeds 20 --out $(OUT)/amortised-$$f || exit 1; done
	$(BIN)/bbopt bench engineering -s amortised-gp -s gp:search=whole --initial 20 --budget 60 --seeds 20 --out $(OUT)/amortised-engineering
	$(BIN)/bbopt report $(OUT)/amortised-engineering
	$(BIN)/python -m bbopt.bench_pairs amortised-gp gp:search=whole $(foreach f,$(FUNCTIONS),$(OUT)/amortised-$(f)) $(OUT)/amortised-engineering

bench-quality: $(READY)  ## Branin and Hartmann-6 at many seeds, from shared random points and from gp's own design (resumable)
	$(BIN)/bbopt bench branin --strategy gp --budget 25 --seeds 20 --initial 6 --out $(OUT)/branin
	$(BIN)/bbopt report $(OUT)/branin
	$(BIN)/bbopt bench hartmann6 --strategy gp --budget 100 --seeds 30 --initial 14 --out $(OUT)/hartmann6
	$(BIN)/bbopt report $(OUT)/hartmann6
	$(BIN)/bbopt bench hartmann6 --strategy gp --budget 100 --seeds 30 --initial 0 --out $(OUT)/hartmann6-own-design
	$(BIN)/bbopt report $(OUT)/hartmann6-own-design

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
