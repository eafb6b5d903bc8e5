"""How good predictions of surrogates are: fixed tasks, gaps to the exact answer, calibration, behaviour, rivals."""
