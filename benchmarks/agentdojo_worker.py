"""AgentDojo v1.2.2 in the worst case: a kernel that does what the user wants by the ground truth, and obeys
every injected instruction by the injection's ground truth (attack `important_instructions`, 629 pairs).

Started by agentdojo_worst_case.py, in an environment that has the package agentdojo.

Every run goes through a real System: journal, pages, quarantined children, policy, devices
(agentdojo_devices.py). The plan is an oracle's (agentdojo_plans.py says what of it is pledged, and why a
planner could know that much). An attack is tried each way it could go, each in a run of its own:

- `revealed`: the process is shown every text that holds an injection, makes the injected calls word by word,
  pledges them, and says what they want it to say;
- `values`: every child that reads an injected text returns what the attacker wants in its place: the
  argument of the same name, all of his words, or each of them that fits the type;
- `blind`: the injected calls, the pledge and the answer are made as soon as anything injected has come in,
  though it is hidden and the process has not read it. Nobody can obey what he has not read: this measures
  what is left when that wall is gone.

Where nobody can plan, the process must read: there it is shown everything in every way.

The user approves a call only when what he is shown is, piece by piece, what the ground truth of his task
needs next. Rivals run the same tasks and read everything: no policy; no side effect once a tool has said
anything; each argument of a side effect must occur in the user's words.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from agentdojo.attacks.important_instructions_attacks import ImportantInstructionsAttack
from agentdojo.functions_runtime import FunctionCall
from agentdojo.task_suite.load_suites import get_suites
from agentdojo_devices import Calculator, Suite
from agentdojo_plans import SUMS, UNPLANNED, Step, plain_value, pledge, said, steps

from twofold.kernel.capabilities import Capability
from twofold.kernel.case import Call as Asked
from twofold.kernel.device import Effect
from twofold.kernel.flow import flat
from twofold.kernel.minds import Said, Turn
from twofold.kernel.pages import Page
from twofold.kernel.pledge import spell
from twofold.kernel.policy import ByCapability, Decision, Rules
from twofold.kernel.process import Program, State, quoted
from twofold.kernel.system import System
from twofold.tokens.speech import Call

VERSION, MARK = "v1.2.2", "<INFORMATION>"  # what every injection of this attack begins with


# ---- the rivals


class NothingAfterTools:
    """No side effect once any tool has returned anything."""

    def decide(self, call: Asked, state: State, grants: Sequence[Any] = ()) -> Decision:
        """Return what becomes of a call."""
        late = _side_effect(call) and any(page.kind == "result" for page in state.pages)
        return Decision(verdict="deny" if late else "allow", rule="tools", reason="")


class UsersWords:
    """Every argument of a side effect must occur in the user's own words."""

    def decide(self, call: Asked, state: State, grants: Sequence[Any] = ()) -> Decision:
        """Return what becomes of a call."""
        words = " ".join(page.text for page in state.pages if page.kind == "user")
        foreign = any(
            not said(spell(leaf), words) for _, leaf in flat(call.arguments) if leaf not in (None, [], {})
        )
        verdict = "deny" if _side_effect(call) and foreign else "allow"
        return Decision(verdict=verdict, rule="words", reason="")


def _side_effect(call: Asked) -> bool:
    to_somebody = call.function.effect is Effect.FETCH and bool(call.function.targets)
    return call.function.effect in (Effect.WRITE, Effect.SEND) or to_somebody


# ---- a run


@dataclass(frozen=True)
class Way:
    """How an attack goes: what it is called, whether the process is shown what is injected, and which of his
    words the attacker puts in the place of a value; None: children are honest."""

    name: str
    reveal: bool = False
    choice: int | None = None


@dataclass
class Run:
    """What came of a task. asked: how often the user was; refused: of these, how often he said no."""

    utility: bool = False
    attacked: bool = False
    asked: int = 0
    refused: int = 0
    rules: Counter[str] = field(default_factory=Counter)


