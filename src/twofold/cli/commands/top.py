"""`twofold top`: what processes are doing, as they do it."""

SECTION = "Run processes"
EXAMPLE = ("twofold top", "what processes are doing, as they do it")
NOBODY = "Nothing is going on: twofold run begins a process, twofold ps lists those that are over."


def command() -> None:
    """Show the processes that are not over, and what each did last, until Ctrl-C. Without a terminal:
    once."""
    import sys
    import time

    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    from twofold.cli import processes, terminal

    system, console = processes.system(), terminal.console()
    before: dict[int, tuple[float, int]] = {}

    def view() -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
        for title in ("pid", "prio", "status", "tokens", "per s", "calls", "pages", "window"):
            table.add_column(title, justify="left" if title == "status" else "right", no_wrap=True)
        table.add_column("last", no_wrap=True, overflow="ellipsis", ratio=1)
        for state in system.processes():
            if state.exit:
                continue
            now, tokens = time.monotonic(), state.spent.tokens or 0
            then, had = before.get(state.pid, (now, tokens))
            if now - then >= 2 or state.pid not in before:
                before[state.pid] = now, tokens
            rate = f"{(tokens - had) / (now - then):.0f}" if now > then and tokens > had else "–"
            last = system.events(state.pid, state.seq - 1)
            told = processes.told(last[-1]) if last else None
            table.add_row(
                str(state.pid), str(state.program.priority), Text(terminal.clean(system.status(state))),
                f"{tokens:,}", rate, str(state.spent.calls or 0), str(len(state.pages)),
                f"{sum(page.tokens for page in state.pages if not page.hidden):,}", told or Text(""),
            )  # fmt: skip
        if not table.row_count:
            table.caption, table.caption_justify = NOBODY, "left"
        return table

    try:
        if not sys.stdout.isatty():
            console.print(view())
            return
        with Live(view(), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(0.5)
                live.update(view(), refresh=True)
    except KeyboardInterrupt:
        pass
    finally:
        system.close()
