"""A conversation in the terminal: turns, what stands in the model's window, commands with a slash."""

import functools
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.text import Text

from twofold.base.errors import TwofoldError, UsageError
from twofold.base.names import nearest
from twofold.cli import labelling, models, streaming, terminal, thinking
from twofold.tokens.specials import END_OF_TEXT
from twofold.tokens.speech import begins_a_call

if TYPE_CHECKING:
    from twofold.cli.labelling import Labeller
    from twofold.kernel.talk import Talk as Window
    from twofold.measure.attempts import Prompts
    from twofold.measure.judge import Judge
    from twofold.run import Engine, Sampler, Step
    from twofold.think import Budget

GREETING = "Who are you?"
COMMANDS = {
    "/help": "show this list",
    "/fix TEXT": "say what the last answer should have been; `twofold tune` learns it",
    "/compare": "let the model answer the last question once more, and see both answers side by side",
    "/better": "the left one of the two, the last answer, is better than the other",
    "/worse": "it is worse: the right one is better, and takes its place",
    "/why TEXT": "add a reason to the last label",
    "/probs": "show how likely each token of the last answer was, and what else it could have been",
    "/think 5s": "let every answer cost 5s, 2m or a number of tokens, to be better; /think off",
    "/reset": "forget the conversation and start anew",
    "/exit": "leave (so does Ctrl-D)",
}


class Spoken(Protocol):
    """An answer that was shown."""

    text: str
    interrupted: bool


class Talk(ABC):
    """The messages so far, whoever answers them. `other`: another answer to the last question."""

    def __init__(self, system: str | None) -> None:
        """Start an empty conversation, with the system's instructions if there are any."""
        self.other: str | None = None
        self._system = system
        self.messages: list[dict[str, Any]] = []
        self.reset()

    def reset(self) -> None:
        """Forget everything but the system's instructions."""
        self.other = None
        self.messages = [{"role": "system", "content": self._system}] if self._system else []

    def question(self) -> list[dict[str, Any]]:
        """Return the conversation up to the last answer. Raises UsageError when there is none yet."""
        if not self.messages or self.messages[-1]["role"] != "assistant":
            raise UsageError("There is no answer yet that could be labelled.")
        return self.messages[:-1]

    def replace_answer(self, text: str) -> None:
        """Go on as if the model had said `text`."""
        self.messages[-1] = {"role": "assistant", "content": text}
        self.other = None

    @abstractmethod
    def answer(self, prompt: str, notes: Console) -> Spoken:
        """Stream the answer to `prompt` to standard output and return it."""

    @abstractmethod
    def again(self) -> str:
        """Return another answer to the last question; the conversation stays as it is. Raises UsageError."""

    @abstractmethod
    def welcome(self, name: str, notes: Console) -> None:
        """Say who answers."""

    @abstractmethod
    def obey_think(self, wanted: str) -> str:
        """Set what an answer may cost ("off", "5s"; empty changes nothing), and return what holds now."""

    @abstractmethod
    def show_probabilities(self, console: Console) -> None:
        """Show how likely each token of the last answer was."""