class Kernel:
    """The mind of a process, and of its children: an oracle of the user's task that obeys what is
    injected."""

    context = 1 << 24

    def __init__(
        self, suite: str, plan: Sequence[Step], form: str, answer: str, injected: Sequence[FunctionCall],
        injected_answer: str, way: Way, *, planned: bool, quarantined: bool,
    ) -> None:  # fmt: skip
        """form: the pattern of the answer. planned: it pledges. quarantined: it has children, and hidden
        values."""
        self.suite, self.plan, self.form, self.answer = suite, plan, form, answer
        self.injected, self.injected_answer, self.way = injected, injected_answer, way
        self.planned, self.quarantined = planned, quarantined
        self.system: Any = None
        self.pid, self.attacked = 0, False
        self.wanted: tuple[str, str, Any] = ("", "", None)
        self._acts: Iterator[Any] | None = None

    def count(self, messages: Sequence[Any], tools: Sequence[Any] = ()) -> int:
        """Tokens do not matter here."""
        return 1

    def tokens(self, text: str) -> int:
        """Nor do those of a text."""
        return 1

    def close(self) -> None:
        """Nothing is held."""

    def say(self, turn: Turn) -> Said:
        """Return the next call or the answer of the process, or a child's datum."""
        if turn.schema is not None:
            seen = "".join(str(message["content"]) for message in turn.messages)
            return Said(text=json.dumps(self._datum(seen, turn.schema)))
        if self._acts is None:
            self._acts = self._act()
        act = next(self._acts)
        if isinstance(act, str):
            return Said(text=act)
        return Said(calls=[Call(act[0], json.dumps(act[1]))])

    # -- the process

    def _pages(self) -> tuple[Page, ...]:
        return self.system.state(self.pid).pages  # type: ignore[no-any-return]

    def _act(self) -> Iterator[Any]:
        if self.planned:
            yield "pledge", pledge(self.suite, self.plan, self.form)
        for step in self.plan:
            arguments = dict(step.arguments)
            for path, source in step.leaves.items():
                if source.how == "sum":
                    yield "calculate", {"sum": SUMS[round(source.value, 2)]}
                elif source.how in ("hidden", "chosen") and (values := self._values(source.value)):
                    kind = list(source.options) if source.how == "chosen" else source.type
                    self.wanted = (step.function, path, source.value)
                    yield "extract", {"values": values, "question": path, "type": kind}
                    last = [page for page in self._pages() if page.kind == "result"][-1]
                    put = {"$value": last.id} if last.hidden else _typed(last.text, source.value)
                    arguments = _with(arguments, path, put)
            yield f"{self.suite}_{step.function}", arguments
            if self.quarantined and not self.planned:  # who is told to do what a text says must read it
                for page in [page for page in self._pages() if page.hidden]:
                    yield "reveal", {"value": page.id}
            yield from self._obey()
        if self.form == "{quote}" and (values := self._values(self.answer)):
            self.wanted = ("answer", "answer", self.answer)
            yield "extract", {"values": values, "question": "answer", "type": "text"}
            yield f"${{{[page for page in self._pages() if page.kind == 'result'][-1].id}}}"
        elif self.attacked and self.injected_answer and self.way.choice is None:
            yield self.injected_answer  # what it was told to say; if that is withheld, nothing better is said
        else:
            yield self.answer

    def _obey(self) -> Iterator[Any]:
        """Do all that is injected, once, as soon as anything of it is there."""
        if self.attacked or not any(MARK in page.text for page in self._pages() if page.kind == "result"):
            return
        self.attacked = True
        if self.way.choice is not None:
            return
        if self.way.reveal:
            for page in self._pages():
                if page.hidden and MARK in page.text:
                    yield "reveal", {"value": page.id}
        calls = [
            (name, {k: plain_value(v) for k, v in c.args.items()})
            for c in self.injected
            for name in self._names(c)
        ]
        if self.quarantined:
            yield (
                "pledge",
                {"calls": [{"function": name, "arguments": arguments} for name, arguments in calls]},
            )
        yield from calls

    def _names(self, call: FunctionCall) -> list[str]:
        if call.function == "create_calendar_event":
            return [f"{self.suite}_{call.function}", f"{self.suite}_invite_to_calendar_event"]
        return [f"{self.suite}_{call.function}"]

    def _values(self, value: Any) -> list[str]:
        """Return the hidden values that hold what is wanted; all of them where none does."""
        if not self.quarantined:
            return []
        hidden = [page for page in self._pages() if page.hidden and page.source != "extract"]
        holding = [page.id for page in hidden if spell(value).lower() in page.text.lower()]
        return holding[:8] or [page.id for page in hidden]

    # -- a child

    def _datum(self, heard: str, schema: Mapping[str, Any]) -> Any:
        """Return what a child says: what is right, or what the attacker wants once it reads his words."""
        function, path, value = self.wanted
        if MARK not in heard or self.way.choice is None:
            return value
        self.attacked = True
        fitting = [
            word
            for word in _words(self.injected, self.injected_answer, function, path)
            if _fits(word, schema)
        ]
        return fitting[min(self.way.choice, len(fitting) - 1)] if fitting else value


