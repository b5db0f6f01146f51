"""Write what is generated in README.md and docs/, between marks; `--check` only looks.

    python docs/generate.py           rewrites the files
    python docs/generate.py --check   exits 1 and names the files that are stale

The map of the tree is the first line of each folder's docstring, so a folder is described in one place.
The command help is what the command line itself prints. The table of published runs is computed, and that of
benchmarks comes from their files.
"""

import ast
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The order in which the talk meets them; tests/house checks that no folder is missing.
TALK_ORDER = (
    "parameters",
    "run",
    "tokens",
    "corpus",
    "train",
    "environments",
    "think",
    "measure",
    "pull",
    "kernel",
    "devices",
    "apps",
    "serve",
    "cli",
    "base",
)

# What stands beside src/: a line each, shown when it is there.
BESIDE = {
    "web": "the web app's source; its build lands in src/twofold/serve/static",
    "recipes": "whole lives as short programs; box.py repeats the model in the box",
    "benchmarks": "one script per headline figure, each with its rival in the same run",
    "tests": "mirrors src/twofold; house/ checks the tree itself, soak/ holds the long ones",
    "docs": "a page per folder, decisions/ for why, log.md for what was tried",
}


def first_line(package: Path) -> str:
    """Return the first line of the docstring of a folder's `__init__.py`."""
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].rstrip(".")


def tree(root: Path = ROOT) -> str:
    """Return the map of the tree as a block of text: each folder with what it is for."""
    source = root / "src" / "twofold"
    there = [name for name in TALK_ORDER if (source / name / "__init__.py").is_file()]
    rows = [("src/twofold/", "")] + [(f"  {name}/", first_line(source / name)) for name in there]
    if (source / "box").is_dir():
        rows.append(("  box/", "The model in the box: model.gguf and its card"))
    rows += [(f"{name}/", text) for name, text in BESIDE.items() if (root / name).is_dir()]
    width = max(len(name) for name, _ in rows) + 2
    return "```\n" + "\n".join(f"{name:<{width}}{text}".rstrip() for name, text in rows) + "\n```"


def command_help() -> str:
    """Return the help of every command as Markdown, as plain text of 96 columns."""
    os.environ["NO_COLOR"] = "1"
    import typer

    from twofold.cli import main

    group = typer.main.get_group(main.build_app(plain=True))
    parts = []
    for name in main.COMMANDS.names():
        context = group.make_context("twofold", [name], resilient_parsing=True)
        command = group.commands[name]
        inner = type(context)(
            command, info_name=name, parent=context, terminal_width=96, max_content_width=96
        )
        line, meaning = main.COMMANDS.get(name).EXAMPLE
        text = "\n".join(row.rstrip() for row in command.get_help(inner).strip().splitlines())
        parts.append(f"## twofold {name}\n\n`{line}`: {meaning}.\n\n```\n{text}\n```")
    return "\n\n".join(parts)


def published() -> str:
    """Return the table of published runs beside their plans."""
    from twofold.measure import published as runs

    return runs.table()


def tasks() -> str:
    """Return the table of benchmarks: what each asks, its usual worked examples and its headline."""
    from twofold.measure.tasks import TASKS

    rows = ["| task | what it asks | shots | headline |", "|---|---|--:|---|"]
    for name in TASKS.names():
        module = TASKS.get(name)
        first = (module.__doc__ or "").partition("\n")[0]
        rows.append(f"| `{name}` | {first} | {getattr(module, 'SHOTS', 0)} | {module.HEADLINE} |")
    return "\n".join(rows)


def fill(text: str, name: str, body: str) -> str:
    """Return `text` with what stands between the marks of `name` replaced by `body`."""
    begin, end = f"<!-- generated: {name} -->", "<!-- end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"There must be one part marked '{begin}' … '{end}'.")
    return pattern.sub(lambda _: f"{begin}\n{body}\n{end}", text)


def pages() -> dict[Path, str]:
    """Return each page that has a generated part, as it ought to be."""
    readme, cli, measure = ROOT / "README.md", ROOT / "docs" / "cli.md", ROOT / "docs" / "measure.md"
    return {
        readme: fill(readme.read_text(encoding="utf-8"), "map", tree()),
        cli: fill(cli.read_text(encoding="utf-8"), "help", command_help()),
        measure: fill(fill(measure.read_text(encoding="utf-8"), "published", published()), "tasks", tasks()),
    }


def main() -> None:
    """Rewrite or check the pages."""
    stale = [path for path, text in pages().items() if path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.exit(f"Stale: {names}. Run `make docs`." if stale else 0)
    for path, text in pages().items():
        if path in stale:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
