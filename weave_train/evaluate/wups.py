"""WUPS: how near the words of an answer are to those of a reference in WordNet.

answer "puppy", reference "dog"   wup(puppy.n.01, dog.n.01) = .93, above .9: kept; below it, a tenth
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from weave_data.errors import DeviceError
from weave_train.evaluate.exact import plain_words

__all__ = ["Wups", "open_wordnet"]

_DEBIAN_FOLDER = Path("/usr/share/wordnet")
_WANTED = "apt-get install wordnet-base wordnet-sense-index, or python -m nltk.downloader wordnet"
_STOP_WORDS = frozenset(
    "am is are was were be been being do does did of in on at to for with by from and or it its this "  # noqa: SIM905
    "that there he she they his her their".split()
)
_DOWN_WEIGHT = 0.1
_NOUNS = (  # noqa: SIM905
    "Tops act animal artifact attribute body cognition communication event feeling food group location "
    "motive object person phenomenon plant possession process quantity relation shape state substance time"
).split()
_VERBS = (  # noqa: SIM905
    "body change cognition communication competition consumption contact creation emotion motion perception "
    "possession social stative weather"
).split()


@contextmanager
def open_wordnet(folder: Path | None = None) -> Iterator[Any]:
    """WordNet as nltk reads it.

    Args:
        folder: With `data.noun` and the others; None: nltk's own copy, else Debian's.

    Raises:
        DeviceError: nltk or WordNet is not there.
    """
    try:
        import nltk
        from nltk.corpus.reader.wordnet import WordNetCorpusReader
    except ImportError as error:
        raise DeviceError(
            "WUPS needs nltk, which is not installed: pip install 'videoweave[evaluate]'"
        ) from error
    with tempfile.TemporaryDirectory(prefix="weave-wordnet-") as root, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        place = _nltk_copy() if folder is None else None
        if place is None:
            source = folder or _DEBIAN_FOLDER
            if not (source / "data.noun").is_file():
                raise DeviceError(f"WUPS needs WordNet, and {source} does not hold it: {_WANTED}")
            view = Path(root) / "corpora" / "wordnet"
            view.mkdir(parents=True)
            for file in source.iterdir():
                if file.is_file():
                    (view / file.name).write_bytes(file.read_bytes())
            if not (view / "lexnames").exists():
                (view / "lexnames").write_text(_lexnames())
            nltk.data.path.insert(0, root)
            place = nltk.data.find("corpora/wordnet")
        try:
            yield WordNetCorpusReader(place, None)
        except (OSError, LookupError) as error:
            raise DeviceError(f"WordNet can't be read ({error}): {_WANTED}") from error
        finally:
            if root in nltk.data.path:
                nltk.data.path.remove(root)


def _nltk_copy() -> Any:
    import nltk

    try:
        return nltk.data.find("corpora/wordnet")
    except LookupError:
        return None


def _lexnames() -> str:
    """WordNet 3.0's 45 lexicographer files, which Debian leaves out: number, name, part of speech."""
    names = [("adj.all", 3), ("adj.pert", 3), ("adv.all", 4)]
    names += [(f"noun.{name}", 1) for name in _NOUNS]
    names += [(f"verb.{name}", 2) for name in _VERBS] + [("adj.ppl", 3)]
    return "".join(f"{number:02d}\t{name}\t{part}\n" for number, (name, part) in enumerate(names))


class Wups:
    """WUPS of answers.

    Args:
        wordnet: From `open_wordnet`.

    Source:
        Malinowski and Fritz (2014): the smaller of two products over words, each of the nearest word on the
        other side; as NExT-QA scores open answers, a word's similarity below the threshold counts a tenth.
        Differs: our short list of words that say nothing is left out instead of nltk's.
    """

    def __init__(self, wordnet: Any) -> None:
        self._wordnet = wordnet
        self._similarity = lru_cache(maxsize=1 << 16)(self._compute)

    def score(self, answer: str, references: Sequence[str], *, threshold: float) -> float:
        """The best over references, 0 to 1.

        Args:
            answer: What the model wrote.
            references: Right answers.
            threshold: 0.9 or 0.0 in published tables.
        """
        return max((self._score(answer, reference, threshold) for reference in references), default=0.0)

    def _score(self, answer: str, reference: str, threshold: float) -> float:
        given, right = _telling(answer), _telling(reference)
        if not given or not right:
            return float(given == right)
        return min(
            math.prod(max(self._weighted(word, other, threshold) for other in right) for word in given),
            math.prod(max(self._weighted(word, other, threshold) for other in given) for word in right),
        )

    def _weighted(self, one: str, other: str, threshold: float) -> float:
        similarity = self._similarity(*sorted((one, other)))
        return similarity if similarity >= threshold else _DOWN_WEIGHT * similarity

    def _compute(self, one: str, other: str) -> float:
        if one == other:
            return 1.0
        senses = [(a, b) for a in self._senses(one) for b in self._senses(other)]
        return max((self._wordnet.wup_similarity(a, b) or 0.0 for a, b in senses), default=0.0)

    def _senses(self, word: str) -> list[Any]:
        return list(self._wordnet.synsets(word))


def _telling(text: str) -> list[str]:
    words = plain_words(text)
    return [word for word in words if word not in _STOP_WORDS] or words