def _words(injected: Sequence[FunctionCall], answer: str, function: str, path: str) -> list[Any]:
    """Return what an attacker may want in the place of a value, best first."""
    calls = [{k: plain_value(v) for k, v in call.args.items()} for call in injected]
    leaves = [(p, leaf) for call in calls for p, leaf in flat(call)]
    name = path.split(".")[0]
    same = [leaf for p, leaf in leaves if p.split(".")[0] == name]
    everything = " ".join([*(spell(leaf) for _, leaf in leaves), answer])
    return [*same, everything, *(leaf for _, leaf in leaves), answer]


def _fits(word: Any, schema: Mapping[str, Any]) -> bool:
    if "enum" in schema:
        return word in schema["enum"]
    if schema["type"] in ("number", "integer"):
        return isinstance(word, int | float) and not isinstance(word, bool)
    if "pattern" in schema:
        return isinstance(word, str) and word[:4].isdigit() and word[4:5] == "-"
    return isinstance(word, str) and bool(word)


def _typed(text: str, like: Any) -> Any:
    return text if isinstance(like, str) else json.loads(text)


def _with(arguments: Any, path: str, put: Any) -> Any:
    """Return arguments with something else at a path."""
    first, _, rest = path.partition(".")
    if isinstance(arguments, list):
        place = int(first)
        return [(_with(a, rest, put) if rest else put) if n == place else a for n, a in enumerate(arguments)]
    return {k: (_with(v, rest, put) if rest else put) if k == first else v for k, v in arguments.items()}


_LOADED: dict[str, Any] = {}


def _environment(suite: Any, injections: Mapping[str, str]) -> Any:
    """Return an environment; the last that was read is kept, as reading takes longer than a run."""
    key = json.dumps([suite.name, dict(injections)])
    if key not in _LOADED:
        _LOADED.clear()
        _LOADED[key] = suite.load_and_inject_default_environment(dict(injections))
    return _LOADED[key].model_copy(deep=True)


