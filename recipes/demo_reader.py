"""What a page says of a company's funding rounds, read by rules: the scripted reader of the talk's demo.

It stands in for the model that reads hidden pages in quarantine (kernel/calls/extract.py): it is given a
question, texts and a type, and answers with JSON of that type. It knows how people write dates and money,
and what a table is; it knows no company, no page and no figure. Whatever else a page says is nothing to
it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import box_lessons

MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()  # noqa: SIM905
ROUND = re.compile(r"\b(?:Seed|Series [A-Z])\b")
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_SCALE = {"thousand": 1e-3, "k": 1e-3, "million": 1, "m": 1, "mn": 1, "billion": 1e3, "bn": 1e3, "b": 1e3}
_MONEY = re.compile(
    rf"(?:US\$|USD|\$|€|£)\s?({_NUMBER})\s?(thousand|million|billion|bn|mn|[kmb])?\b"
    rf"|({_NUMBER})\s?(thousand|million|billion)\s(?:US\s)?(?:dollars|euros|pounds)",
    re.IGNORECASE,
)
_MONTH = rf"({'|'.join(MONTHS)})[a-z]*\.?"
_DATES = (
    re.compile(r"\b(?P<y>\d{4})-(?P<m>\d\d)(?:-(?P<d>\d\d))?\b"),
    re.compile(rf"\b(?:(?P<d>\d{{1,2}})\s)?(?P<n>{_MONTH})\s(?P<y>\d{{4}})\b", re.IGNORECASE),
    re.compile(rf"\b(?P<n>{_MONTH})\s(?P<d>\d{{1,2}}),\s(?P<y>\d{{4}})\b", re.IGNORECASE),
    re.compile(r"\b(?P<m>\d{1,2})/(?P<y>\d{4})\b"),
)
_WORTH = re.compile(r"\b(?:valu(?:ation|ed|e|ing)|worth)\b", re.IGNORECASE)
# Capitals that begin a sentence, or belong to a date, say nothing about whom it is about.
_PLAIN = re.compile(
    r"\b(?:The|A|An|In|On|At|It|Its|Of|And|Series|Seed|Investors|Round|US|USD|"
    rf"{'|'.join([*box_lessons.MONTHS, *(month.capitalize() for month in MONTHS)])})\b"
)
# What companies make, by what it is: as they say it of themselves.
_KINDS = {
    "boats": "boat ferries ships", "robots": "robot drones", "vehicles": "cars engines bicycles railways",
    "maps": "cities", "health": "medicines hospitals nurses", "farming": "farms greenhouses",
    "energy": "batteries solar panels", "software": "programs games data",
}  # fmt: skip
Found = dict[str, Any]


def answer(messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> str:
    """Return the JSON that answers the question in the last message by its texts, of the form wanted."""
    said = str(messages[-1]["content"])
    question, _, rest = said.partition("\n\n")
    text = rest.rpartition("\n---\n")[0]
    about = re.search(r'"([^"]+)"', question)
    who = about[1] if about else ""
    items = schema.get("items", {})
    if "maximum" in items:
        return json.dumps([number for number in links(text, who) if number <= items["maximum"]])
    fields = items.get("properties", {})
    if "kind" in fields:
        return json.dumps([{"kind": kind} for kind in kinds(text, who, fields["kind"]["enum"])])
    names = fields.get("name", {}).get("enum", ())
    return json.dumps([_record(one, fields) for one in rounds(text, who) if one["round"] in names])


def _record(one: Found, fields: Mapping[str, Any]) -> Found:
    """Return a round as the question wants it, in its order; nothing for what is not known."""
    known = {"name": one["round"], "on": one.get("date"), **one}
    return {name: known.get(name) for name in fields}


def kinds(text: str, who: str, choices: Sequence[str]) -> list[str]:
    """Return the choice whose kind most words are of, in what sentences say of this company: none where they
    say nothing of the kind. Its name says nothing of what it does."""
    told = [one.replace(who, "") for line in text.splitlines() for one in sentences(line) if named(one, who)]
    words = set(re.findall(r"[a-z]+", " ".join(told).lower()))
    scores = [len(words & {*one.split(), *_KINDS.get(one, "").split()}) for one in choices]
    return [choices[scores.index(max(scores))]] if max(scores) else []


def links(text: str, who: str) -> list[int]:
    """Return the numbers of the links that stand behind a company's name."""
    found = re.findall(r"(?m)^(.*?)\s\[(\d+)\]", text)
    return [int(number) for title, number in found if named(title, who)]


