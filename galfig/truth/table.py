"""Table: a score as plain text."""

from typing import TYPE_CHECKING

from galfig.auditing.estimates import Estimate
from galfig.runtime.messages import wrap_item

if TYPE_CHECKING:
    from galfig.truth.main import Score


def write_table(score: "Score") -> str:
    """Return a score as plain text, which ends in its verdict.

    Parameters
    ----------
    score : Score
        The score.

    Returns
    -------
    str
        Lines.
    """
    lines = [
        f"cue {score.cue}, seed {score.seed}, digest {score.digest[:12]} is intact",
        f"{score.n_scored} of {score.n_galaxies} galaxies scored, of {score.n_maps} maps",
    ]
    chosen = {"": "", "true": "the map of the true class; "}.get(score.of, f"map: {score.of}; ")
    lines.append(f"{chosen}{score.part} values; 95 % intervals over galaxies")
    lines += [f"left out: {n} {reason}" for reason, n in score.left_out.items()]
    if score.n_empty:
        lines.append(f"{score.n_empty} maps without a positive value count as constant maps")
    lines += ["", f"{'':16}" + "".join(f"{name:>21}" for name in score.scores)]
    lines.append(f"{'maps':16}" + "".join(f"{_write(one):>21}" for one in score.scores.values()))
    for baseline, excess in score.excess.items():
        cells = (f"{_write(one, '+'):>21}" for one in excess.values())
        lines.append(f"{f'minus {baseline}':16}" + "".join(cells))
    lines.append("")
    for name, found in score.shares.items():
        lines.append(
            f"on {name}: {100 * found.value:.1f} % of the absolute attribution "
            f"[{100 * found.low:.1f}, {100 * found.high:.1f}], {100 * score.areas[name]:.1f} % of "
            "the area"
        )
    return "\n".join([*lines, "", "Verdict", *map(wrap_item, score.verdict)])


def _write(found: Estimate, sign: str = "") -> str:
    return f"{found.value:{sign}.2f} [{found.low:{sign}.2f}, {found.high:{sign}.2f}]"
