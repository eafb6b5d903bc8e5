"""One torch thread for a strategy's ask, or a word about the packages that are missing."""

from __future__ import annotations

from contextlib import AbstractContextManager

from bbopt.errors import MissingPackage


def one_torch_thread(who: str) -> AbstractContextManager[None]:
    """A context in which torch computes on one thread; torch is imported here first.

    Raises MissingPackage, in the name of `who`, where torch or safetensors is not installed.

    >>> with one_torch_thread("PFN"):
    ...     import torch
    ...     torch.get_num_threads()
    1
    """
    try:
        import safetensors  # noqa: F401

        from surrogates.training.threads import limited_threads
    except ImportError as missing:
        raise MissingPackage(f"{who} needs torch and safetensors ({missing}); pip install 'bbopt[pfn]'") from missing
    return limited_threads(1)
