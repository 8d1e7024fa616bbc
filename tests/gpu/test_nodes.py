"""How many nodes a replayed training step has: each costs a GPU about two microseconds, whatever it computes."""

import pytest

from minivae.cli.bench import WORKLOADS

from .host import needs_compiler
from .host.fake_cupy import installed
from .host.nodes import captured_nodes

pytestmark = needs_compiler
MOST = {"mlp": 14, "iwae1": 18, "iwae50": 19, "conv": 25, "burgess": 41}


@pytest.mark.parametrize("name", MOST)
def test_a_step_has_no_more_nodes_than_it_needs(monkeypatch, name):
    with installed(monkeypatch) as cupy:
        ours, others = captured_nodes(cupy, WORKLOADS[name])
    assert len(ours) + len(others) <= MOST[name], (ours, others)
