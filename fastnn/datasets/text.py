"""Words to numbers: a vocabulary, and sequences of one length, as in Keras."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastnn import shapes

__all__ = ["Tokenizer", "encode_pairs", "pad_sequences"]

_FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'


class Tokenizer:
    """A vocabulary: texts to words, words to numbers from 1; 0 is left for padding.

    Parameters
    ----------
    num_words : int, optional
        Only the ``num_words - 1`` most frequent words have numbers in sequences.
    filters : str
        Characters that part words.
    lower : bool
        Whether texts become lower case.
    oov_token : str, optional
        A word, number 1, in place of those that are not in the vocabulary; without it they are
        left out.

    Attributes
    ----------
    word_index : dict of str to int
        The more frequent a word, the smaller its number; equally frequent ones in the order in
        which they were seen.
    word_counts : dict of str to int
    """

    def __init__(
        self,
        num_words: int | None = None,
        filters: str = _FILTERS,
        lower: bool = True,
        oov_token: str | None = None,
    ) -> None:
        if num_words is not None:
            num_words = shapes.integer("Tokenizer", "num_words", num_words, 1)
        self.num_words = num_words
        self.lower = bool(lower)
        self.oov_token = oov_token
        self.word_counts: Counter[str] = Counter()
        self.word_index: dict[str, int] = {}
        self._table = str.maketrans(dict.fromkeys(filters, " "))

    def words(self, text: str) -> list[str]:
        """The words of a text."""
        if not isinstance(text, str):
            raise TypeError(f"[Tokenizer] a text is {shapes.words(text)}; a str is needed")
        return (text.lower() if self.lower else text).translate(self._table).split(" ")

    def fit_on_texts(self, texts: Iterable[str]) -> None:
        """Count the words of texts and number them anew; may be called again with more."""
        for text in _texts("fit_on_texts", texts):
            self.word_counts.update(word for word in self.words(text) if word)
        order = sorted(self.word_counts, key=self.word_counts.__getitem__, reverse=True)
        first = [] if self.oov_token is None else [self.oov_token]
        order = first + [word for word in order if word != self.oov_token]
        self.word_index = {word: i for i, word in enumerate(order, 1)}

    def texts_to_sequences(self, texts: Iterable[str]) -> list[list[int]]:
        """The numbers of each text's words."""
        unknown = None if self.oov_token is None else self.word_index.get(self.oov_token)
        result = []
        for text in _texts("texts_to_sequences", texts):
            numbers = (self._number(word, unknown) for word in self.words(text) if word)
            result.append([number for number in numbers if number is not None])
        return result

    def _number(self, word: str, unknown: int | None) -> int | None:
        number = self.word_index.get(word)
        if number is None or (self.num_words is not None and number >= self.num_words):
            return unknown
        return number

    @property
    def input_dim(self) -> int:
        """How many numbers sequences may hold, 0 included: what an `Embedding` needs."""
        known = len(self.word_index) + 1
        return known if self.num_words is None else min(known, self.num_words)


def _texts(op: str, texts: Any) -> list[str]:
    if isinstance(texts, str):
        raise TypeError(f"[Tokenizer.{op}] texts is one text; a list of texts is needed")
    return list(texts)


def pad_sequences(
    sequences: Iterable[Sequence[Any]],
    maxlen: int | None = None,
    dtype: str = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: float = 0.0,
) -> np.ndarray:
    """Sequences of different lengths as one array, as `keras.utils.pad_sequences` makes it.

    Parameters
    ----------
    sequences : iterable of sequences
        Of numbers, or of arrays of one shape.
    maxlen : int, optional
        Default: the longest.
    dtype : str
    padding, truncating : {"pre", "post"}
        Where short ones are filled, and where long ones are cut.
    value : number

    Returns
    -------
    array [N, maxlen, ...]
    """
    for name, where in (("padding", padding), ("truncating", truncating)):
        shapes.check_choice("pad_sequences", name, where, ("pre", "post"))
    arrays = [np.asarray(sequence, dtype) for sequence in sequences]
    if any(array.ndim == 0 for array in arrays):
        raise ValueError("[pad_sequences] a number among the sequences; a list of lists is needed")
    longest = max((len(array) for array in arrays), default=0)
    length = longest if maxlen is None else shapes.integer("pad_sequences", "maxlen", maxlen, 0)
    rest = next((array.shape[1:] for array in arrays if len(array)), ())
    result = np.full((len(arrays), length, *rest), value, dtype)
    for row, array in zip(result, arrays, strict=True):
        if not len(array) or not length:
            continue
        if array.shape[1:] != rest:
            raise ValueError(
                f"[pad_sequences] entries of shape {array.shape[1:]} after {rest}; one shape is "
                "needed"
            )
        kept = array[-length:] if truncating == "pre" else array[:length]
        if padding == "pre":
            row[length - len(kept) :] = kept
        else:
            row[: len(kept)] = kept
    return result


def encode_pairs(
    tokenizer: Tokenizer, first: Sequence[str], second: Sequence[str], maxlen: int | None = None
) -> tuple[np.ndarray, int]:
    """Pairs of texts as one sequence each: the first, a separator, the second, then zeros.

    Parameters
    ----------
    tokenizer : Tokenizer
        Fitted.
    first, second : sequences of str
        Of one length.
    maxlen : int, optional
        Words after so many are cut off, of each text.

    Returns
    -------
    x : int32 array [N, longest]
        The separator is ``tokenizer.input_dim``.
    input_dim : int
        One more than that: of the `Embedding` that reads x.
    """
    if len(first) != len(second):
        raise ValueError(
            f"[encode_pairs] {len(first)} and {len(second)} texts; as many of both are needed"
        )
    separator = tokenizer.input_dim
    cut = None if maxlen is None else shapes.integer("encode_pairs", "maxlen", maxlen, 1)
    ones, others = (tokenizer.texts_to_sequences(texts) for texts in (first, second))
    joined = [
        [*one[:cut], separator, *other[:cut]] for one, other in zip(ones, others, strict=True)
    ]
    return pad_sequences(joined, padding="post"), separator + 1