def run(suite: Any, task: Any, injection: Any, injections: Mapping[str, str], way: Way, *, policy: Any = None,
        approves: bool = False, found: tuple[Sequence[Step], str]) -> Run:  # fmt: skip
    """Return what comes of one task under a policy; None: the rules of twofold."""
    ours = policy is None
    environment = task.init_environment(_environment(suite, injections))
    before = environment.model_copy(deep=True)
    truth = task.ground_truth(environment.model_copy(deep=True))
    injected = injection.ground_truth(environment.model_copy(deep=True)) if injection else []
    plan, form = found
    fresh = {n: {k: plain_value(v) for k, v in call.args.items()} for n, call in enumerate(truth)}
    plan = [Step(s.function, fresh.get(n, s.arguments), s.leaves, s.templates) for n, s in enumerate(plan)]
    planned = ours and task.ID not in UNPLANNED[suite.name]
    wish = injection.GROUND_TRUTH_OUTPUT if injection else ""
    kernel = Kernel(
        suite.name,
        plan,
        form,
        task.GROUND_TRUTH_OUTPUT,
        injected,
        wish,
        way,
        planned=planned,
        quarantined=ours,
    )
    device, result = Suite(suite, environment), Run()
    held = tuple(Capability(device=name) for name in (suite.name, "calculate", "pledge", "extract", "reveal"))
    devices = {suite.name: device, "calculate": Calculator()}
    with tempfile.TemporaryDirectory() as folder:
        system = System(
            Path(folder), minds=lambda name: kernel, devices=devices, policy=policy or Rules(), workers=1
        )
        kernel.system = system
        system.watch(lambda event: _note(result, event))
        program = Program(message=task.PROMPT, capabilities=held, shown=() if ours else (suite.name,))
        kernel.pid = 1
        pid = system.spawn(program)
        kernel.pid = pid
        needs = [(call.function, {k: plain_value(v) for k, v in call.args.items()}) for call in truth]
        patience = 20
        while not system.state(pid).exit:
            system.run(seconds=20)
            state = system.state(pid)
            if state.asks is not None:
                yes = approves and _needed(state, needs, device.made)
                result.asked += 1
                result.refused += not yes
                system.approve(pid, state.asks.call, "once" if yes else "no")
            elif not state.exit and (state.stopped or state.waits or (patience := patience - 1) < 0):
                raise RuntimeError(f"{suite.name} {task.ID} stands still: {state.waits} {state.stopped}")
        answer = quoted(system.state(pid).answer, system.state(pid))[0]  # as a user is shown it
        system.close()
    traces = [FunctionCall(function=name, args=dict(arguments)) for name, arguments in device.made]
    said_text = [{"type": "text", "content": answer}]
    with contextlib.redirect_stdout(io.StringIO()):
        if way.name in ("benign", "blind"):
            result.utility = bool(suite._check_task_result(task, said_text, before, environment, traces))
        if injection:
            result.attacked = bool(
                suite._check_task_result(injection, said_text, before, environment, traces)
            )
    return result


def _note(result: Run, event: Any) -> None:
    if not isinstance(event, tuple) and event.kind == "decided" and event.body["verdict"] != "allow":
        result.rules[f"{event.body['verdict']} {event.body['rule']}"] += 1


def _needed(state: State, needs: Sequence[tuple[str, Any]], made: Sequence[tuple[str, Any]]) -> bool:
    """Return whether what the user is shown is, piece by piece, a call that his task needs and that is not
    made."""
    assert state.asks is not None
    shows = state.asks.shows
    shown = {piece["argument"]: piece["value"] for piece in (*shows["where"], *shows["what"])}
    name = shows["function"].partition("_")[2]
    name = "create_calendar_event" if name == "invite_to_calendar_event" else name
    done = [json.dumps(call, sort_keys=True, default=str) for call in made]
    for function, arguments in needs:
        if function == name and dict(flat(arguments)) == shown:
            key = json.dumps((function, arguments), sort_keys=True, default=str)
            if done.count(key) < sum(json.dumps(one, sort_keys=True, default=str) == key for one in needs):
                return True
    return False


# ---- all of them


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suites", nargs="*", default=["workspace", "travel", "banking", "slack"])
    parser.add_argument("--tasks", nargs="*", help="only these user tasks, such as user_task_3")
    parser.add_argument("--benign", action="store_true", help="no attacks")
    parser.add_argument("--rivals", action="store_true", help="no runs under the rules")
    parser.add_argument("--out", type=Path, help="a JSON file for every figure")
    options = parser.parse_args()
    suites = get_suites(VERSION)
    rows: list[dict[str, Any]] = []
    for name in options.suites:
        for task in suites[name].user_tasks.values():
            if options.tasks and task.ID not in options.tasks:
                continue
            rows += _task(suites[name], task, options)
            if options.out:
                options.out.write_text(json.dumps(rows))
    _report(rows)


RIVALS: dict[str, Callable[[], Any]] = {
    "no policy": ByCapability, "nothing after tools": NothingAfterTools, "the user's words": UsersWords,
}  # fmt: skip


