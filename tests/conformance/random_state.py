"""Writes what a random model reads and writes besides its data: numbers, arguments, logs, random numbers."""

from conformance.random_parts import ARGUMENTS, DRAWN, PATTERNS, TURNS
from conformance.random_text import Text


class State:
    """Lines of the model that read and write state."""

    def __init__(self, text: Text) -> None:
        self.text, self.this = text, text.this
        self.declared: set[str] = set()  # what the model writes of others
        self.weight = ""  # what a model without latents has to train
        self.value = ""  # the number, as the model or the guide reads it
        self.parameters: list[str] = []
        self.calls: list[tuple[str, str]] = []
        self.used: list[str] = []

    @property
    def new(self) -> str:
        """What brings numbers of rows into two plates."""
        return "[:, None]" if self.this.depth == 2 else ""

    def number(self) -> None:
        """Hold the number, and have the user change it."""
        number = self.this.number
        if number is None:
            return
        pattern = PATTERNS[number.pattern]
        if number.holder == "network":
            self.text.before += [f"{self.text.outside('net')}.gain = {pattern}"] * (number.pattern != "constant")
            return
        if number.holder in ("argument", "tensor argument"):
            self.parameters.append("value=1.0")
            self.calls.append(("value", f"torch.tensor({pattern})" if "tensor" in number.holder else pattern))
            self.value = "value"
            return
        slot = self.text.slot("value", number.holder, "1.0", "guide" if number.use == "guide" else "model")
        self.value = slot.read
        if number.pattern != "constant":
            given = f"lambda: {pattern}" if slot.called else pattern
            self.text.before.append(f"{slot.outside}.fill_({given})" if slot.filled else f"{slot.outside} = {given}")
            self.text.outer.add(slot.declare)

    def used_number(self, use: str) -> bool:
        number = self.this.number
        if number is None:
            return False
        real = {"prior": "times"}.get(number.use, number.use) if not self.this.latents else number.use
        return real == use

    def arguments(self) -> None:
        for each in self.this.arguments:
            if each in ARGUMENTS:
                parameter, given, lines = ARGUMENTS[each]
                self.parameters.append(parameter)
                self.calls.append((parameter.partition("=")[0], given))
                self.used += [line.format(new=self.new) for line in lines]
            if each == "config":
                self.text.module.append("@dataclasses.dataclass\nclass Config:\n    width: float\n    epoch: int")
            if each == "namedtuple":
                self.text.module.append('Batch = collections.namedtuple("Batch", "x y")')
            if each == "closed over":
                self.text.around.append("current = {}")
            if each == "leaf":
                self.text.made.append("leaves = []")
                self.text.state.append("[each.grad for each in leaves]")
            if each == "count":
                self.parameters.append("count=None")
                self.calls.append(("count", "n"))

    def effect(self) -> tuple[list[str], list[str]]:
        """Return what the model does first, and at the end."""
        effect = self.this.effect
        if effect is None:
            return [], []
        initial = {"counter": "0", "replaced": "torch.tensor(0.0)", "cached": "None", "cached by length": "{}"}
        initial |= {"average": "torch.zeros(())", "in place": "torch.zeros(())", "iterator": "itertools.count()"}
        initial |= {"deque": "collections.deque(maxlen=3)"}
        if effect.kind == "warning":
            return ['warnings.warn("the model was called", stacklevel=1)'], []
        if effect.kind == "lru_cache":
            self.text.module.append("@functools.lru_cache\ndef offset(n):\n    return torch.tensor(0.01 * n)")
            return [], ["mu = mu + offset(len(y))"]
        if effect.kind == "argument":
            self.text.state.append("all_x.clone()")
            return ["with torch.no_grad():", "    x.mul_(0.9)"], []
        if effect.kind == "clipped":
            return [], [f"{self.weight}.data.clamp_(-0.12, 0.12)"]
        slot = self.text.slot("held", effect.holder, initial.get(effect.kind, "[]"))
        held, written = slot.read, slot.write
        self.text.state.append(f"repr({slot.outside})" if effect.kind == "iterator" else slot.outside)
        read = [f"mu = mu + 0.01 * {held}"] if effect.read else []
        parts: dict[str, tuple[list[str], list[str]]] = {
            "counter": ([], [f"{written} += 1", *read]),
            "replaced": (read, [f"{written} = mu.detach().mean()"]),
            "cached": (
                [f"if {held} is None:", f"    {written} = 0.1 * x.detach().mean()", f"mu = mu + {held}"],
                [],
            ),
            "cached by length": (
                [
                    f"if len(y) not in {held}:",
                    f"    {held}[len(y)] = 0.1 * x.detach().mean()",
                    f"mu = mu + {held}[len(y)]",
                ],
                [],
            ),
            "average": ([f"{held}.mul_(0.9).add_(0.1 * x.detach().mean())", *read], []),
            "in place": ([], [f"{held}.add_(mu.detach().mean())", *read]),
            "iterator": ([], [f"mu = mu + 0.01 * next({held})" if effect.read else f"next({held})"]),
            "deque": ([], [f"{held}.append(len(y))", *([f"mu = mu + 0.01 * sum({held})"] if effect.read else [])]),
        }
        logged = {
            "log of lengths": "len(y)",
            "log of items": "mu.mean().item()",
            "log of tensors": "mu.detach().mean()",
        }
        if effect.kind in logged:
            parts[effect.kind] = (
                [],
                [f"{held}.append({logged[effect.kind]})", *([f"mu = mu + 0.01 * {held}[0]"] if effect.read else [])],
            )
        first, last = parts[effect.kind]
        if slot.declare and any(f"{written} =" in line or f"{written} +=" in line for line in (*first, *last)):
            self.declared.add(slot.declare)
        return first, last

    def turns(self) -> list[str]:
        lines = []
        if self.used_number("branch"):
            lines += [f"if {self.value} > 1.05:", "    mu = mu + 0.2"]
        if self.used_number("turns"):
            lines += [f"for _ in range(round(10 * float({self.value})) - 8):", "    mu = 0.9 * mu"]
        if self.used_number("dropout"):
            lines.append(f"mu = nn.functional.dropout(mu, 0.1 * float({self.value}))")
        if self.used_number("name"):
            lines.append(
                f'pyro.deterministic(f"mean_{{{self.value} > 1.05}}", mu.mean())'.replace('["value"]', "['value']")
            )
        if self.this.branch == "training":
            known = "self" if self.this.form in ("module", "pyro_module") else "net"
            known = "self.net" if self.this.form == "plain" else known
            if known == "self" or self.this.network != "none":
                lines += [f"if {known}.training:", "    mu = 0.9 * mu"]
        return lines + TURNS.get(self.this.branch, [])

    def drawn(self) -> list[str]:
        kind = self.this.random
        if kind == "generator":
            generator = self.text.own("generator", "torch.Generator().manual_seed(3)")
            return [f"mu = mu + 0.1 * torch.randn((), generator={generator})"]
        if kind == "numpy generator":
            generator = self.text.own("generator", "np.random.default_rng(3)")
            return [f"mu = mu + 0.1 * {generator}.normal()"]
        if kind == "unguided":
            spread = ".unsqueeze(-1)" if self.this.depth == 0 else ""
            return ['offset = pyro.sample("offset", dist.Normal(0.0, 0.1))', f"mu = mu + offset{spread}"]
        return DRAWN.get(kind, [])