def named(text: str, who: str) -> bool:
    """Return whether a text holds a name, and not as the beginning of a longer one."""
    return re.search(rf"\b{re.escape(who)}\b(?! (?!Series|Seed|USD?\b)[A-Z])", text) is not None


def rounds(text: str, who: str) -> list[Found]:
    """Return what a text says of a company's rounds; a round that is told of twice stands once."""
    found: dict[str, Found] = {}
    for one in (*_of_tables(text), *_of_sentences(text, who)):
        into = found.setdefault(one["round"], one)
        for key, value in one.items():
            into.setdefault(key, value)
    return list(found.values())


def _of_tables(text: str) -> Iterator[Found]:
    """Yield the rows of tables whose heads speak of rounds."""
    head: list[str] = []
    for line in text.splitlines():
        if not line.lstrip().startswith("|"):
            head = [] if line.strip() else head
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if set("".join(cells)) <= set("-: "):
            continue
        if not head:
            head = [cell.lower() for cell in cells]
            continue
        row = dict(zip(head, cells, strict=False))
        name = next((_name(row[key]) for key in row if "round" in key or "stage" in key), None)
        if name is None:
            continue
        one: Found = {"round": name}
        for key, cell in row.items():
            scale = 1.0 if re.search(r"\$m|million", key) else 1e-6
            if "date" in key or "when" in key:
                one |= {"date": when} if (when := date(cell)) else {}
            elif "valu" in key:
                one |= {"valuation": worth} if (worth := _cell(cell, scale)) is not None else {}
            elif re.search(r"raised|amount|size|sum", key):
                one |= {"raised": money} if (money := _cell(cell, scale)) is not None else {}
        yield one


def _cell(cell: str, scale: float) -> float | None:
    """Return the amount in a cell, in millions; a bare number is scaled as the head of its column says."""
    if found := amounts(cell):
        return found[0][0]
    bare = re.fullmatch(_NUMBER, cell)
    return None if bare is None else _short(float(bare[0].replace(",", "")) * scale)


def _of_sentences(text: str, who: str) -> Iterator[Found]:
    """Yield what sentences about this company say of one round each."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("|"))
    for line in lines:
        for sentence in sentences(line):
            names = {found for part in ROUND.findall(sentence) if (found := _name(part))}
            if len(names) != 1 or not _about(sentence, who):
                continue
            one: Found = {"round": names.pop()}
            if when := date(sentence):
                one["date"] = when
            sums, worth = amounts(sentence), _WORTH.search(sentence)
            if worth and sums:
                behind = [found for found in sums if found[1] > worth.start()]
                chosen = behind[0] if behind else sums[-1]
                one["valuation"] = chosen[0]
                sums.remove(chosen)
            if sums:
                one["raised"] = sums[0][0]
            yield one


def sentences(line: str) -> list[str]:
    """Return the sentences of a line, without its bullet or the sign of a head."""
    return re.split(r"(?<=[.!?])\s+(?=[A-Z0-9$])", line.lstrip("-*# ").strip())


def _about(sentence: str, who: str) -> bool:
    """Return whether a sentence is about this company: it names it, or no other name at all."""
    return named(sentence, who) or re.search(r"\b[A-Z][\w-]+", _PLAIN.sub("", sentence)) is None


def amounts(text: str) -> list[tuple[float, int]]:
    """Return the amounts of money in a text, in millions, each with its place."""
    found = []
    for match in _MONEY.finditer(text):
        number = float((match[1] or match[3]).replace(",", ""))
        unit = (match[2] or match[4] or "").lower()
        found.append((_short(number * (_SCALE[unit] if unit else 1e-6)), match.start()))
    return found


def date(text: str) -> str | None:
    """Return the first date in a text as 2012-03-01; without a day it is the first of the month."""
    hits = [match for form in _DATES if (match := form.search(text))]
    if not hits:
        return None
    parts = min(hits, key=lambda match: match.start()).groupdict()
    name = parts.get("n")
    month = MONTHS.index(name[:3].lower()) + 1 if name else int(parts["m"])
    return f"{parts['y']}-{month:02}-{int(parts.get('d') or 1):02}"


def _name(text: str) -> str | None:
    found = re.search(r"\b(seed|series\s[a-z])\b", text, re.IGNORECASE)
    return found[1].title() if found else None


def _short(number: float) -> float:
    """Return a number without what floating point adds."""
    return round(number, 6)