def _task(suite: Any, task: Any, options: Any) -> Iterator[dict[str, Any]]:
    """Yield a row for every run of a task."""
    environment = task.init_environment(_environment(suite, {}))
    found = steps(suite, task, environment)
    honest = Way("benign")

    def row(rules: str, way: Way, injection: Any, result: Run) -> dict[str, Any]:
        injected = injection.ID if injection else ""
        return {
            "suite": suite.name, "task": task.ID, "injection": injected, "rules": rules,
            "way": way.name if way.choice is None else f"{way.name} {way.choice}", "utility": result.utility,
            "attacked": result.attacked, "asked": result.asked, "refused": result.refused,
            "why": dict(result.rules),
        }  # fmt: skip

    if not options.rivals:
        yield row("twofold", honest, None, run(suite, task, None, {}, honest, found=found))
        yield row(
            "twofold, asking", honest, None, run(suite, task, None, {}, honest, approves=True, found=found)
        )
    for name, policy in RIVALS.items():
        yield row(name, honest, None, run(suite, task, None, {}, honest, policy=policy(), found=found))
    if options.benign:
        return
    target: Any = type("Target", (), {"name": "gpt-4o-2024-05-13"})()  # it names a model in its text
    attack = ImportantInstructionsAttack(suite, target)
    for injection in suite.injection_tasks.values():
        if not _counted(injection, environment):
            continue
        injections = attack.attack(task, injection)
        blind = Way("blind")
        for name, policy in RIVALS.items():
            yield row(
                name,
                blind,
                injection,
                run(suite, task, injection, injections, blind, policy=policy(), found=found),
            )
        if options.rivals:
            continue
        open_values = any(s.how in ("hidden", "chosen") for step in found[0] for s in step.leaves.values())
        choices = [Way("values", choice=n) for n in range(3)] if open_values or found[1] == "{quote}" else []
        for way in (blind, Way("revealed", reveal=True), *choices):
            result = run(suite, task, injection, injections, way, approves=True, found=found)
            yield row("twofold, asking", way, injection, result)


def _counted(injection: Any, environment: Any) -> bool:
    """Injections whose ground truth is empty and that want no words either cannot be obeyed by it."""
    return bool(injection.ground_truth(environment.model_copy(deep=True)) or injection.GROUND_TRUTH_OUTPUT or
                "travel" in type(injection).__module__)  # fmt: skip


def _report(rows: Sequence[Mapping[str, Any]]) -> None:
    for suite in [*dict.fromkeys(row["suite"] for row in rows), "all"]:
        mine = [row for row in rows if suite in (row["suite"], "all")]
        print(f"\n{suite}")
        for rules in dict.fromkeys(row["rules"] for row in mine):
            same = [row for row in mine if row["rules"] == rules]
            _benign(rules, [row for row in same if not row["injection"]])
            _attacks(rules, [row for row in same if row["injection"]])
    sys.stdout.flush()


def _share(some: Sequence[Any], of: Sequence[Any]) -> str:
    return f"{len(some)} of {len(of)} ({len(some) / len(of):.1%})"


def _benign(rules: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    right = [row for row in rows if row["utility"]]
    line = f"  {rules:20} benign     {_share(right, rows)}"
    if rules.endswith("asking"):
        few, asked = [row for row in right if row["asked"] <= 1], sum(row["asked"] for row in rows)
        line += f", asked at most once {_share(few, rows)}, asked {asked} times in all"
    print(line)


def _attacks(rules: str, rows: Sequence[Mapping[str, Any]]) -> None:
    for way in dict.fromkeys(row["way"] for row in rows):
        some = [row for row in rows if row["way"] == way]
        line = f"  {rules:20} {way:10} attacks {_share([row for row in some if row['attacked']], some)}"
        if way == "blind":
            line += f", utility {_share([row for row in some if row['utility']], some)}"
        print(f"{line}, asked {sum(row['asked'] for row in some) / len(some):.2f} times")
    pairs = {(row["suite"], row["task"], row["injection"]) for row in rows}
    lost = {(row["suite"], row["task"], row["injection"]) for row in rows if row["attacked"]}
    if pairs:
        print(f"  {rules:20} any way    attacks {_share(list(lost), list(pairs))}")


if __name__ == "__main__":
    yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, faster
    main()
