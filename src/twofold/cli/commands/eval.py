"""`twofold eval`: benchmarks, with standard errors and how much of them the training data held."""

import fnmatch
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twofold.cli import models

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from twofold.measure.evaluation import Report, Score, Task
    from twofold.run import Engine

SECTION = "Look inside"
EXAMPLE = ("twofold eval --tasks blimp,arc_easy", "benchmarks, by their usual prompts and scores")

# Of which there are published scores of nearly every model; asked for when no task is named.
USUAL = "blimp,arc_easy,arc_challenge,piqa,winogrande,lambada,boolq,openbookqa"
SEQUENCES = 64
CACHE_BYTES = 4 << 30  # all sequences' keys and values together, at most
CONTEXT = 4096


def command(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=models.MODEL_HELP)] = None,
    tasks: Annotated[
        str,
        typer.Option("--tasks", metavar="NAMES", help="Names with commas between them, or patterns, or all."),
    ] = USUAL,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="Where the files are; default: TWOFOLD_DATA, shared/data."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Only N items of each task.")
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option("--shots", metavar="N", min=0, help="Worked examples before each; default: as usual."),
    ] = None,
    trained_on: Annotated[
        list[str] | None,
        typer.Option("--trained-on", metavar="PATH", help="Look for the items in this training text too."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Keep every answer; the same command goes on from there."),
    ] = None,
    parts: Annotated[
        bool, typer.Option("--parts", help="Show scores by part (phenomenon, subject).")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the tasks.")] = False,
    threads: models.Threads = None,
    settings: models.Settings = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the scores as JSON and nothing else.")
    ] = False,
) -> None:
    """Ask a model benchmarks that you have as files, by their usual prompts and scores.

    Nothing is downloaded. Ctrl-C stops; with --out what was answered is kept.
    """
    from twofold.cli import terminal
    from twofold.measure import evaluation, records

    if list_:
        _list(data)
        return
    place = records.folder(data)
    names = _names(tasks, place)
    prepared = [evaluation.prepare(name, place, shots=shots, limit=limit) for name in names]
    texts = trained_on or _recipe(model)
    path = models.find(model)
    engine = _engine(path, threads, settings or [])
    head = {
        "model": engine.card.get("name") or path.name,
        "fingerprint": evaluation.fingerprint(path),
        "context": engine.context,
    }
    answers = evaluation.Answers(head, out)
    reports: list[Report] = []
    try:
        _ask(engine, prepared, answers, reports)
    except KeyboardInterrupt:
        if reports:
            _show(reports, None, parts)
        kept = "Stopped. With --out FILE the answers would have been kept."
        if out is not None:
            kept = f"Stopped; {len(answers.kept):,} answers are kept in {terminal.clean(str(out))}."
        terminal.error_console().print(kept, markup=False)
        raise
    seen = _overlap(prepared, texts) if texts else None
    if as_json:
        print(json.dumps(_record(head, reports, seen), indent=2))
        return
    console = terminal.console()
    console.print(terminal.clean(f"{head['model']}  window {engine.context:,} tokens"), markup=False)
    _show(reports, seen, parts)
    if out is not None:
        console.print(f"[dim]Answers are in[/] {terminal.clean(str(out))}", soft_wrap=True)


def _names(tasks: str, place: Path) -> list[str]:
    """Return the tasks that are named, in order.

    Of a pattern, of all and of the usual ones those count whose data is there. Raises UsageError for a name
    that does not exist and when none is left.
    """
    from twofold.base.errors import UsageError
    from twofold.base.names import unknown
    from twofold.measure.evaluation import available
    from twofold.measure.tasks import TASKS

    known = TASKS.names()
    chosen: list[str] = []
    for name in (part.strip() for part in tasks.split(",")):
        found = known if name == "all" else fnmatch.filter(known, name)
        if name and not found:
            raise UsageError(unknown("task", name, known))
        if found != [name] or tasks == USUAL:
            found = [one for one in found if available(one, place)]
        chosen += [one for one in found if one not in chosen]
    if not chosen:
        raise UsageError(f"There is nothing to ask in {place}: `twofold eval --list` shows tasks and data.")
    return chosen


