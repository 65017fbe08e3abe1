"""Table: a score as plain text."""

from typing import TYPE_CHECKING

from galfig.auditing.estimates import Estimate

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
        f"cue {score.cue}, seed {score.seed}: {score.n_scored} of {score.n_galaxies} galaxies "
        f"scored, of {score.n_maps} maps; digest {score.digest[:12]} is intact",
    ]
    chosen = {"": "", "true": "the map of the true class; "}.get(score.of, f"map: {score.of}; ")
    lines.append(f"{chosen}{score.part} values; 95 % intervals over galaxies")
    lines += [f"left out: {n} {reason}" for reason, n in score.left_out.items()]
    if score.n_empty:
        lines.append(f"{score.n_empty} maps without a positive value count as constant maps")
    heads = ("maps", *(f"minus {baseline}" for baseline in score.excess))
    lines += ["", f"{'':14}" + "".join(f"{head:>22}" for head in heads)]
    for name, own in score.scores.items():
        cells = [_write(own), *(_write(one[name], "+") for one in score.excess.values())]
        lines.append(f"{name:14}" + "".join(f"{cell:>22}" for cell in cells))
    lines.append("")
    for name, found in score.shares.items():
        lines.append(
            f"on {name}: {100 * found.value:.1f} % of the absolute attribution "
            f"[{100 * found.low:.1f}, {100 * found.high:.1f}], {100 * score.areas[name]:.1f} % of "
            "the area"
        )
    return "\n".join([*lines, "", *score.verdict])


def _write(found: Estimate, sign: str = "") -> str:
    return f"{found.value:{sign}.2f} [{found.low:{sign}.2f}, {found.high:{sign}.2f}]"
