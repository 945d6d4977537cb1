"""The choice between the recurrent CUDA kernels, for cards that need not be here."""

import itertools

import pytest

from fastnn.kernels.cells import CELLS
from fastnn.kernels.cuda import rnn_report
from fastnn.kernels.cuda.rnn_choice import KERNELS, Refusal, choose
from fastnn.kernels.cuda.rnn_shapes import Card, Work

CARDS = {
    **rnn_report.CARDS,
    "H200, clusters of 8": Card(90, 132, 227 << 10, cluster=8),
    "no cooperative launch": Card(80, 108, 163 << 10, cooperative=False),
}
GATES = {0: 1, 1: CELLS["lstm"].gates, 2: CELLS["gru"].gates, 3: CELLS["gru"].gates}


def works(tensor: bool):
    units, batches = (1, 3, 64, 97, 512, 1000, 2048), (1, 7, 64, 300)
    for cell, H, B, backward in itertools.product(GATES, units, batches, (False, True)):
        if tensor:
            yield Work(cell, GATES[cell], H, B, 2, backward, True)
            yield Work(cell, GATES[cell], H, B, 4, backward, True)
        else:
            yield Work(cell, GATES[cell], H, B, 4, backward)
            yield Work(cell, GATES[cell], H, B, 8, backward)


@pytest.mark.parametrize("wanted", [None, *KERNELS])
@pytest.mark.parametrize("name", CARDS)
def test_every_plan_fits_its_card_and_covers_the_work(name, wanted):
    card = CARDS[name]
    for work in itertools.chain(works(False), works(True) if card.capability >= 80 else ()):
        plan = choose(card, work, wanted)
        if wanted is not None:
            assert KERNELS.index(plan.kernel) >= KERNELS.index(wanted)
            assert (plan.kernel == wanted) or any(r.startswith(wanted) for r in plan.reasons)
        if plan.kernel == "k3":
            continue
        assert plan.shared_bytes <= card.shared
        assert plan.threads <= 1024 and plan.threads % 32 == 0
        assert plan.units * plan.blocks >= work.H
        assert plan.rows * plan.teams >= work.B > plan.rows * (plan.teams - 1)
        assert plan.rows % plan.pass_rows == 0
        assert plan.pairs * (plan.threads // plan.units) >= plan.pass_rows
        if work.tensor:
            assert plan.pass_rows % 8 == 0
        if plan.kernel == "k0":
            assert plan.blocks == 1
        if plan.kernel == "k1":
            assert 1 < plan.blocks <= card.cluster
        if plan.kernel == "k2":  # its blocks wait for each other: all must be on the card at once
            assert card.cooperative and plan.blocks * plan.teams <= card.processors


def test_small_layers_take_one_block_and_large_batches_cublas():
    card = CARDS["H100"]
    assert choose(card, Work(1, 4, 64, 16, 4)).kernel == "k0"
    assert choose(card, Work(1, 4, 256, 1, 4)).kernel == "k1"
    assert choose(card, Work(1, 4, 1024, 1, 4)).kernel == "k2"
    assert choose(card, Work(1, 4, 2048, 256, 4)).kernel == "k3"


def test_reasons_are_told():
    old = choose(CARDS["RTX2080"], Work(1, 4, 256, 8, 4), "k1")
    assert old.kernel == "k2"
    assert old.reasons[0] == "k1: compute capability 7.5 has no clusters; 9.0 is needed"
    alone = choose(CARDS["no cooperative launch"], Work(1, 4, 256, 8, 4), "k2")
    assert alone.kernel == "k3" and "k2: the card has no cooperative launch" in alone.reasons
    large = choose(CARDS["H100"], Work(1, 4, 5000, 8, 4), "k0")
    assert any("k0: H 5000 does not fit one block of 227 KiB" in r for r in large.reasons)
    free = choose(CARDS["H100"], Work(1, 4, 64, 16, 4))
    assert {r[:2] for r in free.reasons} == {"k1", "k2", "k3"}


def test_a_refused_launch_is_not_chosen_again():
    card, work = CARDS["H100"], Work(1, 4, 256, 1, 4)
    first = choose(card, work)
    refusal = Refusal(first.kernel, first.blocks, "CUDA_ERROR_CLUSTER_OUT_OF_RESOURCES")
    second = choose(card, work, None, (refusal,))
    assert (second.kernel, second.blocks) != (first.kernel, first.blocks)
    assert "CUDA_ERROR_CLUSTER_OUT_OF_RESOURCES" in second.reasons[0]
    everything = tuple(Refusal(k, n, "no") for k in KERNELS[:3] for n in range(1, 300))
    assert choose(card, work, None, everything).kernel == "k3"


def test_an_unknown_name_is_refused():
    with pytest.raises(
        ValueError, match=r"FASTNN_CUDA_RNN is 'k9'; one of k0, k1, k2, k3 is needed"
    ):
        choose(CARDS["A100"], Work(1, 4, 64, 16, 4), "k9")


def test_the_predictions_are_a_row_for_each_size():
    table = rnn_report.predictions(CARDS["H100"])
    assert len(table) == 2 + 2 * 2 * 7
    assert table[2].startswith("| lstm float32 64 | k0 ")
    assert {row.count("|") for row in table} == {6}
