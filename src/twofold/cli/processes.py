"""What the commands of processes share: the user's system, what a process does as lines, and asking the
user."""

import contextlib
import json
import signal as signals
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from twofold.base import home
from twofold.base.errors import TwofoldError
from twofold.cli import terminal

if TYPE_CHECKING:
    from twofold.kernel.journal import Event
    from twofold.kernel.minds import Mind
    from twofold.kernel.process import Question, State
    from twofold.kernel.system import System
    from twofold.tokens.speech import Piece

_LINE = 100  # characters of an argument or a result in a line


def system(devices: Iterable[str] = (), minds: "Callable[[str], Mind] | None" = None) -> "System":
    """Return the system of this user, with these devices; without any it can look, say, pause and kill.

    minds: by the name of a program's model; default: the user's models.
    """
    from twofold import devices as peripherals
    from twofold.kernel.minds import find
    from twofold.kernel.policy import Rules
    from twofold.kernel.system import System

    opened = peripherals.opened(devices)
    return System(home.data_folder() / "os", minds=minds or find, devices=opened, policy=Rules())


def system_of(pid: int) -> "System":
    """Return the system with the devices that a process may use."""
    with_none = system()
    try:
        held = {capability.device for capability in with_none.state(pid).program.capabilities}
    finally:
        with_none.close()
    return system(held)


def signal(pids: Iterable[int], give: "Callable[[System, int], None]") -> None:
    """Give each process a signal, whoever runs it, and say how it is now."""
    told = system()
    try:
        for pid in pids:
            give(told, pid)
            terminal.console().print(f"Process {pid}: {told.status(told.state(pid))}.", markup=False)
    finally:
        told.close()


def short(value: Any, most: int = _LINE) -> str:
    """Return a value on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(terminal.clean(text).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def called(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a call on one line."""
    return f"{name}({', '.join(f'{key}={short(value, 60)}' for key, value in arguments.items())})"


def told(event: "Event") -> Text | None:
    """Return what happened in a line; None for what says nothing to people."""
    body = event.body
    match event.kind:
        case "spawned":
            return Text(f"» {short(body['program']['message'])}", "cyan")
        case "forked":
            return Text(f"forked from process {body['parent']} after event {body['at']}", "dim")
        case "told":
            return Text(f"» {short(body['page']['text'])}", "cyan")
        case "said":
            calls = [called(call["name"], call["arguments"]) for call in body["calls"]]
            return (
                Text(short(body["text"], 400))
                if not calls
                else Text("\n".join(f"→ {c}" for c in calls), "blue")
            )
        case "decided":
            style = {"allow": "dim", "ask": "yellow", "deny": "red"}[body["verdict"]]
            name = f"{called(body['name'], body['arguments'])}: " if body["inside"] else ""
            return Text(f"  {name}{body['verdict']} ({body['rule']}): {body['reason']}", style)
        case "asked":
            return Text(f"? {short(body['text'], 400)}", "yellow")
        case "approved":
            return Text(f"  you said: {body['grant']}", "yellow")
        case "answered":
            return Text(f"» {short(body['text'])}", "cyan")
        case "waits":
            return Text(f"  waits for process {body['child']}", "dim")
        case "returned":
            text = short(body["page"]["text"] if body["page"] else body["value"])
            hidden = " (hidden from the model)" if body["page"] and body["page"]["hidden"] else ""
            return Text(f"← {text}{hidden}", "red" if body["error"] else "green")
        case "stopped" | "exited":
            return Text(f"{event.kind}: {body['reason']}", "dim")
        case "memory":
            from twofold.kernel.memory import told

            line = told(body)
            return Text(f"  {line}", "dim") if line else None
        case "began" | "heard":
            return None
    return Text(f"{event.kind} {short({k: v for k, v in body.items() if k != 'page'})}", "dim")


class Trace:
    """Prints what a process does as it does it: its words as they come, its calls and what they return."""

    def __init__(self, system: "System", pid: int, notes: Console) -> None:
        self._pid, self._notes, self._spoken = pid, notes, False
        self._wrap = terminal.Wrap(lambda text: print(text, end="", flush=True), terminal.columns())
        self.stop = system.watch(self)

    def __call__(self, news: "Event | tuple[int, Piece]") -> None:
        if isinstance(news, tuple):
            pid, piece = news
            if pid == self._pid and piece.kind == "text":
                self._spoken = True
                self._wrap(terminal.clean(piece.text))
            return
        if self._spoken:
            self._wrap.flush()
            print(flush=True)
            self._spoken = False
            if news.kind == "said" and not news.body["calls"]:
                return
        if news.kind == "exited" and news.pid == self._pid and news.body["reason"] == "done":
            return
        line = told(news)
        if line and not (news.kind == "decided" and news.body["verdict"] != "deny"):
            where = "" if news.pid == self._pid else f"[{news.pid}] "
            self._notes.print(Text(where, "dim").append_text(line), soft_wrap=True)


def attend(system: "System", pid: int) -> None:
    """Run a process here until it is over or nobody can answer it, and show it. Ctrl-C leaves it as it is.

    Raises KeyboardInterrupt after Ctrl-C, TwofoldError when it did not end well.
    """
    notes = terminal.error_console()
    trace = Trace(system, pid, notes)
    try:
        while True:
            with _noted_ctrl_c() as stop:
                system.run(
                    until=lambda: stop.is_set() or system.scheduler.idle() or bool(system.state(pid).exit)
                )
            if stop.is_set():
                raise KeyboardInterrupt
            state = system.state(pid)
            asking = _asking(system, pid)
            if state.exit or state.stopped or asking is None or not terminal.interactive():
                break
            reply(system, asking, notes)
    except (KeyboardInterrupt, EOFError):
        system.close()
        notes.print(f"\n[dim]Process {pid} is left where it is: [/]twofold resume {pid}[dim] goes on.[/]")
        raise KeyboardInterrupt from None
    finally:
        trace.stop()
    system.close()
    _end(system, state, notes)


