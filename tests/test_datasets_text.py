"""Texts to numbers, question pairs, and series. Numbers of words and padding are Keras's."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from fastnn import datasets
from fastnn.datasets import (
    Tokenizer,
    encode_pairs,
    pad_sequences,
    question_pairs,
    read_question_pairs,
    seasonal_series,
    timeseries_windows,
)

# --------------------------------------------------------------------------- words

TEXTS = ["The cat sat on the mat.", "The dog's mat; a CAT!", "", "on, on"]


def test_words_are_numbered_by_frequency_then_by_appearance():
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(TEXTS)
    expected = {"the": 1, "on": 2, "cat": 3, "mat": 4, "sat": 5, "dog's": 6, "a": 7}
    assert tokenizer.word_index == expected
    assert tokenizer.texts_to_sequences(TEXTS) == [
        [1, 3, 5, 2, 1, 4], [1, 6, 4, 7, 3], [], [2, 2]
    ]  # fmt: skip
    assert tokenizer.input_dim == 8


def test_few_words_and_unknown_ones():
    few = Tokenizer(num_words=4)
    few.fit_on_texts(TEXTS)
    assert few.texts_to_sequences(["the cat sat", "zebra on"]) == [[1, 3], [2]]
    assert few.input_dim == 4
    known = Tokenizer(num_words=4, oov_token="<unknown>")
    known.fit_on_texts(TEXTS)
    assert known.word_index["<unknown>"] == 1
    assert known.texts_to_sequences(["the cat sat", "zebra on"]) == [[2, 1, 1], [1, 3]]


def test_counting_goes_on():
    tokenizer = Tokenizer(lower=False, filters="!")
    tokenizer.fit_on_texts(["a b"])
    tokenizer.fit_on_texts(["B! b b"])
    assert tokenizer.word_index == {"b": 1, "a": 2, "B": 3}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[1, 2, 3], [0, 0, 4], [0, 0, 0]]),
        ({"padding": "post"}, [[1, 2, 3], [4, 0, 0], [0, 0, 0]]),
        ({"maxlen": 2}, [[2, 3], [0, 4], [0, 0]]),
        ({"maxlen": 2, "truncating": "post", "value": 9}, [[1, 2], [9, 4], [9, 9]]),
        ({"maxlen": 4, "padding": "post"}, [[1, 2, 3, 0], [4, 0, 0, 0], [0, 0, 0, 0]]),
    ],
)
def test_padding(options, expected):
    padded = pad_sequences([[1, 2, 3], [4], []], **options)
    assert padded.dtype == np.int32
    np.testing.assert_array_equal(padded, expected)


def test_padding_of_vectors():
    series = [np.ones((2, 3)), np.full((1, 3), 2.0)]
    padded = pad_sequences(series, dtype="float32", padding="post")
    assert padded.shape == (2, 2, 3) and padded.dtype == np.float32
    np.testing.assert_array_equal(padded[1], [[2, 2, 2], [0, 0, 0]])


def test_pairs_are_parted_by_a_number_of_their_own():
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(["a b c"])
    x, input_dim = encode_pairs(tokenizer, ["a b c", "b"], ["c", ""], maxlen=2)
    assert input_dim == 5
    np.testing.assert_array_equal(x, [[1, 2, 4, 3], [2, 4, 0, 0]])


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: Tokenizer(num_words=0), "num_words"),
        (lambda: Tokenizer().fit_on_texts("one text"), "list of texts"),
        (lambda: Tokenizer().fit_on_texts([3]), "str"),
        (lambda: pad_sequences([1, 2]), "list of lists"),
        (lambda: pad_sequences([[1]], padding="both"), "padding"),
        (lambda: pad_sequences([np.ones((1, 2)), np.ones((1, 3))]), "one shape"),
        (lambda: encode_pairs(Tokenizer(), ["a"], []), "1 and 0 texts"),
    ],
)
def test_errors_say_what_is_needed(run, message):
    with pytest.raises((ValueError, TypeError), match=rf"^\[.*{message}.*needed"):
        run()


# --------------------------------------------------------------------------- question pairs

ROWS = [
    ("What is \"x\", y?", "A tab\there", 1),
    ("Two\nlines?", "Ünïcode?", 0),
    ("", "nothing before", 0),
]  # fmt: skip


def file_text(delimiter: str) -> str:
    def quoted(text):
        return '"' + text.replace('"', '""') + '"'

    head = delimiter.join(["id", "qid1", "question1", "question2", "is_duplicate"])
    lines = [
        delimiter.join([str(i), "7", quoted(a), quoted(b), str(same)])
        for i, (a, b, same) in enumerate(ROWS)
    ]
    return "\n".join([head, *lines]) + "\n"


@pytest.mark.parametrize("delimiter", [",", "\t"])
@pytest.mark.parametrize("form", ["plain", "gzip", "mark"])
def test_reading(tmp_path, delimiter, form):
    path = tmp_path / "pairs"
    data = file_text(delimiter).encode("utf-8-sig" if form == "mark" else "utf-8")
    path.write_bytes(gzip.compress(data) if form == "gzip" else data)
    pairs = read_question_pairs(path)
    assert list(zip(pairs.question1, pairs.question2, pairs.is_duplicate, strict=True)) == ROWS
    assert pairs.is_duplicate.dtype == np.int64 and not pairs.generated
    assert "3 pairs, 33% of them duplicates" in pairs.source and str(path) in pairs.source
    assert read_question_pairs(path, limit=2).question1 == [row[0] for row in ROWS[:2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns"),
        ("a,b\n1,2\n", "columns a, b"),
        ("question1,question2,is_duplicate\na,b,1\na,b\n", "line 3"),
        ("question1,question2,is_duplicate\na,b,2\n", "line 2.*'2'"),
        ('question1,question2,is_duplicate\n"' + "x" * 200_000, "field larger"),
    ],
)
def test_files_of_another_form(tmp_path, text, message):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"^\[read_question_pairs\].*{message}.*needed"):
        read_question_pairs(path)


def test_where_the_file_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert question_pairs(generate=10).generated
    for place in (tmp_path / "cache" / "fastnn", tmp_path):  # the latter goes first
        folder = place / "question-pairs"
        folder.mkdir(parents=True)
        (folder / "train.csv").write_text(file_text(","))
        pairs = question_pairs(limit=2)
        assert not pairs.generated and len(pairs.question1) == 2 and str(folder) in pairs.source
    with pytest.raises(FileNotFoundError):
        question_pairs(tmp_path / "nothing.csv")


def test_generated_pairs():
    pairs = datasets.generate_question_pairs(600, seed=2)
    assert (
        pairs.generated
        and "600 generated pairs" in pairs.source
        and "no Quora file" in (pairs.source)
    )
    same = pairs.is_duplicate
    assert 0.4 < same.mean() < 0.6
    ends = [[text[-1] for text in side] for side in (pairs.question1, pairs.question2)]
    assert ends == [["?"] * 600] * 2
    again = datasets.generate_question_pairs(600, seed=2)
    assert again.question1 == pairs.question1 and np.array_equal(again.is_duplicate, same)
    assert datasets.generate_question_pairs(600, seed=3).question1 != pairs.question1
    # Words alone do not tell: pairs that are not the same share some, too.
    shared = np.array(
        [
            len(set(a.lower().split()) & set(b.lower().split()))
            for a, b in zip(pairs.question1, pairs.question2, strict=True)
        ]
    )
    assert (shared[same == 0] >= 2).mean() > 0.2


def test_generated_pairs_mean_what_they_say():
    """The same label comes out of the tables from which a pair was made."""
    from fastnn.datasets.questions import _INTENTS, _OPENINGS

    meaning = {}
    for number, (fillers, ways) in enumerate(_INTENTS):
        for filler in fillers:
            for way in ways:
                for opening in _OPENINGS:
                    text = opening + way.format(x=filler) + "?"
                    assert meaning.setdefault(text, (number, filler)) == (number, filler)
    pairs = datasets.generate_question_pairs(300, seed=1)
    for a, b, same in zip(*pairs[:3], strict=True):
        one, other = (meaning[text[0].lower() + text[1:]] for text in (a, b))
        assert (one == other) == bool(same)
        assert not same or a != b


# --------------------------------------------------------------------------- series


def test_windows():
    x, y = timeseries_windows(np.arange(7), 3)
    np.testing.assert_array_equal(x, [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]])
    np.testing.assert_array_equal(y, [[3], [4], [5], [6]])
    x, y = timeseries_windows(np.arange(14).reshape(7, 2), 2, horizon=3, sequence_stride=2)
    assert x.shape == (2, 2, 2) and y.shape == (2, 3, 2)
    np.testing.assert_array_equal(x[1], [[4, 5], [6, 7]])
    np.testing.assert_array_equal(y[1], [[8, 9], [10, 11], [12, 13]])
    x[0] = -1
    assert x[1, 0, 0] == 4
    for bad in (np.arange(3), np.ones((2, 2, 2)), 3):
        with pytest.raises(ValueError, match=r"^\[timeseries_windows\].*needed"):
            timeseries_windows(bad, 3)


def test_seasonal_series():
    time, series = seasonal_series()
    assert len(time) == 1461 and series.dtype == np.float32
    # The first numbers of the course's series.
    np.testing.assert_allclose(series[:3], [52.48357, 49.35275, 53.314735], rtol=1e-6)
    quiet = seasonal_series(800, noise=0.0)[1]
    np.testing.assert_allclose(quiet[365:730] - quiet[:365], 0.05 * 365, atol=1e-3)
    assert quiet[0] == 50.0
    other = seasonal_series(800, noise=0.0, phase=10, slope=0.0)[1]
    np.testing.assert_allclose(
        other[:700], seasonal_series(800, noise=0.0, slope=0.0)[1][10:710], atol=1e-4
    )
    assert not np.array_equal(seasonal_series(seed=1)[1], series)


def test_sunspots_as_they_come():
    time, series = datasets.sunspot_series()
    assert time[0] == 1749 and time[-1] == pytest.approx(2008 + 11 / 12)
    assert len(series) == 3120 and series.dtype == np.float32
    x, y = timeseries_windows(series, 24)
    data = datasets.sunspots(24)
    np.testing.assert_array_equal(np.concatenate([data.x_train, data.x_test])[..., 0], x)
    np.testing.assert_array_equal(np.concatenate([data.y_train, data.y_test]), y)