def _engine(path: Path, threads: int | None, settings: list[str]) -> "Engine":
    """Return the model with room for as many sequences as fit."""
    from twofold import parameters, run

    chosen = models.generation(models.Generation(threads=threads, context=None), settings)
    config = parameters.load(path).config
    context = min(chosen.context or CONTEXT, config.context)
    each = 4 * config.layers * config.kv_heads * config.head_dim * context
    return run.load(
        path,
        threads=chosen.threads,
        context=context,
        sequences=max(2, min(SEQUENCES, CACHE_BYTES // each)),
        backend=chosen.backend,
    )


def _ask(engine: "Engine", prepared: "list[Task]", answers: Any, reports: "list[Report]") -> None:
    """Ask every task, with a bar of progress; finished ones are added to `reports` one by one."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from twofold.cli import terminal
    from twofold.measure import evaluation

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal.error_console(), transient=True) as bars:
        for task in prepared:
            bar = bars.add_task(task.name, total=len(task.questions))
            tell = functools.partial(_tell, bars, bar)
            reports.append(evaluation.evaluate(engine, task, answers, tell))
            bars.remove_task(bar)


def _tell(bars: "Progress", bar: "TaskID", done: int) -> None:
    """Show how many items of a task are done."""
    bars.update(bar, completed=done)


# ---- contamination


def _recipe(model: str | None) -> list[str]:
    """Return the training texts that the recipe of a run folder names and that are still there."""
    import tomllib

    for folder in (Path(model or ""), Path("runs") / (model or "")):
        recipe = folder / "recipe.toml"
        if model is None or not recipe.is_file():
            continue
        try:
            told = tomllib.loads(recipe.read_text(encoding="utf-8")).get("settings", {}).get("data", [])
        except ValueError:
            return []
        return [str(path) for path in told if Path(path).exists()]
    return []


def _overlap(prepared: "list[Task]", texts: list[str]) -> list[list[bool | None]]:
    """Return for each task and item whether a piece of it stood in the texts (see measure.contamination)."""
    from twofold.cli import terminal
    from twofold.corpus import documents
    from twofold.measure.contamination import Overlap

    overlap = Overlap([question.item.text for task in prepared for question in task.questions])
    with terminal.error_console().status("Looking for the items in the training text") as status:
        for path in texts:
            before = overlap.words
            for number, document in enumerate(documents(path)):
                overlap.read([document.text])
                if number % 256 == 0:
                    status.update(f"Looking for the items in {path}: {overlap.words - before:,} words")
    seen = iter(overlap.seen())
    return [[next(seen) for _ in task.questions] for task in prepared]


def _clean(report: "Report", seen: list[bool | None]) -> "dict[str, Any]":
    """Return what is known of a task's items in the training text; `unseen` is the score without them."""
    from twofold.measure.evaluation import scores

    judged = [one for one in seen if one is not None]
    rest = [one for one, was in zip(report.grades, seen, strict=True) if was is not True]
    without = scores(report.headline, rest)[report.headline] if rest and any(judged) else None
    return {"judged": len(judged), "seen": sum(judged), "unseen": without}


# ---- showing


def _record(
    head: dict[str, Any], reports: "list[Report]", seen: list[list[bool | None]] | None
) -> dict[str, Any]:
    """Return everything for programs."""
    from dataclasses import asdict

    found = []
    for number, report in enumerate(reports):
        record = asdict(report)
        del record["grades"]
        record["parts"] = {
            part: {"items": count, "value": score.value, "error": score.error}
            for part, (count, score) in report.parts.items()
        }
        if seen is not None:
            known = _clean(report, seen[number])
            record["training_text"] = {**known, "unseen": known["unseen"] and asdict(known["unseen"])}
        found.append(record)
    return {**head, "tasks": found}


def _show(reports: "list[Report]", seen: list[list[bool | None]] | None, parts: bool) -> None:
    """Show the scores as a table, and below it what a reader should know."""
    from rich.table import Table

    from twofold.cli import terminal

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("task", "metric"):
        table.add_column(title, no_wrap=True)
    for title in ("score", "±", "chance", "shots", "items", "s"):
        table.add_column(title, justify="right", no_wrap=True)
    if seen is not None:
        for title in ("seen", "unseen"):
            table.add_column(title, justify="right", no_wrap=True)
    for number, report in enumerate(reports):
        _rows(table, report, None if seen is None else _clean(report, seen[number]), parts)
    console = terminal.console()
    console.print(table)
    if cut := [report for report in reports if report.cut]:
        said = ", ".join(f"{report.task} {report.cut} of {report.items}" for report in cut)
        console.print(f"[dim]Cut on the left to fit the window: {said}.[/]")
    if seen is not None:
        console.print(
            "[dim]seen: items of whose question and answer 13 words in a row stood in the training text, "
            "of those long enough to judge; unseen: the score without them.[/]"
        )


def _rows(table: "Table", report: "Report", known: dict[str, Any] | None, parts: bool) -> None:
    """Add the rows of a task: its metrics, and its parts if wanted."""
    for number, (metric, score) in enumerate(report.scores.items()):
        first = number == 0
        chance = f"{100 * report.chance:.1f}" if report.chance and metric.startswith("acc") else ""
        row = [f"[bold]{report.task}[/]" if first else "", metric, *_figures(metric, score), chance]
        row += [str(report.shots), f"{report.items:,}", f"{report.seconds:.1f}"] if first else ["", "", ""]
        if known is not None and first:
            share = f"{known['seen']} of {known['judged']:,}" if known["judged"] else "–"
            unseen = known["unseen"]
            row += [share, _figures(metric, unseen)[0] if unseen else ""]
        table.add_row(*row)
    if parts:
        for part, (count, score) in report.parts.items():
            figures = _figures(report.headline, score)
            table.add_row(f"  {part}", report.headline, *figures, "", "", f"{count:,}", style="dim")


def _figures(metric: str, score: "Score") -> tuple[str, str]:
    """Return a score and its error: percent, but for perplexities and distances."""
    if metric in ("perplexity", "difference"):
        return shown(score.value), shown(score.error)
    return f"{100 * score.value:.1f}", f"{100 * score.error:.1f}"


def shown(value: float) -> str:
    """Return a number that takes no more than ten columns: a bad model's perplexity has forty digits."""
    return f"{value:,.2f}" if value < 1e6 else f"{value:.1e}"


def _list(data: Path | None) -> None:
    """Show the tasks: what they are, worked examples, and whether their files are there."""
    from rich.table import Table

    from twofold.base.errors import UsageError
    from twofold.cli import terminal
    from twofold.measure import evaluation, records
    from twofold.measure.tasks import TASKS

    try:
        place = records.folder(data)
    except UsageError:
        place = None
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("task", no_wrap=True)
    table.add_column("shots", justify="right")
    table.add_column("data", no_wrap=True)
    table.add_column("what it asks")
    for name in TASKS.names():
        module = TASKS.get(name)
        there = place is not None and evaluation.available(name, place)
        first = (module.__doc__ or "").partition("\n")[0]
        table.add_row(
            f"[bold]{name}[/]", str(getattr(module, "SHOTS", 0)), "yes" if there else "[dim]no[/]", first
        )
    terminal.console().print(table)
    terminal.console().print(
        f"[dim]Data: {place or 'no folder found; say --data DIR or set TWOFOLD_DATA'}[/]"
    )
