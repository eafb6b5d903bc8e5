"""What DeepZero's parts buy on handwritten digits: tables with thresholds, from trainings kept one by one in a folder.

python -m bbopt.bench_deepzero --out DIR [--quick] [--part dense random sparse ratios]
"""
