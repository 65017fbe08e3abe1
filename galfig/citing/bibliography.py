"""Bibliography: the entries of BibTeX that galfig knows, and the words that surveys ask for.

Both are files of the package, ``references.bib`` and ``acknowledgements.toml``.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from galfig.runtime.documents import load_toml

_ENTRY = re.compile(r"@(\w+)\{(\w+),\n(.*?)\n\}\n", re.DOTALL)
_FIELD = re.compile(r"^  (\w+) = \{(.*)\},?$", re.MULTILINE)
# Between authors, and not within the braces around the name of a group.
_AND = re.compile(r" and (?![^{]*\})")
# Letters that commands of LaTeX write, with an accent or without.
_ACCENTED = re.compile(r"\{\\[^\w\s]?([A-Za-z])\}|\{\\\w ([A-Za-z])\}")


class Entry(NamedTuple):
    """An entry of the bibliography.

    Attributes
    ----------
    key : str
        By which LaTeX cites it.
    kind : str
        Such as "article".
    fields : dict of str to str
        Fields by name, in the order of the entry, with the markup of LaTeX.
    bibtex : str
        The entry as it is written, which ends with a line break.
    """

    key: str
    kind: str
    fields: Mapping[str, str]
    bibtex: str

    @property
    def label(self) -> str:
        """Authors and year, such as "Selvaraju et al. 2017"."""
        names = [_find_surname(name) for name in _AND.split(self.fields["author"])]
        if names[-1] == "others" or len(names) > 2:
            authors = f"{names[0]} et al."
        else:
            authors = " & ".join(names)
        return f"{authors} {self.fields['year']}"

    @property
    def title(self) -> str:
        """The title without markup."""
        return _strip(self.fields["title"])

    @property
    def place(self) -> str:
        """Where it appeared, such as "The Astronomical Journal 157, 168"; "" if that is unsaid."""
        fields = self.fields
        place = fields.get("journal") or fields.get("booktitle") or fields.get("howpublished", "")
        if "volume" in fields:
            place += f" {fields['volume']}"
        return _strip(", ".join(filter(None, (place, fields.get("pages")))))

    @property
    def address(self) -> str:
        """Where to find it: its DOI, or else arXiv; "" if neither is known."""
        if "doi" in self.fields:
            return f"https://doi.org/{self.fields['doi']}"
        return f"https://arxiv.org/abs/{self.fields['eprint']}" if "eprint" in self.fields else ""


class Words(NamedTuple):
    """An acknowledgement, in the words of those who ask for it.

    Attributes
    ----------
    name : str
        Whom it is of.
    text : str
        Paragraphs, one per line.
    """

    name: str
    text: str


@cache
def load_bibliography() -> Mapping[str, Entry]:
    """Load all entries, by key."""
    text = (files("galfig.citing") / "references.bib").read_text(encoding="utf-8")
    found = {}
    for match in _ENTRY.finditer(text):
        kind, key, body = match.groups()
        found[key] = Entry(key, kind, dict(_FIELD.findall(body)), match[0])
    return found


@cache
def load_acknowledgements() -> Mapping[str, Words]:
    """Load all acknowledgements, by name."""
    text = (files("galfig.citing") / "acknowledgements.toml").read_text(encoding="utf-8")
    return {
        key: Words(table["name"], _join_lines(table["text"]))
        for key, table in load_toml(text).items()
    }


def _join_lines(text: str) -> str:
    """Write each paragraph in one line."""
    return "\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))


def _find_surname(name: str) -> str:
    return _strip(name if name.startswith("{{") or "," not in name else name.split(",")[0])


def _strip(text: str) -> str:
    """Return LaTeX as plain text, in which letters lose their accents."""
    text = _ACCENTED.sub(lambda match: match[1] or match[2], text)
    text = re.sub(r"[{}$]", "", text).replace("--", "–").replace("``", "“").replace("''", "”")
    return text.replace(r"\&", "&").replace("^5", "⁵")
