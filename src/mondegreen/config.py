"""The tree of params.yaml as strict, frozen models: an unknown or misspelt knob is an error, not a silence."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mondegreen.errors import UsageError, first_fault
from mondegreen.files import path_text
from mondegreen.yaml_text import read_yaml

Seconds = float
Wait = Annotated[Seconds, Field(le=86_400)]  # threads and sockets take no more than some centuries
DaysKept = Annotated[float, Field(gt=0, le=36_525)]  # before now: a date has a year from 1 on
Fraction = Annotated[float, Field(ge=0, le=1)]
Channel = Literal["mix", "first", "second", "split"]
Runtime = Literal["auto", "torch", "onnx"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class AudioParams(_Section):
    max_duration: Seconds = Field(30.0, gt=0.025)
    min_words: int = Field(1, ge=0)
    channel: Channel = "mix"
    max_missing_share: Fraction = 0.1


class ModelParams(_Section):
    base: str = "starter/model"


class PrepareParams(_Section):
    dev_fraction: Fraction = 0.15
    test_fraction: Fraction = 0.45
    retention_dev_fraction: float = Field(0.5, gt=0, lt=1)
    shared_texts: Literal["hold_out", "allow"] = "hold_out"
    limit: int = Field(0, ge=0)


class TranscribeParams(_Section):
    batch_seconds: Seconds = Field(15.0, gt=0)
    beam_width: int = Field(16, ge=1)
    nbest: int = Field(5, ge=1)
    phrases: str | None = Field(None, min_length=1)
    lm: str | None = Field(None, min_length=1)
    runtime: Runtime = "auto"


GuardName = Literal["confident", "edits", "vocabulary", "sound", "acoustic", "agreement"]
GUARDS: tuple[GuardName, ...] = ("confident", "edits", "vocabulary", "sound", "acoustic", "agreement")


class LabelParams(_Section):
    # YAML 1.1 reads a bare `off` as false.
    llm: Annotated[Literal["off", "ollama"], BeforeValidator(lambda v: "off" if v is False else v)] = "off"
    model: str = Field("llama3.2:3b", min_length=1)
    url: str | None = Field(None, min_length=1)
    timeout: Wait = Field(120.0, gt=0)
    retries: int = Field(3, ge=0)
    concurrency: int = Field(2, ge=1, le=64)
    fast_mode: bool = False
    few_shot: int = Field(10, ge=0)
    domain_words: tuple[str, ...] = ()
    doubtful_below: Fraction = 0.75
    guards: tuple[GuardName, ...] = GUARDS
    keep_word: Fraction = 0.995
    keep_text: Fraction = 0.95
    max_word_edits: Fraction = 0.75
    max_character_edits: Fraction = 0.3
    max_length_ratio: float = Field(1.5, ge=1)
    max_sound_distance: Fraction = 0.5
    acoustic_margin: float | None = Field(None, ge=0)
    acoustic_keep: Fraction = 0.75
    also_ask: tuple[str, ...] = ()
    samples: int = Field(0, ge=0, le=20)
    sample_temperature: float = Field(0.7, gt=0, le=2)
    min_agreement: Fraction = 1.0
    on_unavailable: Literal["skip", "fail", "use_hypothesis"] = "skip"
    audit_cases: int = Field(100, ge=0)
    max_label_wer: float | None = Field(0.3, ge=0)


class SelectParams(_Section):
    replay_ratio: float = Field(1.0, ge=0)


class TrainParams(_Section):
    method: Literal["lora", "full"] = "lora"
    epochs: int = Field(12, ge=1)
    batch_seconds: Seconds = Field(30.0, gt=0)
    learning_rate: float | None = Field(None, gt=0)
    warmup_ratio: Fraction = 0.1
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    patience: int = Field(4, ge=1)
    dev_cases: Fraction = 0.0
    lora_rank: int = Field(8, ge=1)
    lora_alpha: int = Field(16, ge=1)
    lora_dropout: Fraction = 0.05
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    lora_layers: str = Field("all", pattern=r"^(all|top:[1-9]\d{0,3})$")
    precision: Literal["float32", "auto", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    train_encoder: bool = False
    augment: bool = False
    mask_time_prob: Fraction = 0.05
    merge_weights: tuple[Fraction, ...] = Field((0.25, 0.5, 0.75, 1.0), min_length=1)
    forgetting_budget: Fraction = 0.02

    @property
    def resolved_learning_rate(self) -> float:
        """The given rate, or the method's usual one: LoRA starts from zero and takes larger steps."""
        return self.learning_rate or (3e-4 if self.method == "lora" else 3e-5)

    @property
    def adapted_layers(self) -> int | None:
        """The number of `top:N`; None for all layers."""
        return None if self.lora_layers == "all" else int(self.lora_layers.removeprefix("top:"))


class ScoreParams(_Section):
    normalizer: Literal["spoken", "english"] = "spoken"


