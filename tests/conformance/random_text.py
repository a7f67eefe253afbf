"""The parts of a source, as lines, and the places where it holds values."""

import textwrap
from dataclasses import dataclass, field

from conformance.random_models import Description


@dataclass
class Slot:
    """Where a value is held: how the model reads it, how it writes it, how others do, and what writing needs first."""

    read: str
    write: str
    outside: str
    declare: str = ""
    filled: bool = False  # in place, as a tensor
    called: bool = False  # a function that gives the value


@dataclass
class Text:
    """The parts of the module, as lines."""

    this: Description
    module: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    body: dict[str, list[str]] = field(default_factory=lambda: {"model": [], "guide": []})
    init: dict[str, list[str]] = field(default_factory=lambda: {"model": [], "guide": []})
    default: dict[str, list[str]] = field(default_factory=lambda: {"model": [], "guide": []})
    before: list[str] = field(default_factory=list)
    outer: set[str] = field(default_factory=set)  # what `before` declares
    watched: list[str] = field(default_factory=list)
    state: list[str] = field(default_factory=list)

    @property
    def is_object(self) -> bool:
        return self.this.form in ("plain", "module", "pyro_module")

    def owner(self, side: str) -> str:
        """Return the name of the object that has a side's attributes."""
        return side if self.this.form == "pyro_module" else "pair"

    @property
    def around(self) -> list[str]:
        """Where functions find what is not theirs."""
        return self.module if self.this.form == "globals" else self.made

    def own(self, name: str, value: str, side: str = "model") -> str:
        """Make something that one side owns, a network; return how that side names it."""
        if self.is_object:
            self.init[side if self.this.form == "pyro_module" else "model"].append(f"self.{name} = {value}")
            return f"self.{name}"
        self.around.append(f"{name} = {value}")
        return name

    def outside(self, name: str, side: str = "model") -> str:
        """Return how others name it."""
        return f"{self.owner(side)}.{name}" if self.is_object else name

    def parameter(self, name: str, value: str, constraint: str = "", side: str = "model") -> str:
        """Return the expression for a parameter of one side."""
        more = f", constraint=constraints.{constraint}" if constraint else ""
        if self.this.form == "pyro_module":
            self.init[side].append(f"self.{name} = PyroParam({value}{more})")
            return f"self.{name}"
        return f'pyro.param("{name}", {value}{more})'

    def slot(self, name: str, holder: str, initial: str, side: str = "model") -> Slot:
        """Make a place for a value."""
        if holder == "callable":
            held = self.slot(name, "attribute" if self.is_object else "cell", f"lambda: {initial}", side)
            return Slot(f"{held.read}()", held.write, held.outside, held.declare, called=True)
        if not self.is_object and holder == "cell" and self.this.form == "globals":
            holder = "global"
        if holder == "attribute" and self.is_object:
            attribute = self.own(name, initial, side)
            return Slot(attribute, attribute, self.outside(name, side))
        if holder == "class" and self.is_object:
            self.body[side if self.this.form == "pyro_module" else "model"].append(f"{name} = {initial}")
            return Slot(f"self.{name}", f"type(self).{name}", f"type({self.owner(side)}).{name}")
        if holder in ("cell", "global"):
            (self.made if holder == "cell" else self.module).append(f"{name} = {initial}")
            return Slot(name, name, name, f"{'nonlocal' if holder == 'cell' else 'global'} {name}")
        return self._held(name, holder, initial, side)

    def _held(self, name: str, holder: str, initial: str, side: str) -> Slot:
        kind = name.capitalize()
        if holder == "class":
            self.module.append(f"class {kind}:\n    value = {initial}")
            return Slot(*(f"{kind}.value",) * 3)
        if holder == "dataclass":
            self.module.append(f"@dataclasses.dataclass\nclass {kind}:\n    value: object = None")
            self.around.append(f"{name} = {kind}(value={initial})")
            return Slot(*(f"{name}.value",) * 3)
        if holder == "property":
            lines = f"    now = {initial}\n    @property\n    def value(self):\n        return self.now"
            self.module.append(f"class {kind}:\n{lines}")
            self.around.append(f"{name} = {kind}()")
            return Slot(f"{name}.value", f"{name}.now", f"{name}.now")
        if holder == "default":
            self.module.append(f'{name}_default = {{"value": {initial}}}')
            self.default[side].append(f"{name}={name}_default")
            return Slot(f'{name}["value"]', f'{name}["value"]', f'{name}_default["value"]')
        if holder in ("tensor", "buffer") or holder == "numpy":
            return self._array(name, holder, initial, side)
        made = {
            "dict": f'{{"value": {initial}}}',
            "function": f'{{"value": {initial}}}',
            "list": f"[{initial}]",
            "attribute": f"types.SimpleNamespace(value={initial})",
        }
        self.around.append(f"{name} = {made[holder]}")
        item = {"list": f"{name}[0]", "attribute": f"{name}.value"}.get(holder, f'{name}["value"]')
        if holder == "function":
            self.around.append(f"def current_{name}():\n    return {item}")
            return Slot(f"current_{name}()", item, item)
        return Slot(item, item, item)

    def _array(self, name: str, holder: str, initial: str, side: str) -> Slot:
        if holder == "numpy":
            self.around.append(f"{name} = np.array([{initial}])")
            return Slot(f"float({name}[0])", f"{name}[0]", f"{name}[0]")
        if holder == "buffer" and self.this.form in ("module", "pyro_module"):
            where = side if self.this.form == "pyro_module" else "model"
            self.init[where].append(f'self.register_buffer("{name}", torch.tensor({initial}))')
            return Slot(f"self.{name}", f"self.{name}", self.outside(name, side), filled=True)
        self.around.append(f"{name} = torch.tensor({initial})")
        return Slot(name, name, name, filled=True)


def indented(lines: list[str], levels: int = 1) -> list[str]:
    return [textwrap.indent(line, "    " * levels) for line in lines]
