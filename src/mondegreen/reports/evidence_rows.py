"""Every test of the difference, a row each, with the unit it was made over. Only the first one decides."""

from dataclasses import dataclass

from mondegreen.reports.judgement import Judgement
from mondegreen.reports.numbers import points, probability


@dataclass(frozen=True)
class EvidenceRow:
    """`result` holds the statistic in words; `p_value` is one-sided, "–" where a test has none."""

    name: str
    p_value: str
    result: str
    over: str  # what was taken as independent


def evidence_rows(verdict: Judgement) -> list[EvidenceRow]:
    """What the verdict holds, the deciding test first."""
    over = f"{verdict.clusters} {verdict.unit}s, {verdict.words:,} words"
    rows = [
        EvidenceRow(
            "sign-flip permutation (decides)",
            probability(verdict.p_value),
            f"allowed {verdict.spendable:.3g}" + (f" for look {verdict.look.number}" if verdict.look else ""),
            over,
        )
    ]
    if found := verdict.cluster_t:
        rows.append(
            EvidenceRow("cluster-robust t", probability(found.p_value), _known("t =", found.t, "nothing varies"), over)
        )
    if ranks := verdict.wilcoxon:
        correlation = _known("rank-biserial correlation", ranks.rank_biserial, "none differs")
        rows.append(
            EvidenceRow(
                "Wilcoxon signed rank", probability(ranks.p_value), correlation,
                f"the {ranks.pairs} {verdict.unit}s that differ",
            )
        )  # fmt: skip
    if segments := verdict.mapsswe:
        rows.append(
            EvidenceRow(
                "MAPSSWE", probability(segments.p_value), _known("z =", segments.z, "nothing varies"),
                f"{segments.segments:,} segments, as if independent",
            )
        )  # fmt: skip
    if effect := verdict.effect_size:
        shared = f"{effect.better} {verdict.unit}s better, {effect.worse} worse, {effect.equal} equal"
        rows.append(
            EvidenceRow("effect size", "–", f"{_known('Hedges’ g', effect.hedges_g, 'no variance')}; {shared}", over)
        )
    rows.append(
        EvidenceRow(
            "smallest effect that it shows", "–",
            f"{points(verdict.minimum_detectable_effect).lstrip('+')} with 80 % power", over,
        )
    )  # fmt: skip
    return rows


def _known(label: str, value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{label} {value:.2f}"