class ValidateParams(_Section):
    on: Literal["test", "dev"] = "test"
    alpha: float = Field(0.05, gt=0, lt=1)
    min_wer_improvement: Fraction = 0.0
    min_speakers: int = Field(10, ge=2)
    min_clusters: int = Field(12, ge=2)
    min_words: int = Field(200, ge=1)
    bootstrap_samples: int = Field(10_000, ge=1_000)
    permutations: int = Field(100_000, ge=1_000)
    retention_margin: Fraction = 0.02
    require_significance: bool = True
    require_retention: bool | None = None
    degradation_bound: float = Field(0.2, ge=0)
    max_wer_degradation_rate: Fraction = 0.2
    major_degradation: float = Field(0.5, gt=0)
    require_no_major_degradation: bool = False
    max_looks: int = Field(12, ge=1)
    allow_llm_references: bool = False
    report_clips: int = Field(20, ge=0)
    terms: str | None = Field(None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _on_is_a_name(cls, section: Any) -> Any:
        """YAML 1.1 reads a bare key `on` as true; DVC, which reads YAML 1.2, does not."""
        return (
            {"on" if key is True else key: value for key, value in section.items()}
            if isinstance(section, dict)
            else section
        )


class RegressParams(_Section):
    suites: Path = Path("data/regression/suites.yaml")
    required: bool = False
    margin: Fraction = 0.02
    fail_on_critical_degradation: bool = True
    critical_degradation_threshold: Fraction = 0.1


class RegisterParams(_Section):
    model_name: str = Field("fine-tuned-stt", min_length=1)
    auto_promote: bool = False


class DeployParams(_Section):
    keep_previous_versions: int = Field(5, ge=0)
    auto_backup_before_deploy: bool = True
    backup_to_bucket: bool = False
    auto_rollback: bool = False
    guard_alpha: float = Field(0.05, gt=0, lt=0.5)
    guard_error_margin: Fraction = 0.02
    guard_latency_margin: float = Field(0.25, ge=0)
    guard_disagreement: Fraction = 0.5


class CasesParams(_Section):
    min_cases: int = Field(1, ge=1)
    min_completeness: Fraction = 0.95
    min_validity: Fraction = 0.9
    min_uniqueness: Fraction = 0.8


class DetectorParams(_Section):
    threshold: Fraction = 0.5
    error_wer: Fraction = 0.0
    lexicon: Path | None = None


class ReviewParams(_Section):
    double_fraction: Fraction = 0.1
    lease_minutes: float = Field(10.0, gt=0, le=1440)
    doubtful_below: Fraction = 0.6
    max_characters: int = Field(2000, ge=1, le=10_000)


class TriggerParams(_Section):
    min_error_cases: int = Field(100, ge=1)
    min_corrected_cases: int = Field(50, ge=1)
    trigger_on_error_rate: bool = True
    error_rate_threshold: Fraction = 0.15
    window_hours: float = Field(24.0, gt=0, le=87_660)
    min_inferences: int = Field(100, ge=1)
    auto_approve_finetuning: bool = False
    adaptive: bool = False
    adaptive_small_gain: Fraction = 0.01
    adaptive_large_gain: Fraction = 0.05
    adaptive_factor: float = Field(1.5, gt=1)
    adaptive_bounds: tuple[int, int] = (25, 1000)
    branch: bool = False

    @model_validator(mode="after")
    def _adaptive_in_order(self) -> Self:
        if self.adaptive:
            low, high = self.adaptive_bounds
            if not 1 <= low <= self.min_error_cases <= high:
                raise ValueError("adaptive_bounds must enclose min_error_cases, and start at 1 or more")
            if self.adaptive_small_gain > self.adaptive_large_gain:
                raise ValueError("adaptive_small_gain must not be over adaptive_large_gain")
        return self


class RoundParams(_Section):
    holdout_fraction: float = Field(0.0, ge=0, lt=1)


class MonitorParams(_Section):
    max_error_rate: Fraction = 0.3
    max_latency_p95: Seconds = Field(10.0, gt=0)
    min_confidence: Fraction = 0.0
    max_drift: float = Field(0.25, gt=0)
    drift_alpha: float = Field(0.01, gt=0, lt=1)
    max_error_rise: Fraction = 0.1
    min_inferences: int = Field(100, ge=1)
    webhook: str | None = Field(None, pattern="^https?://")
    webhook_timeout: Wait = Field(10.0, gt=0)
    cooldown_hours: float = Field(6.0, ge=0, le=8760)


class AuditParams(_Section):
    rate: Fraction = 0.02
    bounds: tuple[float, ...] = (0.2, 0.5, 0.8)
    factors: tuple[Annotated[float, Field(gt=0)], ...] = (1.0, 1.5, 2.0, 3.0)
    window_days: float = Field(7.0, gt=0, le=3650)
    weeks: int = Field(12, ge=1, le=520)
    min_audited: int = Field(30, ge=10)
    min_clusters: int = Field(10, ge=5)
    max_wer: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _strata(self) -> Self:
        if list(self.bounds) != sorted(set(self.bounds)) or not all(0 < bound < 1 for bound in self.bounds):
            raise ValueError("bounds must rise from one to the next, between 0 and 1")
        if len(self.factors) != len(self.bounds) + 1:
            raise ValueError("factors must be one more than bounds: one for each stratum of the error score")
        return self


class ServeParams(_Section):
    language: str = Field("en", min_length=2)
    max_waiting: int = Field(64, ge=1)
    batch_wait_ms: float = Field(5.0, ge=0, le=1000)
    timeout: Wait = Field(300.0, gt=0)
    max_megabytes: float = Field(200.0, gt=0)
    max_seconds: Seconds = Field(14_400.0, gt=0)
    poll_seconds: Wait = Field(5.0, gt=0)
    switch_seconds: Wait = Field(30.0, ge=0)
    spool_megabytes: float = Field(2000.0, gt=0)
    phrases: str | None = Field(None, min_length=1)
    max_phrases: int = Field(100, ge=0)
    lm: str | None = Field(None, min_length=1)
    canary_share: Fraction = 0.05
    shadow_share: Fraction = 0.2

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.canary_share + self.shadow_share > 1:
            raise ValueError("canary_share and shadow_share are more than 1 together")
        return self


class RetentionDays(_Section):
    audio: DaysKept | None = None
    texts: DaysKept | None = None
    inferences: DaysKept | None = None


class ComputeParams(_Section):
    engine: Literal["local", "ray"] = "local"
    workers: int | None = Field(None, ge=1)
    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _whole_gpus(self) -> Self:
        if self.gpus > 1 and not self.gpus.is_integer():
            raise ValueError("gpus must be a part of one, or whole ones: Ray shares no more than one out")
        return self


class GcpParams(_Section):
    project_id: str | None = None
    bucket: str | None = None
    prefix: str = "mondegreen"
    zone: str = "us-central1-a"
    machine_type: str = "c3-standard-22"
    accelerator: str | None = None
    accelerator_count: int = Field(1, ge=1)
    image: str = "projects/debian-cloud/global/images/family/debian-12"
    disk_gb: int = Field(100, ge=20)
    service_account: str = "default"
    spot: bool = False
    max_hours: float = Field(12.0, gt=0)


class Params(_Section):
    """Every knob. The section of a stage has the stage's name."""

    seed: int = Field(1234, ge=0, lt=2**32)  # as numpy takes them
    audio: AudioParams = AudioParams()
    model: ModelParams = ModelParams()
    prepare: PrepareParams = PrepareParams()
    transcribe: TranscribeParams = TranscribeParams()
    label: LabelParams = LabelParams()
    select: SelectParams = SelectParams()
    train: TrainParams = TrainParams()
    score: ScoreParams = ScoreParams()
    validate_: ValidateParams = Field(ValidateParams(), alias="validate")
    regress: RegressParams = RegressParams()
    register_: RegisterParams = Field(RegisterParams(), alias="register")
    deploy: DeployParams = DeployParams()
    cases: CasesParams = CasesParams()
    detector: DetectorParams = DetectorParams()
    review: ReviewParams = ReviewParams()
    trigger: TriggerParams = TriggerParams()
    round_: RoundParams = Field(RoundParams(), alias="round")
    monitor: MonitorParams = MonitorParams()
    audit: AuditParams = AuditParams()
    serve: ServeParams = ServeParams()
    retention_days: RetentionDays = RetentionDays()
    compute: ComputeParams = ComputeParams()
    gcp: GcpParams = GcpParams()


# What params.yaml of a new project says otherwise than the defaults. By these a project without the knob goes on as
# before: what it judges by is not split anew.
CHOSEN = {("prepare", "retention_dev_fraction"): 0.34, ("round", "holdout_fraction"): 0.2}


def older_choices(params: Params) -> list[str]:
    """A sentence for each knob that params.yaml lacks and that a new project has with another value."""
    given = params.model_dump(by_alias=True, exclude_unset=True)
    whole = params.model_dump(by_alias=True)
    return [
        f"params.yaml has no {section}.{knob}: {whole[section][knob]:g} counts, a new project has {value:g}."
        for (section, knob), value in CHOSEN.items()
        if knob not in given.get(section, {})
    ]


class GuideConfig(_Section):
    """A section of params.yaml under the name that the fine-tuning guide gives it: the same knobs, defaults, checks."""

    section: ClassVar[str]  # the field of Params

    @classmethod
    def from_params(cls, params: Params) -> Self:
        """The section as params.yaml has it."""
        return cls(**getattr(params, cls.section).model_dump())

    def to_dict(self) -> dict[str, Any]:
        """The knobs as plain data."""
        return self.model_dump(mode="json")


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Reads and checks params.yaml; raises UsageError naming the field."""
    text = path_text(path, "Run from the project root (where dvc.yaml is).")
    tree, _ = read_yaml(text, str(path))
    try:
        return Params.model_validate(tree or {})
    except ValidationError as error:
        fault = first_fault(error, Params)
        raise UsageError(
            f"{path}: {fault.field}: {fault.message}.", "Correct it; params.yaml in git shows every knob."
        ) from None


def params_of(project: Path = Path()) -> Params:
    """The project's params.yaml, or the defaults where there is none."""
    path = project / "params.yaml"
    return load_params(path) if path.is_file() else Params()
