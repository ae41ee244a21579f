"""Which recordings teach, steer and judge: nothing that would give an answer away stands in two of train, dev and test.

With enough named speakers the speaker is the unit, and a sentence that several of them say ties nobody together: its
copies in train are left out where dev or test holds it. Without speakers the recording is the unit, and recordings of
one text go together, unless one common sentence would tie more than a split can take: then it is treated likewise.

Corrected cases are held out of training by speaker, or by recording where nobody named one, and by the name alone: who
is held out once is held out in every round, whatever comes in beside, unless it ties them to what is trained on.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from unicodedata import normalize

from mondegreen.errors import LeakageError, UsageError
from mondegreen.records import Domain, FailedCase, Problem, Split, Utterance

TextKey = Callable[[str], str]
Key = tuple[str, str]  # a kind (content, recording, speaker, text) and its value
JUDGED_TEXT = "judged_text"  # the reason why a train copy of what dev or test holds is left out
_ROUNDING = 1e-9
_LARGEST = 0.5  # of the largest split: what texts may tie together
CasePairs = list[tuple[FailedCase, Utterance]]  # a corrected case and the row of its recording


@dataclass(frozen=True)
class SplitRule:
    """What train may not share with dev and test.

    Args:
        text: normaliser of references.
        by_speaker: the unit is the speaker, not the recording.
        repeat_texts: a text may stand in train and in dev or test (prepare.shared_texts: allow).
    """

    text: TextKey
    by_speaker: bool
    repeat_texts: bool = False

    @property
    def unit(self) -> Literal["speaker", "recording"]:
        return "speaker" if self.by_speaker else "recording"

    def bonds(self, row: Utterance) -> list[Key]:
        """What ties recordings together, whatever is said in them."""
        speaker = speaker_key(row.speaker) if self.by_speaker and row.domain == "target" else ""
        keys = [("content", row.sha256), ("recording", row.recording), ("speaker", speaker)]
        return [key for key in keys if key[1]]

    def keys(self, row: Utterance, written: str | None = None) -> list[Key]:
        """What a recording may not share with one that judges; `written` is its text, where that is no reference."""
        # What production misheard is what people say every day: its words may teach, its voices and recordings not.
        said = (
            ""
            if self.repeat_texts or row.domain == "corrected"
            else self.text(row.reference if written is None else written)
        )
        return [*self.bonds(row), *([("text", said)] if said else [])]


@dataclass(frozen=True)
class Shared:
    """The texts that several units say, and the one that most of them say."""

    texts: int
    most: str  # normalised
    units: int  # that say it
    apart: frozenset[str] | None  # those that tie nothing together; None: no text does


@dataclass(frozen=True)
class Dealt:
    """The recordings with their splits, and those that stay out, with the reasons."""

    rows: list[Utterance]
    withheld: list[Utterance]  # without a reference, in a unit that judges: what shares something with them does too
    repeated: Counter[str]  # texts of dev and test, and how many copies in train were left out
    problems: list[Problem]
    shared: Shared | None  # of the target domain; None: no text is said twice
    units: dict[Domain, list[int]]  # how many of their recordings have a reference, the largest unit first


def enough_speakers(rows: Iterable[Utterance], min_speakers: int) -> bool:
    """Whether the target domain has so many named speakers that the speaker is the unit, not the recording."""
    return len({speaker_key(row.speaker) for row in rows if row.domain == "target" and row.speaker}) >= min_speakers


def speaker_key(name: str) -> str:
    """Under which a speaker is one person for the splits.

    "Ann" and "ann" may be two people, who then lose a little; were they one, the verdict would be worth nothing.
    """
    return normalize("NFC", name).casefold()


def assign_splits(
    rows: Sequence[Utterance],
    rule: SplitRule,
    *,
    seed: int,
    dev: float,
    test: float,
    retention_dev: float = 0.5,
    fixed: Mapping[str, Split] | None = None,
) -> Dealt:
    """Gives every utterance its split, the same for the same rows and seed.

    The shares are counted in utterances with a reference, in each condition, and a split is off by its largest unit at
    most. Retention is never trained on: it is all dev and test, and a copy of it in the target domain is left out.

    Args:
        rows: of the domains target and retention, whatever their split says now.
        rule: what goes together.
        seed: another seed deals the units out in another order.
        dev: share of the target domain, 0..1.
        test: likewise.
        retention_dev: share of the retention domain that is dev, 0..1.
        fixed: splits that the user gave, by path; their unit follows.

    Raises:
        LeakageError: `fixed` puts recordings of one unit into two splits; names both files.
    """
    kept = {row.sha256: row.path for row in rows if row.domain == "retention"}
    target = [row for row in rows if row.domain == "target" and row.sha256 not in kept]
    rest = 1 - dev - test
    shares: dict[Split, float] = {"train": rest if rest > _ROUNDING else 0.0, "dev": dev, "test": test}
    split_of, shared, units = _split(target, rule, shares, seed, fixed or {})
    retention = [row for row in rows if row.domain == "retention"]
    bounds: dict[Split, float] = {"dev": retention_dev, "test": 1 - retention_dev}
    more, _, bounded = _split(retention, rule, bounds, seed, fixed or {})
    split_of |= more
    problems = [
        Problem(path=row.path, reason="in_retention", message=f"{kept[row.sha256]} has the same bytes, and judges")
        for row in rows
        if row.domain == "target" and row.sha256 in kept
    ]
    assigned = [row.model_copy(update={"split": split_of[row.path]}) for row in rows if row.path in split_of]
    return _held_out(assigned, rule, problems, shared, {"target": units, "retention": bounded})


def _held_out(
    assigned: list[Utterance],
    rule: SplitRule,
    problems: list[Problem],
    shared: Shared | None,
    units: dict[Domain, list[int]],
) -> Dealt:
    """Takes out what cannot judge, having no reference, and what may not teach: train copies of a judged text."""
    judged = {rule.text(row.reference): row for row in reversed(assigned) if row.split != "train" and row.reference}
    rows, withheld, repeated = [], [], Counter[str]()
    for row in assigned:
        judge = judged.get(rule.text(row.reference)) if row.reference and row.split == "train" else None
        if judge and not rule.repeat_texts:
            repeated[rule.text(row.reference)] += 1
            message = f"{judge.path}, which is held out, has the same text"
            problems.append(Problem(path=row.path, reason=JUDGED_TEXT, message=message))
        elif row.reference or (row.split == "train" and row.domain == "target"):
            rows.append(row)
        else:
            withheld.append(row)
            message = f"it has no reference, and it shares a recording, a text or a {rule.unit} with what judges"
            problems.append(Problem(path=row.path, reason="no_reference", message=message))
    return Dealt(rows, withheld, repeated, problems, shared, units)


def check_leakage(rows: Iterable[Utterance], rule: SplitRule) -> None:
    """Raises LeakageError naming both files when bytes, a recording or a speaker stands in two splits, or a text in
    train and in one that judges; or when a corrected case is held out whose speaker is trained on."""
    rows = list(rows)
    seen: dict[Key, Utterance] = {}
    for row in rows:
        for key in rule.keys(row):
            first = seen.setdefault(key, row)
            texts_that_judge = key[0] == "text" and "train" not in (first.split, row.split)
            if first.split != row.split and not texts_that_judge:
                raise _leak(first, row, key)
    held = {speaker_key(row.speaker): row for row in rows if row.domain == "corrected" and row.speaker}
    for row in rows:
        if row.split == "train" and (case := held.get(speaker_key(row.speaker))):
            raise _leak(case, row, ("speaker", row.speaker))


def _leak(first: Utterance, row: Utterance, key: Key) -> LeakageError:
    kind, value = key
    return LeakageError(
        f"{first.path} ({first.split}) and {row.path} ({row.split}) share a {kind}: {value}.",
        "Give both the same split and the same recording (or source) in references.csv, or remove one of them.",
    )


def _split(
    rows: Sequence[Utterance], rule: SplitRule, shares: Mapping[Split, float], seed: int, fixed: Mapping[str, Split]
) -> tuple[dict[str, Split], Shared | None, list[int]]:
    """The split of each path of one domain, its shared texts, and the sizes of its units."""
    texts = [rule.text(row.reference) for row in rows]
    bonds = [rule.bonds(row) for row in rows]
    alone = _components(bonds)
    shared = _shared(texts, alone)
    if rule.repeat_texts or (rule.by_speaker and any(row.domain == "target" for row in rows)):
        apart, labels = None, alone
    else:
        limit = max(2, _LARGEST * max(shares.values()) * sum(1 for row in rows if row.reference))
        given = {unit for unit, row in zip(alone, rows, strict=True) if row.path in fixed}
        free = ["" if unit in given else text for unit, text in zip(alone, texts, strict=True)]
        apart, labels = _tied(rows, bonds, free, alone, limit)
    units: dict[int, list[Utterance]] = defaultdict(list)
    for label, row in zip(labels, rows, strict=True):
        units[label].append(row)
    found = shared and Shared(*shared, apart)
    sizes = sorted((sum(bool(row.reference) for row in unit) for unit in units.values()), reverse=True)
    split_of = _deal(list(units.values()), shares, seed, _pinned(units.values(), rule, fixed))
    return split_of, found, [size for size in sizes if size]


def _components(keys: Sequence[Iterable[Hashable]]) -> list[int]:
    """A number for each row: the same for rows that share a key, directly or by way of others."""
    leader = list(range(len(keys)))  # of each row; one that leads itself stands for all that follow it

    def find(row: int) -> int:
        while leader[row] != row:
            leader[row] = leader[leader[row]]
            row = leader[row]
        return row

    first: dict[Hashable, int] = {}
    for row, own in enumerate(keys):
        for key in own:
            leader[find(row)] = find(first.setdefault(key, row))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(find(row), len(numbers)) for row in range(len(keys))]


def _shared(texts: Sequence[str], units: Sequence[int]) -> tuple[int, str, int] | None:
    """How many texts are said in several units, the one said in most, and in how many."""
    said = _said_in(texts, units)
    several = {text: len(found) for text, found in said.items() if len(found) > 1}
    if not several:
        return None
    most = min(several, key=lambda text: (-several[text], text))
    return len(several), most, several[most]


def _said_in(texts: Sequence[str], units: Sequence[int]) -> dict[str, set[int]]:
    said: dict[str, set[int]] = defaultdict(set)
    for text, unit in zip(texts, units, strict=True):
        if text:
            said[text].add(unit)
    return said


def _tied(
    rows: Sequence[Utterance], bonds: Sequence[list[Key]], texts: Sequence[str], alone: Sequence[int], limit: float
) -> tuple[frozenset[str], list[int]]:
    """Recordings of one text go together. Where that ties more than `limit` utterances, its commonest texts do not.

    Of the texts of such a unit those go that tie half as many recordings as the commonest one or more, again and
    again: a handful of rounds, and a text that ties little goes on doing so.

    Returns:
        The texts that tie nothing, and the number of its unit for each row.
    """
    apart: set[str] = set()
    while True:
        tying = [[("text", text)] if text and text not in apart else [] for text in texts]
        ties = [[*own, *more] for own, more in zip(bonds, tying, strict=True)]
        labels = _components(ties)
        sizes = Counter(label for label, row in zip(labels, rows, strict=True) if row.reference)
        common: set[str] = set()
        for large in (label for label, size in sizes.items() if size > limit):
            inside = [
                text if more and label == large else "" for label, text, more in zip(labels, texts, tying, strict=True)
            ]
            counts = {text: len(units) for text, units in _said_in(inside, alone).items() if len(units) > 1}
            common.update(text for text, count in counts.items() if count >= max(counts.values()) / 2)
        if not common:
            return frozenset(apart), labels
        apart |= common


def _pinned(units: Iterable[list[Utterance]], rule: SplitRule, fixed: Mapping[str, Split]) -> dict[str, Split]:
    """The split of each path whose unit holds a recording with a fixed one. Raises LeakageError."""
    found: dict[str, Split] = {}
    for unit in units:
        pins = [row.model_copy(update={"split": fixed[row.path]}) for row in unit if row.path in fixed]
        if len({row.split for row in pins}) > 1:
            # Two that share what ties is the better message; a text ties no recordings whose splits are given.
            check_leakage(pins, replace(rule, repeat_texts=True))
            other = next(row for row in pins if row.split != pins[0].split)
            raise _leak(pins[0], other, ("chain of recordings", "others share something with both"))
        found.update((row.path, pins[0].split) for row in unit if pins)
    return found


def _deal(
    units: Sequence[list[Utterance]], shares: Mapping[Split, float], seed: int, pinned: Mapping[str, Split]
) -> dict[str, Split]:
    """Large units first, equal ones in seeded order, each to the split that lacks most of what the unit holds."""
    weights = [Counter(row.condition for row in unit if row.reference) for unit in units]
    totals: Counter[str] = sum(weights, Counter())
    lack = {split: {condition: total * share for condition, total in totals.items()} for split, share in shares.items()}
    allowed: list[Split] = [split for split, share in shares.items() if share > 0]
    home: dict[int, Split] = {}

    def place(index: int, split: Split) -> None:
        home[index] = split
        for condition, number in weights[index].items():
            lack[split][condition] -= number

    def order(index: int) -> tuple[bool, int, bytes]:
        name = min(row.path for row in units[index])
        is_free = units[index][0].path not in pinned
        return is_free, -weights[index].total(), hashlib.sha256(f"{seed}:{name}".encode()).digest()

    def need(split: Split, index: int) -> float:
        return sum(number * lack[split][condition] / totals[condition] for condition, number in weights[index].items())

    for index in sorted(range(len(units)), key=order):
        if pin := pinned.get(units[index][0].path):
            place(index, pin)
        elif not weights[index] and "train" in shares:
            place(index, "train")
        else:
            place(index, max(allowed, key=lambda split: need(split, index)))
    _fill(home, weights, allowed, lambda index: units[index][0].path in pinned)
    return {row.path: home[index] for index, unit in enumerate(units) for row in unit}


def _fill(
    home: dict[int, Split], weights: Sequence[Counter[str]], allowed: Sequence[Split], is_fixed: Callable[[int], bool]
) -> None:
    """Gives a split that came out empty the smallest unit of one that has several, the fullest first."""
    for split in allowed:
        held: dict[Split, list[int]] = defaultdict(list)
        for index, at in home.items():
            if weights[index]:
                held[at].append(index)
        if held[split]:
            continue
        free = {at: [index for index in held[at] if not is_fixed(index)] for at in held if len(held[at]) > 1}
        donors = [at for at, indices in free.items() if indices]
        if donors:
            giver = max(donors, key=lambda at: sum(weights[index].total() for index in held[at]))
            home[min(free[giver], key=lambda index: weights[index].total())] = split


def hold_out(
    cases: CasePairs,
    teaches: Callable[[Utterance], bool],
    fraction: float,
    steering: float = 0.0,
) -> tuple[CasePairs, list[Utterance], list[Problem]]:
    """Parts the cases that may be trained on into those that teach, those that only measure, and those that steer.

    Cases that share a recording or a speaker, also by way of others, go together. Where train has a part of that
    recording or that speaker already, they can do neither: they teach. What a machine corrected of those that are held
    out has no use.

    Args:
        cases: see `admission.admitted_cases`.
        teaches: whether the recording or the speaker of a row is in train already.
        fraction: of the speakers and recordings that measure, `round.holdout_fraction`.
        steering: of those that steer, `train.dev_cases`.

    Returns:
        the cases that teach, the utterances that measure or steer (domain "corrected", split "test" or "dev"), and what
        has no use.

    Raises:
        UsageError: the two shares leave nothing to teach.
    """
    if fraction + steering >= 1:
        raise UsageError(
            "params.yaml: round.holdout_fraction and train.dev_cases leave no corrected case to learn from.",
            "Lower one of them: together they must stay below 1.",
        )
    units: dict[int, CasePairs] = defaultdict(list)
    for label, pair in zip(_components([_voice_and_tape(row) for _, row in cases]), cases, strict=True):
        units[label].append(pair)
    teaching: CasePairs = []
    held: list[Utterance] = []
    problems: list[Problem] = []
    for pairs in units.values():
        # By the highest rank: whoever comes in later can only take cases from those that are held out.
        names = {f"speaker {speaker_key(row.speaker)}" for _, row in pairs if row.speaker}
        rank = max(map(_rank, names or {f"recording {row.recording}" for _, row in pairs}))
        if rank >= fraction + steering or any(teaches(row) for _, row in pairs):
            teaching += pairs
            continue
        split: Split = "test" if rank < fraction else "dev"
        for case, row in pairs:
            if case.method == "llm":
                of = "speaker" if names else "recording"
                message = f"case {case.id} is of a {of} that is held out, and a machine corrected it"
                problems.append(Problem(path=row.path, reason="held_out_case", message=message))
            else:
                held.append(row.model_copy(update={"split": split, "domain": "corrected"}))
    return teaching, held, problems


def _voice_and_tape(row: Utterance) -> list[Key]:
    keys = [("recording", row.recording), ("speaker", speaker_key(row.speaker))]
    return [key for key in keys if key[1]]


def _rank(unit: str) -> float:
    """A number from 0 to 1 that is always the same for a name."""
    return int.from_bytes(hashlib.sha256(f"holdout/{unit}".encode()).digest()[:6], "big") / 2**48
