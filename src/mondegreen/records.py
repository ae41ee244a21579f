"""The records that stages hand to each other: one model a file kind, one line or file a record."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

Split = Literal["train", "dev", "test"]
Domain = Literal["target", "retention", "replay", "corrected"]
Source = Literal["human", "llm", "hypothesis", "none"]  # hypothesis: what the model heard, in place of an absent LLM
ReferenceSource = Literal["human", "llm"]
Outcome = Literal["pass", "fail", "inconclusive"]
CorrectionMethod = Literal["manual", "import", "llm"]  # the first two are people's


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Utterance(_Record):
    """A row of build/prepare/manifest.jsonl: a recording that can be used, and where it belongs.

    `domain` is "retention" for recordings of what the model knew before (never trained on), "replay" for others of that
    kind, which are trained on where the base model hears them rightly and judge nothing, "corrected" for failed cases
    that are held out of training and only measure what a round does to them, else "target".
    """

    id: str  # first 16 hex digits of sha256, "-2" … for equal bytes under another path
    path: str  # relative to the project root
    sha256: str
    duration: float  # seconds
    condition: str  # the folder: clean, noisy, …
    speaker: str  # "" when nobody said
    recording: str  # the source recording; noisy copies of one recording share it
    reference: str  # what a human heard, "" when nobody wrote it down
    split: Split
    domain: Domain
    reference_source: ReferenceSource = "human"  # a machine's may not judge: validate.allow_llm_references

    @property
    def judges(self) -> bool:
        """Whether models are chosen or judged by it, so that nothing of it may be learnt."""
        return self.split != "train" or self.domain == "retention"


class Problem(_Record):
    """A file that was left out (or, for `warning`, kept) and why."""

    path: str
    reason: str  # stable code: missing, empty, truncated, not_audio, …
    message: str
    warning: bool = False


class Word(_Record):
    """A word of a hypothesis. Times in seconds from the start of the recording."""

    text: str
    start: float
    end: float
    confidence: float = Field(ge=0, le=1)


class Alternative(_Record):
    """One entry of an N-best list. `score` is the CTC log probability of the text."""

    text: str
    score: float


class Hypothesis(_Record):
    """A row of hypotheses.jsonl: what a model heard."""

    id: str
    path: str
    text: str
    confidence: float = Field(ge=0, le=1)
    duration: float  # seconds
    words: list[Word]
    nbest: list[Alternative]
    model: str  # digest of the model that wrote it
    error: str = ""  # why there is no transcript; counts as a fully wrong, empty hypothesis


class Writer(_Record):
    """Which language model wrote a label, asked in which way."""

    model: str  # as its server names it
    digest: str  # of its weights
    prompt_version: str


class Label(_Record):
    """A row of build/label/labels.jsonl: the gold transcript of an utterance and where it comes from."""

    id: str
    text: str
    source: Source
    note: str = ""
    writer: Writer | None = None  # of a language model's label; None also where a case's correction names none


class FailedCase(_Record):
    """A row of data/failed_cases/cases.jsonl: a recording that was misheard in production, and its correction."""

    id: str
    path: str  # relative to data/failed_cases
    sha256: str
    duration: float  # seconds
    hypothesis: str  # what the model heard
    model_version: str
    text: str  # the correction that counts
    method: CorrectionMethod
    author: str
    error_types: list[str]
    error_score: float | None
    source: str
    speaker: str = ""  # "" when nobody said
    recording: str = ""  # the source recording, where several cases share one
    channel: str = ""
    writer: Writer | None = None  # of a language model's correction


class Example(_Record):
    """A row of build/select/{train,dev}.jsonl."""

    id: str
    path: str
    sha256: str
    duration: float  # seconds
    text: str  # gold, as written by its source
    source: Source
    kind: Literal["error", "replay", "dev", "retention"]
    hypothesis: str  # what the baseline heard


class Trial(_Record):
    """build/trial/trial.json: whether this run of the pipeline only tries a candidate out, on dev."""

    trial: bool


class RunInfo(_Record):
    """build/train/run.json: the MLflow run that is this candidate, and what was trained."""

    run_id: str
    base: str  # as named in params.yaml
    base_digest: str
    model_digest: str
    method: Literal["lora", "full"]
    merge_weight: float = Field(ge=0, le=1)
    best_epoch: int
    dev_wer: float
    data: dict[str, str] = Field(default_factory=dict)  # data hash, branch, commit, experiment


class Epoch(_Record):
    """One epoch of the history. Rates from 0; no wall-clock time, so that equal runs write equal files."""

    epoch: int
    loss: float
    dev_wer: float
    dev_cer: float
    dev_heard: int  # hypotheses that are not empty
    learning_rate: float
    dev_loss: float | None = None  # CTC loss of a label, mean over the dev recordings; None: an older run's

    @property
    def rank(self) -> tuple[float, float, float]:
        """Lowest is best: dev WER, where words tie the CER, and where that ties too the loss."""
        return self.dev_wer, self.dev_cer, 0.0 if self.dev_loss is None else self.dev_loss


class SweepRow(_Record):
    """A merge weight and what the model is worth there. Weight 0 is the base, for reference only."""

    weight: float
    dev_wer: float
    dev_cer: float
    retention_wer: float | None  # None without retention recordings
    retention_loss: float  # WER lost against the base, absolute; 0 without retention recordings
    retention_loss_bound: float  # one-sided upper bound of it, 95 %; 0 without retention recordings
    within_budget: bool  # whether that bound is


class TrainingHistory(_Record):
    """build/train/history.json: learning curves, the merge-weight sweep, what was left out."""

    epochs: list[Epoch]
    sweep: list[SweepRow]
    left_out: list[Problem]
    notes: list[str]


class Rate(_Record):
    """A corpus error rate with what it was counted on."""

    errors: int
    reference_length: int
    rate: float
    substitutions: int
    deletions: int
    insertions: int

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.errors != self.substitutions + self.deletions + self.insertions:
            raise ValueError("errors must be the sum of substitutions, deletions and insertions")
        return self


class SliceMetrics(_Record):
    """WER and CER of a slice of the hypotheses."""

    utterances: int
    wer: Rate
    cer: Rate


class Metrics(_Record):
    """metrics.json of transcribe and evaluate: slice name ("test", "test/clean", …) to rates."""

    model: str
    normalizer: str
    slices: dict[str, SliceMetrics]


class SuiteResult(_Record):
    """One suite of build/regress/results.json."""

    name: str
    kind: str
    outcome: Outcome
    reason: str
    baseline: SliceMetrics | None = None  # None when only a stored baseline was there to compare with
    candidate: SliceMetrics | None = None
    details: dict[str, Any] = Field(default_factory=dict)
    severity: str = ""
    owner: str = ""
    data: str = ""  # digest of the suite's recordings and references
    critical: bool = False  # a critical suite that lost more than a critical one ever may


class RegressionResults(_Record):
    """build/regress/results.json. `passed` only when there are suites and every one passed."""

    passed: bool
    reason: str
    model: str  # digest, "" when the caller gave only a function
    suites: list[SuiteResult]
    model_version: str = ""
    baseline_model: str = ""  # digest of the model that heard the suites beside the candidate, "" without one
    registered: bool = True  # False: the project has no suites, and does not require any

    @property
    def outcome(self) -> Literal["pass", "fail", "none"]:
        """Of all suites; "none" keeps nothing from production."""
        return "pass" if self.passed else "fail" if self.registered else "none"

    @property
    def critical_degradation(self) -> list[str]:
        """Names of the critical suites that lost more than a critical one ever may."""
        return [suite.name for suite in self.suites if suite.critical]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return self.model_dump(mode="json")


class RegisteredVersion(_Record):
    """build/register/version.json."""

    name: str
    version: int
    stage: str
    alias: str  # "" when it is registered without one
    outcome: Outcome
    run_id: str
    digest: str
    uri: str
    reason: str = ""  # why it has no alias, or was not promoted though it passed
    made_of: str = ""  # digest of what the stage register read: the same candidate with the same verdict

    def __str__(self) -> str:
        """As people read it."""
        held = (
            f"@{self.alias}{f': {self.reason}' if self.reason else ''}"
            if self.alias
            else f"without alias: {self.reason}"
        )
        return f"{self.name} version {self.version}, {self.stage}, {held}"


class NotRegistered(_Record):
    """build/register/version.json of a trial."""

    digest: str
    reason: str

    def __str__(self) -> str:
        """As people read it."""
        return f"not registered: {self.reason}"


class Registration(RootModel[RegisteredVersion | NotRegistered]):
    """Either of both."""