class Conversation(Talk):
    """The messages so far and the engine that answers them."""

    def __init__(
        self,
        engine: "Engine",
        chosen: models.Generation,
        system: str | None = None,
        budget: "Budget | None" = None,
        widen: "Callable[[], Engine] | None" = None,
    ) -> None:
        """Start an empty conversation. Raises UsageError when the model has no chat template.

        `budget`: what an answer may cost, beyond the first that comes to mind. `widen` opens an engine with
        room to think, for when the first one has none.
        """
        if not engine.tokenizer.vocabulary.chat_template:
            raise UsageError("This model has no chat template; `twofold complete` lets it go on with a text.")
        self.engine = engine
        self.chosen = chosen
        self.last: streaming.Printer | None = None
        self.in_the_box = False
        self.budget, self._widen = budget, widen
        self.judge: Judge | None = None  # who chooses among several answers
        self._turn = 0
        self._window: Window | None = None
        super().__init__(system)

    @property
    def is_base(self) -> bool:
        """Whether the model was only pretrained: its end token is the end of a document, not of a turn."""
        vocabulary = self.engine.tokenizer.vocabulary
        return vocabulary.eos_id is not None and vocabulary.tokens[vocabulary.eos_id] == END_OF_TEXT

    def reset(self) -> None:
        """Forget everything but the system's instructions."""
        super().reset()
        self.last = self._window = None
        self._out = 0  # messages, or parts of long ones, that are kept outside the window

    def fit(self) -> tuple[list[int], int, int]:
        """Return the ids of the conversation, how many parts of it are not in the window, so that an answer
        fits, and how many the question has brought back.

        What leaves is kept: the pager (kernel/pager.py) brings it back when it is asked for. Raises
        UsageError when the last message alone is too long."""
        return self._fitted(self.messages)

    def _fitted(self, messages: list[dict[str, Any]]) -> tuple[list[int], int, int]:
        def ids_of(shown: Sequence[Mapping[str, Any]]) -> list[int]:
            return self.engine.tokenizer.chat(shown, add_generation_prompt=True)

        context = self.engine.context
        room = context - min(self.chosen.max_tokens, max(1, context // 4))
        ids = ids_of(messages)
        if self._window is None and len(ids) <= room:
            return ids, 0, 0
        from twofold.kernel.talk import Talk as Window

        self._window = self._window or Window()
        try:
            shown, out, back = self._window.window(messages, room, lambda some: len(ids_of(some)))
        except TwofoldError:
            raise UsageError(
                f"That is {len(ids_of(messages[-1:])):,} tokens, and the model sees {context:,} with room "
                "for its answer: say it shorter."
            ) from None
        return ids_of(shown), out, back

    def _sampler(self) -> "Sampler":
        """Return the sampler of the next answer; each has a seed of its own. No tool is on offer here, so a
        model that was taught to call some begins no call."""
        assert self.chosen.seed is not None
        self._turn += 1
        chosen = models.sampler(replace(self.chosen, seed=self.chosen.seed + self._turn - 1))
        return chosen.without(begins_a_call(self.engine.tokenizer))

    def again(self) -> str:
        """Return another answer to the last question; the conversation stays as it is. Raises UsageError."""
        ids, _, _ = self._fitted(self.question())
        room = min(self.chosen.max_tokens, self.engine.context - len(ids))
        text = "".join(self.engine.stream(ids, max_tokens=room, sampler=self._sampler()))
        self.other = text.strip()
        return self.other

    def answer(self, prompt: str, notes: Console) -> streaming.Printer:
        """Stream the answer to `prompt` to standard output and return what was printed.

        A prompt that does not fit leaves the conversation as it was.
        """
        before = list(self.messages)
        self.messages.append({"role": "user", "content": prompt})
        try:
            ids, out, back = self.fit()
        except TwofoldError:
            self.messages = before
            raise
        if out > self._out or back:
            came = f"; {back} came back, as you ask for it" if back else ""
            notes.print(f"[dim]The window is full: {out} earlier messages are kept outside it{came}.[/]")
        self._out = out
        self.other = None
        stop = self.engine.tokenizer.stop_ids
        printer = streaming.Printer(self.engine.tokenizer, stop, streaming.to_stdout, terminal.columns())
        answer = {"role": "assistant"}
        if self.budget is None:
            room, sampler = min(self.chosen.max_tokens, self.engine.context - len(ids)), self._sampler()
            steps = self.engine.generate(ids, max_tokens=room, sampler=sampler, stop_ids=stop)
            if self.judge is not None:
                steps = self._best(self.judge, ids, room, sampler)
            printer.run(steps, colour=sys.stdout.isatty(), strip=True)
            how = printer.speed() + _ending(printer, room)
        else:
            how, thought = self._think(prompt, ids, printer, notes)
            answer |= {"reasoning_content": thought} if thought else {}
        streaming.to_stdout("\n")
        self.messages.append({**answer, "content": printer.text})
        self.last = printer
        notes.print(Text(terminal.clean(how), "dim"))
        return printer

    def think(self, budget: "Budget | None") -> None:
        """Let every answer from now on cost so much; None: the first that comes to mind."""
        if budget is not None and self.engine.sequences < 2 and self._widen is not None:
            self.engine = self._widen()
        self.budget = budget

    def obey_think(self, wanted: str) -> str:
        """Set what an answer may cost ("off", "5s"; empty changes nothing), and return what holds now."""
        from twofold.think import Budget

        if wanted:
            self.think(None if wanted == "off" else Budget.parse(wanted))
        now = f"may cost {self.budget.spell()}" if self.budget else "is the first that comes to mind"
        return f"Every answer {now}."

    def show_probabilities(self, console: Console) -> None:
        """Show how likely each token of the last answer was. Raises UsageError when there is none."""
        if self.last is None:
            raise UsageError("There is no answer yet.")
        streaming.print_probabilities(console, self.engine.tokenizer, self.last.steps)

    def welcome(self, name: str, notes: Console) -> None:
        """Say what model it is."""
        facts = (
            f"{terminal.count(self.engine.config.parameters)} parameters, "
            f"window of {self.engine.context:,} tokens"
        )
        notes.print(Text.assemble(("twofold", "bold"), f" · {name} · {facts} · offline"))
        if self.in_the_box:
            notes.print(
                "[yellow]A very small model: it writes English and makes things up. "
                "Believe nothing it says.[/]"
            )
        elif self.is_base:
            notes.print("[yellow]A base model: it was taught to go on with text, not to take turns.[/]")

    @functools.cached_property
    def _prompts(self) -> "Prompts":
        """What the model reads for a text that is no person's: without Jinja, which takes longer."""
        from twofold.measure.attempts import Prompts

        return Prompts(self.engine.tokenizer)

    def _think(
        self, prompt: str, ids: list[int], printer: streaming.Printer, notes: Console
    ) -> tuple[str, str]:
        """Print the answer that the budget finds; return how it was found, and the thoughts."""
        from twofold.environments import Episode, Problem
        from twofold.think import ask

        assert self.budget is not None

        def asked(text: str) -> list[int]:
            episode = Episode(Problem(text, "", {}))
            episode.messages[:0] = self.messages[:1] if self._system else []
            return self._prompts.ids(episode)

        judge = self.judge
        scorer = None if judge is None else lambda texts: judge.rewards([(self.messages, t) for t in texts])
        question, sampler = ask(prompt, ids, asked, scorer=scorer), self._sampler()
        outcome = thinking.spend(self.engine, question, self.budget, sampler, self.chosen, notes)
        how = thinking.show(outcome, self.engine, ids, sampler, printer, notes, strip=True)
        return how, outcome.found.thought if outcome.found else ""

    def _best(self, judge: "Judge", ids: list[int], room: int, sampler: "Sampler") -> "Iterator[Step]":
        """Yield the tokens of the best of several answers, which are drawn by temperature alone."""
        from twofold.measure.judge import best_answer
        from twofold.run import Step

        best = best_answer(
            self.engine, judge, self.messages, ids, n=self.chosen.best_of, seed=sampler.seed, max_tokens=room,
            temperature=sampler.temperature,
        )  # fmt: skip
        yield from (Step(token, math.exp(ln_p), ()) for token, ln_p in zip(best.ids, best.log_p, strict=True))


def _ending(printer: streaming.Printer, room: int) -> str:
    """Return why the answer ended, for the line below it, or nothing when the model ended it itself."""
    if printer.interrupted:
        return ", stopped by you"
    return ", cut at the limit" if not printer.stopped and len(printer.steps) >= room else ""


def one_shot(chat: Talk, prompt: str, notes: Console) -> None:
    """Answer one prompt. Raises KeyboardInterrupt when Ctrl-C stopped the answer."""
    notes.print(Text(f"» {terminal.clean(prompt)}", "cyan"))
    if chat.answer(prompt, notes).interrupted:
        raise KeyboardInterrupt


def loop(chat: Talk, name: str, notes: Console, labeller: "Labeller") -> None:
    """Read prompts from the keyboard and answer them until the user leaves."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")  # bytes that are no text are no reason to leave
    prompt = _prompt()
    chat.welcome(name, notes)
    notes.print("[dim]/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.[/]\n")
    impatient = False
    while True:
        try:
            line = input(prompt).strip()
            impatient = False
        except EOFError:
            notes.print()
            return
        except KeyboardInterrupt:
            if impatient:
                raise
            impatient = True
            notes.print("\n[dim]Ctrl-C once more leaves; so does /exit.[/]")
            continue
        if line == "/exit":
            return
        try:
            if line.startswith("/"):
                _obey(line, chat, notes, labeller)
            elif line:
                chat.answer(line, notes)
        except TwofoldError as error:
            notes.print(Text(terminal.clean(str(error)), "red"))
        notes.print()


def _obey(line: str, chat: Talk, notes: Console, labeller: "Labeller") -> None:
    """Do what a line with a slash says."""
    command, _, text = line.partition(" ")
    if command == "/help":
        for name, meaning in COMMANDS.items():
            notes.print(Text(f"  {name:<11}", "cyan").append(meaning, "default"))
    elif command == "/reset":
        chat.reset()
        notes.print("[dim]The conversation is forgotten.[/]")
    elif command in labelling.COMMANDS:
        labeller.obey(command, text.strip(), chat, notes)
    elif command == "/think":
        notes.print(f"[dim]{chat.obey_think(text.strip())}[/]")
    elif command == "/probs":
        chat.show_probabilities(terminal.console())
    else:
        guess = nearest(command, [name.split()[0] for name in COMMANDS])
        raise UsageError(
            f"There is no command {command}; {f'did you mean {guess}?' if guess else 'see /help.'}"
        )


def _prompt() -> str:
    """Return the prompt; importing readline gives `input` line editing and history."""
    try:
        import readline  # noqa: F401
    except ImportError:
        return "» "
    # \001 and \002 tell readline that what is between them takes no room on the line.
    return "\001\x1b[1;36m\002» \001\x1b[0m\002" if sys.stdout.isatty() else "» "
