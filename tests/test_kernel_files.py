"""What kernels leave in the cache on disk, and who may find it."""

import pytest
from numba import float64, int64

from minirnn.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.CACHE is None, reason="nothing is compiled, or kept")


def halved(number):
    return number / 2 if number > 100 else number + 1


def test_two_processes_that_save_a_kernel_at_once_do_not_mix_their_code_up(monkeypatch):
    """Both look for a free file, both write the index, then both their code: first come, last."""
    slow, quick = _jit.kernel(halved), _jit.kernel(halved)
    files, others = slow._cache._cache_file, quick._cache._cache_file
    files.flush()
    write = files._save_data

    def write_after_the_other(name, data):
        monkeypatch.setattr(others, "_load_index", dict)  # what it read before `slow` wrote
        quick.compile((float64,))
        write(name, data)

    monkeypatch.setattr(files, "_save_data", write_after_the_other)
    slow.compile((int64,))
    later = _jit.kernel(halved)
    assert later(1.5) == 2.5 and later(1) == 2
    assert sum(later.stats.cache_hits.values()) == 1  # the index of `slow` was written over
