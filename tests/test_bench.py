"""The benchmark's parts on small rows: the data, the runner, the comparison, the report."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fastnn import cli, dispatch
from fastnn.bench import compare, inputs, layouts, measure, ours, report, rows
from fastnn.bench.inputs import prefixes
from fastnn.bench.measure import Measurement, Session, Setup, Spread, Timing
from fastnn.bench.peers import PEERS
from fastnn.bench.process import Worker, WorkerError, usable_cores

EVERY = rows.select("all")
TINY = rows.RnnRow("tiny", 3, 2, 5, (rows.RnnLayer("lstm", 4),))
SMALL = [
    TINY,
    TINY._replace(name="ragged", ragged=True),
    TINY._replace(name="dropout", recurrent_dropout=0.5, modes=(rows.TRAINING,)),
    rows.RnnRow(
        "both_ways",
        *(3, 2, 5),
        (rows.RnnLayer("gru", 4, bidirectional=True), rows.RnnLayer("simple_rnn", 3, "relu")),
    ),
    rows.ConvRow("conv", 2, 4, (7, 6), 6, 3, stride=2, pad=1, groups=2),
    rows.ConvRow("conv1d", 2, 3, (9,), 4, 3),
    rows.PoolRow("max", "max", 2, 3, (6, 6), 2, 2),
    rows.PoolRow("average", "average", 2, 3, (7, 7), 3, 2),
    rows.PoolRow("stochastic", "stochastic", 2, 3, (6, 6), 2, 2),
    rows.DenseRow("dense", 4, (6, 5, 3)),
    rows.EpochRow("epoch", "rnn", 8, 10, images=30),
    rows.EpochRow("epoch_cnn", "cnn", 2, 10, images=20),
]


def names(members):
    return [row.name for row in members]


# --------------------------------------------------------------------------- rows, inputs


def test_rows_are_well_formed():
    assert len({row.name for _, row in EVERY}) == len(EVERY)
    for _, row in EVERY:
        assert row.modes and set(row.modes) <= {rows.INFERENCE, rows.TRAINING}
        assert rows.from_json(json.loads(json.dumps(rows.to_json(row)))) == row


@pytest.mark.parametrize(
    "row", [row for _, row in EVERY if row not in rows.EPOCH], ids=lambda r: r.name
)
def test_rows_say_how_much_work_they_are(row):
    for mode in row.modes:
        assert (rows.flops(row, mode) or rows.traffic(row, mode)) > 0
    if row in rows.CONV or row in rows.POOL:
        assert min(rows.out_size(row)) >= 1


def test_flops():
    row = next(row for row in rows.RECURRENT if row.name == "lstm_mnist")
    forward = 2 * 28 * 150 * (28 + 150) * 4 * 150
    assert rows.flops(row, rows.INFERENCE) == forward
    assert rows.flops(row, rows.TRAINING) == 3 * forward
    assert rows.flops(row, rows.INFERENCE, steps=7) == 2 * 7 * (28 + 150) * 4 * 150
    conv = next(row for row in rows.CONV if row.name == "vgg64")
    assert rows.flops(conv, rows.INFERENCE) == 2 * 32 * 32 * 32 * 64 * 64 * 9


def test_select():
    assert names(row for _, row in rows.select("dense")) == ["dense_784"]
    found = rows.select("all", ("max_vgg", "lstm_b1_128"))
    assert found[0][0] == "recurrent" and found[1][0] == "pool"
    with pytest.raises(ValueError, match="'max_vgg' is not a row of conv"):
        rows.select("conv", ("max_vgg",))


@pytest.mark.parametrize("row", SMALL, ids=lambda row: row.name)
def test_inputs_are_the_same_each_time(row):
    first, again = inputs.make(row), inputs.make(row)
    assert first.keys() == again.keys()
    for name, array in first.items():
        assert np.array_equal(array, again[name]), name
        assert array.dtype in (np.dtype(row.dtype), np.dtype(np.int64))


# --------------------------------------------------------------------------- fastnn takes part


@pytest.mark.parametrize("row", SMALL, ids=lambda row: row.name)
def test_fastnn_takes_part(row, backend):
    """On each backend the results have their names and are those of the other backend."""
    arrays = inputs.make(row)
    if isinstance(row, rows.RnnRow):
        weights = {f"d{p}kernel" for directions in prefixes(row) for p in directions}
    else:
        weights = set()
    jobs = ours.jobs(row, arrays)
    with dispatch.use_backend("numpy"):
        reference = next(iter(ours.jobs(row, arrays).values()))
        expected = {mode: reference[mode].checked() for mode in row.modes}
    for job in jobs.values():
        for mode in row.modes:
            job[mode].call()
            found = job[mode].checked()
            assert found.keys() == expected[mode].keys()
            assert mode != rows.TRAINING or weights <= found.keys()
            gap, where = compare.difference(found, expected[mode])
            assert gap <= compare.tolerance(row), where


def test_gate_orders_are_undone():
    array = np.arange(24.0).reshape(2, 12)
    for orders in (layouts.TORCH_GATES, layouts.ONNX_GATES):
        for order in orders.values():
            moved = layouts.reorder(array, order)
            assert np.array_equal(layouts.restore(moved, order), array)


def test_a_difference_is_seen():
    right = {"y": np.ones(3), "dx": np.array([2.0, 4.0])}
    assert compare.difference(right, right)[0] == 0
    assert compare.difference({**right, "dx": np.array([2.0, 4.4])}, right)[0] == pytest.approx(0.1)
    assert compare.difference({"y": np.array([1, np.nan, 1])}, right) == (math.inf, "y")
    assert compare.difference({"y": np.ones(4)}, right)[0] == math.inf
    assert compare.difference({"z": np.ones(3)}, right)[0] == math.inf


# --------------------------------------------------------------------------- the runner


def test_a_session_without_peers():
    said = []
    with Session(Setup(1, {}, 0.02), said.append) as session:
        assert "backend" in session.versions["fastnn"]
        found = list(session.measure("recurrent", TINY))
    assert [m.mode for m in found] == [rows.INFERENCE, rows.TRAINING]
    for m in found:
        assert m.row == "tiny" and m.peers == {} and m.threads == 1
        assert 0 < m.ours.seconds.low <= m.ours.seconds.median <= m.ours.seconds.high
        assert m.fraction.median > 0 and m.ceiling_rate > 0
    assert said


def write_peer(folder, body):
    """A module of a peer that computes with fastnn; ``body`` spoils it."""
    (folder / "peer_for_test.py").write_text(
        "from fastnn.bench import ours\n"
        "def prepare(threads):\n    return ours.prepare(threads)\n"
        f"def jobs(row, arrays):\n{body}\n"
    )


SAME = "    return ours.jobs(row, arrays)"
WRONG = "    return ours.jobs(row, {**arrays, 'x': arrays['x'] * 1.01})"
NO = "    from fastnn.bench.jobs import Unsupported\n    raise Unsupported('not this one')"
DEAD = "    import os; os._exit(3)"


@pytest.fixture
def peer(monkeypatch, tmp_path):
    """A peer called "torch" whose jobs are ``body``; gives (timing, measurement) of `TINY`."""
    import sys

    def measured(body):
        write_peer(tmp_path, body)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setitem(PEERS, "torch", PEERS["torch"]._replace(module="peer_for_test"))
        with Session(Setup(1, {"torch": sys.executable}, 0.02), lambda text: None) as session:
            found = list(session.measure("recurrent", TINY))
        return found[0].peers["torch"], found[0]

    return measured


def test_a_peer_that_is_right(peer):
    timing, measurement = peer(SAME)
    assert timing.difference == 0 and timing.ratio.low <= timing.ratio.median
    assert report.best(measurement)[0] == "torch"


@pytest.mark.parametrize(
    ("body", "reason"),
    [(WRONG, "differs by"), (NO, "not this one"), (DEAD, "died with code 3")],
    ids=["wrong", "unsupported", "dead"],
)
def test_a_peer_that_is_not_timed(peer, body, reason):
    timing, measurement = peer(body)
    assert timing.ratio is None and timing.seconds is None and reason in timing.reason
    assert report.best(measurement) is None and measurement.ours.seconds.median > 0


def test_a_worker_that_cannot_start(tmp_path):
    worker = Worker("fastnn.bench.no_such", 1, usable_cores()[:1], tmp_path / "log")
    with pytest.raises(WorkerError, match="no_such"):
        worker.ask("prepare")
    worker.close()
    assert not worker.alive()


# --------------------------------------------------------------------------- report


def measurement(row, ratio, plain=True, **fields):
    """A measurement with one peer at a ratio, in round numbers."""
    spread = Spread(ratio, ratio * 0.9, ratio * 1.1)
    values = {
        "group": "recurrent",
        "row": row,
        "mode": "training",
        "threads": 1,
        "plain": plain,
        "flops": 2e9,
        "bytes": None,
        "ours": Timing("op", Spread(0.01, 0.009, 0.011)),
        "peers": {
            "torch": Timing("nchw", Spread(0.02, 0.01, 0.03), spread, 1e-6),
            "jax": Timing("", reason="died with code 3"),
        },
        "fraction": Spread(0.8, 0.7, 0.9),
        "ceiling": "fastnn product 512",
        "ceiling_rate": 250e9,
    }
    return Measurement(**{**values, **fields})


FOUND = [measurement("a", 2.0), measurement("b", 8.0), measurement("c", 100.0, plain=False)]


def test_the_table():
    text = report.tables(FOUND)
    lines = text.splitlines()
    assert lines[0] == "recurrent, training, 1 thread"
    assert " ".join(lines[1].split()) == "row fastnn ms GFLOP/s of peak best peer torch jax"
    assert " ".join(lines[2].split()) == "a 10.000 200.0 80% 2.00 2.00 [1.80 2.20] -"
    assert "over 2 plain rows: geometric mean 4.00, least 2.00" in text
    assert "peak: 250 GFLOP/s (fastnn product 512)" in text
    assert "jax: died with code 3" in text


def test_tables_are_parted_by_mode_and_threads():
    more = [*FOUND, measurement("a", 2.0, threads=2), measurement("a", 2.0, mode="inference")]
    assert [key for key, _ in report.parts(more)] == [
        ("recurrent", "training", 1),
        ("recurrent", "training", 2),
        ("recurrent", "inference", 1),
    ]


def test_the_document_is_json():
    document = report.document(FOUND, {"torch": "2"}, {"seconds": 1})
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again["cpu"] and again["date"] and again["versions"] == {"torch": "2"}
    assert again["results"][0]["best_peer"]["median"] == 2.0
    assert again["results"][0]["peers"]["jax"]["reason"] == "died with code 3"


def test_the_chart(tmp_path):
    pytest.importorskip("matplotlib")
    from fastnn.bench import chart

    chart.draw(tmp_path / "chart.png", [*FOUND, measurement("a", 0.5, threads=2)], "title", "below")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["chart.png"]
    alone = [measurement("a", 2.0, peers={})]
    with pytest.raises(ValueError, match="no peer was timed"):
        chart.draw(tmp_path / "none.png", alone, "title", "below")


# --------------------------------------------------------------------------- the command


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rows, "GROUPS", {**rows.GROUPS, "dense": (SMALL[9],)})
    arguments = ["--peers", "none", "--threads", "1", "--time-per-row", "0.02"]
    files = ["--json", str(tmp_path / "new" / "b.json"), "--png", str(tmp_path / "b.png")]
    assert cli.main(["bench", "dense", *arguments, *files]) == 0
    out = capsys.readouterr().out
    assert "dense, training, 1 thread" in out and "no peer was timed" in out
    results = json.loads((tmp_path / "new" / "b.json").read_text())["results"]
    assert [(r["row"], r["mode"]) for r in results] == [("dense", m) for m in SMALL[9].modes]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["conv", "--rows", "lstm_mnist"], "'lstm_mnist' is not a row of conv"),
        (["--peers", "theano"], "'theano' is not a peer"),
        (["--peers", "torch", "--python", "/no/such/python"], "/no/such/python"),
        (["--threads", "1000"], "--threads 1000 on"),
    ],
)
def test_wrong_usage(arguments, words, capsys):
    assert cli.main(["bench", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("fastnn bench: ") and words in err and err.count("\n") == 1


def test_a_peer_that_is_not_installed(monkeypatch, capsys):
    absent = PEERS["torch"]._replace(packages=("no_such_package",))
    monkeypatch.setitem(PEERS, "torch", absent)
    assert cli.main(["bench", "--peers", "torch"]) == 2
    assert "no_such_package" in capsys.readouterr().err


def test_the_ceiling_is_the_fastest_product():
    from fastnn.bench import ceiling

    assert ceiling.amount("copy 100") == 200 and ceiling.amount("NumPy product 10") == 2000
    assert ceiling.cost("fastnn product 10", 1.0) < ceiling.cost("NumPy product 10", 0.97)
    assert ceiling.cost("fastnn product 10", 1.0) > ceiling.cost("NumPy product 10", 0.9)


def test_quartiles():
    assert measure.median_and_quartiles([1, 2, 3, 4, 5]) == (3, 2, 4)
