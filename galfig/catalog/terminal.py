"""Terminal: what galfig understands of a catalog, as text of 80 columns."""

import itertools
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from galfig.catalog.findings import (
    CatalogCheck,
    ClassFacts,
    ColumnFacts,
    Histogram,
    ImageFacts,
    LeftOut,
)
from galfig.runtime.messages import WIDTH, list_some, make_printable, offer

# Rows of a list, characters of a name in one, and of its cells; and sizes of images.
MAX_ROWS, MAX_NAME, MAX_CELLS, MAX_SIZES = 30, 24, 30, 5
# Columns of the longest bar, and the blocks that fill a column by eighths.
BAR = 30
_EIGHTHS = " ▏▎▍▌▋▊▉█"
# The same without Unicode.
_ASCII = {ord(one): "." for one in "▏▎▍▌"} | {ord(one): "#" for one in "▋▊▉█"}
_ASCII |= {ord("×"): "x", ord("…"): "~"}
_INDENT = "  "


def write_check(check: CatalogCheck) -> str:
    """Write what is understood of a catalog, for a terminal.

    Parameters
    ----------
    check : CatalogCheck
        From `galfig.catalog.check.check_catalog`.

    Returns
    -------
    str
        Lines of at most 80 columns, unless a name or a message is longer. What a terminal must not
        be sent is escaped. The last line is that of `write_verdict`.
    """
    sections = [
        _write_files(check),
        _write_columns(check),
        _write_classes(check),
        [] if check.histogram is None else _write_histogram(check, check.histogram),
        _write_galaxies(check),
        [] if check.images is None else _write_images(check.images),
        _write_left_out(check.left_out),
        _write_doubts(check.doubts),
        [write_verdict(check)],
    ]
    lines = [line for section in sections if section for line in (*section, "")]
    return "\n".join(make_printable(line) for line in lines[:-1])


def write_verdict(check: CatalogCheck) -> str:
    """Write in one line what would become of the catalog."""
    if check.refusal:
        return make_printable(f"build-maps would refuse this: {check.refusal}")
    n_classes = sum(one.is_kept for one in check.classes)
    of = f" of {_count(n_classes, 'class', 'classes')}" if n_classes else ""
    galaxies = f"{_count(check.n_explained, 'galaxy', 'galaxies')}{of} would be explained"
    how = f" ({_describe_split(check)})" if check.n_train or check.split != "all" else ""
    verb = "is" if check.n_left_out == 1 else "are"
    return f"{galaxies}{how}; {check.n_left_out} {verb} left out"


def _describe_split(check: CatalogCheck) -> str:
    names = {"valid": "the validation set", "train": "the training set", "test": "the test set"}
    which = names.get(check.split, "all")
    trained = f", after a training with {check.n_train}" if check.n_train else ""
    return f"{which}{trained}"


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _write_files(check: CatalogCheck) -> list[str]:
    size = f"{_count(check.n_rows, 'row', 'rows')}, "
    size += _count(len(check.columns), "column", "columns")
    lines = [f"{check.path}: {check.format}, {size if check.columns else 'nothing could be read'}"]
    if len(check.files) > 1:
        lines += [f"{_INDENT}{name}: {n} rows" for name, n in check.files.items()]
    return lines


def _write_columns(check: CatalogCheck) -> list[str]:
    """List the columns: those that mean something first."""
    known = [one for one in check.columns if one.roles]
    others = [one for one in check.columns if not one.roles]
    shown = [*known, *others[: max(0, MAX_ROWS - len(known))]]
    rows = [
        (_cut(one.name), one.kind, _cut(_describe_cells(one), MAX_CELLS), _describe_role(one))
        for one in shown
    ]
    lines = [f"{_INDENT}{line}" for line in _align(rows)]
    if hidden := len(check.columns) - len(shown):
        lines.append(f"{_INDENT}and {hidden} more, kept in the store")
    for one in check.absent:
        need = "needed" if one.is_needed else "not needed"
        words = (f"no column {one.name!r} ({one.setting}, {need})", offer(one.near))
        lines += _wrap("; ".join(filter(None, words)))
    return ["columns", *lines] if lines else []


def _describe_role(column: ColumnFacts) -> str:
    return ", ".join(column.roles) or "kept in the store"


def _describe_cells(column: ColumnFacts) -> str:
    """Say in a few words what the cells of a column are."""
    if column.low is not None and column.high is not None:
        ends = map(_write_number, (column.low, column.high))
        words = " to ".join(dict.fromkeys(ends))
        words += f" {column.unit}" if column.unit else ""
    else:
        words = ", ".join(column.first)
        is_all = column.n_distinct is not None and column.n_distinct <= len(column.first)
        if column.n_distinct and not (is_all and len(words) < MAX_CELLS):
            words = f"{column.n_distinct} different"
    empty = f"{column.n_empty} empty" if column.n_empty else ""
    return ", ".join(part for part in (words, empty) if part)


