"""Log expected improvement and the log probability of feasibility, from `surrogates.improvement`, where posteriors use them too."""

from surrogates.improvement import LOG_ROOT_2PI, log_expected_improvement, log_h, log_probability_below

__all__ = ["LOG_ROOT_2PI", "log_expected_improvement", "log_h", "log_probability_below"]