@contextlib.contextmanager
def _noted_ctrl_c() -> Iterator[threading.Event]:
    """Note Ctrl-C instead of raising it: it could come while a lock is being taken, and be lost with it.

    A second one raises.
    """
    noted = threading.Event()
    before = signals.getsignal(signals.SIGINT)

    def note(*_: Any) -> None:
        if noted.is_set():
            raise KeyboardInterrupt
        noted.set()

    if before is not signals.SIG_IGN:  # else somebody has said that it is not to be heard
        signals.signal(signals.SIGINT, note)
    try:
        yield noted
    finally:
        signals.signal(signals.SIGINT, before)


def _asking(system: "System", pid: int) -> "State | None":
    """Return who waits for the user: the process, or one of its children."""
    for state in [system.state(pid), *reversed(system.processes())]:
        if (state.pid == pid or state.parent == pid) and state.waits == "user" and not state.exit:
            return state
    return None


def _end(system: "System", state: "State", notes: Console) -> None:
    spent = state.spent
    figures = [f"{spent.tokens or 0:,} tokens", f"{spent.calls or 0} calls", f"{spent.seconds or 0:.1f} s"]
    if spent.money:
        figures.append(f"{spent.money:.4f} spent")
    notes.print(f"[dim]process {state.pid} · {' · '.join(figures)}[/]")
    if state.stopped:
        how = f"twofold resume {state.pid} goes on"
        raise TwofoldError(f"Process {state.pid} is stopped, {how}. The reason: {state.stopped}")
    if not state.exit:
        raise TwofoldError(f"Process {state.pid} waits for you: twofold approve {state.pid} answers it.")
    if state.exit != "done":
        raise TwofoldError(f"Process {state.pid} was ended: {state.exit}.")


def show_question(state: "State", notes: Console) -> None:
    """Print what a process asks: for a call exactly what will flow where, and who had a part in it."""
    asks = state.asks
    if asks is None:
        return
    call = state.calls.get(asks.call)
    head = Text(f"\nProcess {state.pid} ", "bold yellow")
    if asks.kind == "approval" and call:
        effect = f" ({asks.shows['effect']})" if "effect" in asks.shows else ""
        notes.print(head.append(f"wants to call {call.name}{effect}:", "bold yellow"))
        for piece in [*asks.shows.get("where", ()), *asks.shows.get("what", ())]:
            _show_piece(piece, notes)
        notes.print(Text(f"  asked because: {terminal.clean(asks.text)}", "yellow"), soft_wrap=True)
    else:
        notes.print(head.append(f"asks: {terminal.clean(asks.text)}", "yellow"), soft_wrap=True)


def _show_piece(piece: Mapping[str, Any], notes: Console) -> None:
    """Print one piece of what would flow: whole, whose it is, and for whom."""
    value = piece["value"]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    first, *rest = terminal.clean(text).split("\n")
    notes.print(Text(f"    {piece['argument']:<9} ", "dim").append(first, "default"), soft_wrap=True)
    for line in rest:
        notes.print(Text(" " * 14 + line), soft_wrap=True)
    readers = "" if piece["for"] is None else f" · for {', '.join(piece['for'])} only"
    doubt = "" if piece["trusted"] else " · not to be trusted"
    whose = f"from {', '.join(piece['from']) or 'nowhere known'}{readers}{doubt}"
    notes.print(Text(" " * 14 + terminal.clean(whose), "dim" if piece["trusted"] else "red"), soft_wrap=True)


def reply(system: "System", state: "State", notes: Console) -> None:
    """Ask the user what a process wants to know, and tell it."""
    asks = state.asks
    if asks is None:
        said = input("» ").strip()
        if said in ("", "/exit"):
            system.kill(state.pid, "done")
        else:
            system.tell(state.pid, said)
        return
    show_question(state, notes)
    give(system, state.pid, asks, _choice(asks.options, notes))


def give(system: "System", pid: int, asks: "Question", said: str) -> None:
    """Tell a process what the user said to its question."""
    if asks.kind == "approval":
        system.approve(pid, asks.call, said)  # type: ignore[arg-type]  # checked there
    else:
        system.answer(pid, said)


def _choice(options: tuple[str, ...], notes: Console) -> str:
    """Return one of the options, or any text where there are none; a beginning is enough."""
    while True:
        if options:
            notes.print(Text("  " + " / ".join(options), "yellow"))
        said = input("  > ").strip()
        fitting = [option for option in options if said and option.startswith(said)]
        if not options and said:
            return said
        if len(fitting) == 1 or said in fitting:
            return said if said in fitting else fitting[0]


def age(at: float) -> str:
    """Return how long ago that was: 12 s, 3 min, 2 h, 5 d."""
    seconds = max(0.0, time.time() - at)
    for unit, length in (("s", 60), ("min", 60), ("h", 24)):
        if seconds < length:
            return f"{seconds:.0f} {unit}"
        seconds /= length
    return f"{seconds:.0f} d"