def _write_number(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.5g}"


def _write_classes(check: CatalogCheck) -> list[str]:
    """List the classes with their galaxies; of text, with bars."""
    if not check.classes:
        return []
    kept = [one for one in check.classes if one.is_kept]
    others = sorted((one for one in check.classes if not one.is_kept), key=lambda one: -one.n_rows)
    shown = [*kept, *others][:MAX_ROWS]
    # In the order of the settings.
    names = {one.name for one in shown}
    shown = [one for one in check.classes if one.name in names]
    is_binned = any(one.low is not None for one in shown)
    splits = [
        (word, [getattr(one, f"n_{word}") for one in shown]) for word in ("train", "valid", "test")
    ]
    each = _choose_scale(max(one.n_rows for one in shown), 24)
    columns = [(word, numbers) for word, numbers in splits if any(numbers)]
    used = [one.n_used for one in shown]
    if any(n is not None for n in used):
        columns.insert(0, ("used", used))
    head = ["class", *(["bin (a, b]"] if is_binned else []), "rows"]
    head += [word for word, _ in columns]
    rows = [[*head, ""]]
    for index, one in enumerate(shown):
        bin_ = [_write_bin(one)] if is_binned else []
        cells = [str(numbers[index]) if one.is_kept else "-" for _, numbers in columns]
        last = "" if one.is_kept else "not kept"
        if not is_binned:
            last = f"{_draw_bar(one.n_rows, each)} {last}".strip()
        rows.append([_cut(one.name), *bin_, str(one.n_rows), *cells, last])
    right = range(1 + is_binned, len(head))
    lines = [f"{_INDENT}{line}" for line in _align(rows, right)]
    if hidden := check.classes[len(shown) :]:
        n = sum(one.n_rows for one in check.classes) - sum(one.n_rows for one in shown)
        lines.append(f"{_INDENT}and {len(hidden)} more classes with {n} rows")
    title = f"classes of {check.class_column}"
    if not is_binned:
        title += f": {_describe_scale(each)}"
    return [title, *lines]


def _write_bin(one: ClassFacts) -> str:
    return "" if one.low is None or one.high is None else f"{one.low:g} to {one.high:g}"


def _write_histogram(check: CatalogCheck, histogram: Histogram) -> list[str]:
    """Draw the numbers that are binned: a bar for each step, and a name where a class begins."""
    unit = next((one.unit for one in check.columns if one.name == check.class_column), "")
    each = _choose_scale(max(histogram.counts), BAR)
    kept = {one.name for one in check.classes if one.is_kept}
    widths = {round(b - a, 9) for a, b in zip(histogram.edges, histogram.edges[1:], strict=False)}
    ends = [_write_edge(edge) for edge in histogram.edges]
    rows = []
    if histogram.n_below:
        least = f"down to {histogram.least:.5g}"
        rows.append([f"up to {ends[0]}", str(histogram.n_below), f"outside, {least}"])
    before = ""
    for index, (n, name) in enumerate(zip(histogram.counts, histogram.classes, strict=True)):
        bar = _draw_bar(n, each)
        note = "" if name in kept else ", not kept"
        label = f"{bar:{BAR}} {_cut(name, 12)}{note}" if name != before else bar
        rows.append([f"{ends[index]} to {ends[index + 1]}", str(n), label])
        before = name
    if histogram.n_above:
        largest = f"up to {histogram.largest:.5g}"
        rows.append([f"above {ends[-1]}", str(histogram.n_above), f"outside, {largest}"])
    title = f"{check.class_column}{f' [{unit}]' if unit else ''}"
    notes = [_describe_scale(each)]
    if len(widths) > 1:
        notes.append("bars are bins of different widths")
    lines = _align(rows, (0, 1))
    return [*_wrap(f"{title}: {'; '.join(notes)}", ""), *(f"{_INDENT}{line}" for line in lines)]


def _write_edge(edge: float) -> str:
    return f"{round(edge, 6):g}"


def _choose_scale(most: int, width: int) -> int:
    """Return how many rows a column of a bar stands for: 1, 2, 5, 10, 20 and so on."""
    each, factors = 1, itertools.cycle((2, 2.5, 2))
    while each * width < most:
        each = int(each * next(factors))
    return each


def _draw_bar(n: int, each: int) -> str:
    """Draw a bar from zero, in eighths of a column; what is there is never invisible."""
    eighths = max(int(n > 0), round(8 * n / each))
    full, rest = divmod(eighths, 8)
    return f"{_EIGHTHS[8] * full}{_EIGHTHS[rest] if rest else ''}"


