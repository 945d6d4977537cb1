"""Question pairs: do two questions ask the same?

The Quora file (some 400,000 pairs) may be used but not passed on, so it is neither bundled nor
downloaded: it is read where the user has put it. Without it pairs are generated.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastnn import shapes
from fastnn.datasets.fetch import locate
from fastnn.datasets.readers import read_text

__all__ = ["QuestionPairs", "generate_question_pairs", "question_pairs", "read_question_pairs"]

FOLDER = "question-pairs"
# Quora's own name, and those of its copies.
FILES = ("quora_duplicate_questions.tsv", "questions.csv", "train.csv")
_COLUMNS = ("question1", "question2", "is_duplicate")


class QuestionPairs(NamedTuple):
    """Pairs of questions: two lists of texts, ``is_duplicate`` int64 ``[N]``, and the source.

    ``generated`` tells whether they were made up.
    """

    question1: list[str]
    question2: list[str]
    is_duplicate: np.ndarray
    source: str
    generated: bool


def question_pairs(
    path: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    generate: int = 4000,
    seed: int = 0,
) -> QuestionPairs:
    """Pairs of a file if there is one, else generated ones.

    Parameters
    ----------
    path : str or path, optional
        Default: ``quora_duplicate_questions.tsv``, ``questions.csv`` or ``train.csv`` in
        ``$FASTNN_DATA/question-pairs``, then in that folder of the cache.
    limit : int, optional
        Read only the first so many pairs.
    generate : int
        How many to make up where there is no file.
    seed : int
        Of those.

    Returns
    -------
    QuestionPairs
        ``source`` says which they are.

    Raises
    ------
    FileNotFoundError
        If ``path`` is given and is not there.
    ValueError
        If the file has another form.
    """
    if path is not None:
        return read_question_pairs(path, limit)
    for name in FILES:
        located = locate(FOLDER, [name])
        if located is not None:
            return read_question_pairs(located.paths[0], limit)
    return generate_question_pairs(generate if limit is None else min(limit, generate), seed)


def read_question_pairs(path: str | os.PathLike[str], limit: int | None = None) -> QuestionPairs:
    """Read a CSV or TSV file with the columns question1, question2 and is_duplicate.

    Parameters
    ----------
    path : str or path
        UTF-8, gzipped or not; texts with separators or line ends in them are in quotes.
    limit : int, optional
        Read only the first so many pairs.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or a line of another form: the message has its number.
    """
    path = Path(path)
    most = None if limit is None else shapes.integer("read_question_pairs", "limit", limit, 1)
    text = read_text(path, "read_question_pairs")
    head = text.partition("\n")[0]
    delimiter = "\t" if "\t" in head else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = [name.strip() for name in next(reader, [])]
    if not set(_COLUMNS) <= set(names):
        raise ValueError(
            f"[read_question_pairs] {path} has the columns {', '.join(names) or '(none)'}; "
            f"{', '.join(_COLUMNS)} are needed"
        )
    at = [names.index(name) for name in _COLUMNS]
    first: list[str] = []
    second: list[str] = []
    same: list[int] = []
    try:
        for row in reader:
            if not row:
                continue
            if len(row) <= max(at) or row[at[2]].strip() not in ("0", "1"):
                raise ValueError(
                    f"[read_question_pairs] {path}, line {reader.line_num}: {len(row)} fields, "
                    f"is_duplicate {row[at[2]] if len(row) > at[2] else '(none)'!r}; "
                    f"{len(names)} fields, and 0 or 1, are needed"
                )
            first.append(row[at[0]])
            second.append(row[at[1]])
            same.append(int(row[at[2]]))
            if most is not None and len(same) == most:
                break
    except csv.Error as error:  # such as a field without an end, where a quote is never closed
        raise ValueError(
            f"[read_question_pairs] {path}, line {reader.line_num}: {error}; a CSV or TSV file is "
            "needed"
        ) from None
    labels = np.asarray(same, np.int64)
    source = f"Question pairs: {len(same):,} pairs, {_share(labels)}, from {path}"
    return QuestionPairs(first, second, labels, source, False)


# Ways to ask the same, a row a question; {x} is one of the fillers of that row's kind.
_SKILLS = (
    "chess", "piano", "french", "python", "cooking", "photography", "swimming", "drawing",
    "statistics", "guitar", "spanish", "singing",
)  # fmt: skip
_PLACES = (
    "london", "tokyo", "brazil", "norway", "india", "paris", "kenya", "canada", "rome", "mexico",
    "iceland", "egypt",
)  # fmt: skip
_THINGS = (
    "phone", "laptop", "bicycle", "camera", "car", "guitar", "watch", "printer", "tent", "sofa",
    "fridge", "keyboard",
)  # fmt: skip
_INTENTS = (
    (_SKILLS, (
        "how can i learn {x}", "what is the best way to learn {x}", "how do i get good at {x}",
        "how should a beginner start with {x}", "what can i do to improve my {x}",
    )),
    (_SKILLS, (
        "how long does it take to learn {x}", "how many months until i am good at {x}",
        "how much time do i need for {x} lessons", "is {x} learned quickly or slowly",
    )),
    (_SKILLS, (
        "who is the best teacher of {x}", "which teacher should i choose for {x}",
        "where can i find someone who teaches {x}", "is there a good {x} teacher near me",
    )),
    (_PLACES, (
        "when is the best time to visit {x}", "in which month should i travel to {x}",
        "what season is good for a trip to {x}", "when should tourists go to {x}",
    )),
    (_PLACES, (
        "how much does a trip to {x} cost", "how expensive is travelling to {x}",
        "what money do i need for a week in {x}", "is a holiday in {x} cheap",
    )),
    (_PLACES, (
        "what should i eat in {x}", "which dishes is {x} famous for",
        "what is the food of {x} like", "where do people in {x} have dinner",
    )),
    (_PLACES, (
        "is {x} safe for tourists", "how dangerous is it to travel in {x}",
        "should i worry about crime in {x}", "do visitors of {x} have to be careful",
    )),
    (_THINGS, (
        "which {x} should i buy", "what is the best {x} for the money", "can you recommend a {x}",
        "what {x} would you choose",
    )),
    (_THINGS, (
        "how do i repair my {x}", "my {x} is broken what can i do", "how can a broken {x} be fixed",
        "who repairs a {x}",
    )),
    (_THINGS, (
        "where can i sell my old {x}", "how do i get rid of a used {x}",
        "what is my second hand {x} worth", "who buys a used {x}",
    )),
)  # fmt: skip
_OPENINGS = ("", "", "", "please tell me ", "does anyone know ", "i wonder ")


def generate_question_pairs(count: int = 4000, seed: int = 0) -> QuestionPairs:
    """Made-up pairs: paraphrases, and questions that share words but ask something else.

    Parameters
    ----------
    count : int
    seed : int

    Returns
    -------
    QuestionPairs
        Half of them are duplicates, on average. Of the others a third differ in what they are
        about, a third in what they ask, and a third in both.
    """
    count = shapes.integer("generate_question_pairs", "count", count, 1)
    rng = np.random.default_rng(shapes.seed_number("generate_question_pairs", seed))
    first: list[str] = []
    second: list[str] = []
    same = rng.integers(0, 2, count)
    for duplicate in same:
        intent, filler = _question(rng)
        other_intent, other_filler = intent, filler
        if not duplicate:
            other_intent, other_filler = _another(rng, intent, filler)
        ways = len(_INTENTS[intent][1])
        way = int(rng.integers(ways))
        # A paraphrase is put in other words; another question may be put in the same ones.
        shift = int(rng.integers(1, ways)) if duplicate else int(rng.integers(ways))
        first.append(_phrase(rng, intent, filler, way))
        second.append(_phrase(rng, other_intent, other_filler, way + shift))
    source = (
        f"Question pairs: {count:,} generated pairs, {_share(same)}; there is no Quora file in "
        f"$FASTNN_DATA/{FOLDER} or the cache"
    )
    return QuestionPairs(first, second, same.astype(np.int64), source, True)


def _question(rng: np.random.Generator) -> tuple[int, str]:
    intent = int(rng.integers(len(_INTENTS)))
    return intent, str(rng.choice(_INTENTS[intent][0]))


def _another(rng: np.random.Generator, intent: int, filler: str) -> tuple[int, str]:
    """A question that is not the same: of another thing, asking something else, or both."""
    kind = int(rng.integers(3))
    while True:
        if kind == 0:
            other = (intent, str(rng.choice(_INTENTS[intent][0])))
        elif kind == 1:
            alike = [i for i, (fillers, _) in enumerate(_INTENTS) if filler in fillers]
            other = (int(rng.choice(alike)), filler)
        else:
            other = _question(rng)
        if other != (intent, filler):
            return other


def _phrase(rng: np.random.Generator, intent: int, filler: str, way: int) -> str:
    ways = _INTENTS[intent][1]
    text = str(rng.choice(_OPENINGS)) + ways[way % len(ways)].format(x=filler)
    return text[0].upper() + text[1:] + "?"


def _share(labels: np.ndarray) -> str:
    share = 100 * float(labels.mean()) if len(labels) else 0.0
    return f"{share:.0f}% of them duplicates"
