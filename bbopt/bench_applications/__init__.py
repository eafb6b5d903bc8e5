"""What training by queries gives in two applications: `python -m bbopt.bench_applications [--all]`. Nothing is imported here."""