def _describe_scale(each: int) -> str:
    """Say how many rows a column of a bar is; all bars begin at zero."""
    return f"each █ is {_count(each, 'row', 'rows')}"


def make_ascii(words: str) -> str:
    """Return a report with signs of ASCII in place of blocks, for a terminal without them."""
    return words.translate(_ASCII)


def _write_galaxies(check: CatalogCheck) -> list[str]:
    """Say what is known of identifiers, redshifts and positions."""
    if not check.n_rows:
        return []
    lines = []
    if check.n_distinct:
        unusable = f", {check.n_unusable} rows unusable or doubled" if check.n_unusable else ""
        lines.append(f"identifiers: {check.n_distinct} different{unusable}")
    if (found := check.redshift) is not None:
        runs = "" if found.low is None else f", {found.low:.4g} to {found.high:.4g}"
        lines.append(f"redshift: {found.n_known} known{runs}; {found.n_unknown} unknown")
    if check.positions is not None:
        how = "in doubt, see below" if check.positions.doubt else "degrees"
        lines.append(f"positions: {check.positions.ra}, {check.positions.dec} ({how})")
    if check.n_other_classes:
        rows = _count(check.n_other_classes, "row", "rows")
        lines.append(f"of classes that are not kept: {rows}")
    return ["galaxies", *(line for words in lines for line in _wrap(words))] if lines else []


def _write_images(images: ImageFacts) -> list[str]:
    where = " + ".join(images.templates) or "elements of an array"
    lines = [
        f"{where} in {images.folder}",
        f"found: {images.n_found} of {images.n_wanted}",
    ]
    if images.absent:
        lines.append(f"absent: {images.n_wanted - images.n_found}, first: {images.absent[0]}")
    if images.n_shared:
        lines.append(f"shared: {images.n_shared} are the same file as that of an earlier row")
    if images.sizes:
        headers = _count(images.n_measured, "header", "headers")
        lines.append(f"pixels, by {headers}: {_describe_sizes(images.sizes)}")
    if images.n_unmeasured:
        lines.append(f"headers that cannot be read: {images.n_unmeasured}")
    if images.n_decoded:
        lines.append(
            f"decoded: {images.n_decoded} as {_count(images.n_channels, 'channel', 'channels')}, "
            f"{images.n_damaged} of them cannot be used"
        )
    elif images.n_found:
        lines.append('none was decoded; `decode="all"` finds the damaged ones')
    if images.pixel_scale:
        lines.append(f"pixel scale: {images.pixel_scale}")
    if images.origin:
        lines.append(f"fetched: {images.origin}")
    return ["images", *(line for words in lines for line in _wrap(words))]


def _describe_sizes(sizes: Mapping[str, int]) -> str:
    """Say which sizes images have; of many, the least and the largest sides."""
    if len(sizes) <= MAX_SIZES:
        return ", ".join(f"{size} ({n})" for size, n in sizes.items())
    sides = [sorted(int(size.split(" × ")[axis]) for size in sizes) for axis in (0, 1)]
    width, height = (f"{found[0]} to {found[-1]}" for found in sides)
    return f"{width} wide, {height} high, in {len(sizes)} sizes"


def _write_left_out(reasons: Sequence[LeftOut]) -> list[str]:
    """List what is left out, by kind of reason."""
    if not reasons:
        return []
    width = len(str(max(one.n for one in reasons)))
    lines: list[str] = []
    for one in reasons[:MAX_ROWS]:
        lines += _wrap(f"{one.n:{width}} {one.reason}", subsequent=" " * (width + 3))
        objid, reason = next(iter(one.examples.items()))
        example = objid if reason == one.reason else f"{objid} ({reason})"
        words = f"such as {list_some([example, *list(one.examples)[1:]])}"
        lines += _wrap(words, " " * (width + 3))
    if len(reasons) > MAX_ROWS:
        lines.append(f"{_INDENT}and {len(reasons) - MAX_ROWS} more reasons")
    return ["left out", *lines]


def _write_doubts(doubts: Sequence[str]) -> list[str]:
    lines = [line for words in doubts for line in _wrap(f"? {words}", subsequent=f"{_INDENT}  ")]
    return ["in doubt", *lines] if lines else []


def _wrap(words: str, indent: str = _INDENT, subsequent: str | None = None) -> list[str]:
    """Break words into lines; a long name or path stays whole."""
    return textwrap.wrap(
        # Before lines are broken: an escape is wider than what it stands for.
        make_printable(words),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}{_INDENT}" if subsequent is None else subsequent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _cut(words: str, n: int = MAX_NAME) -> str:
    words = make_printable(words)
    return words if len(words) <= n else f"{words[: n - 1]}…"


def _align(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Put the cells of rows below each other, some columns of them at the right."""
    right = set(right)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            f"{cell:>{width}}" if index in right else f"{cell:{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
