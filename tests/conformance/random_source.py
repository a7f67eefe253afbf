"""A description of `random_models`, written as the module that a user would have written."""

import linecache
import sys
import types
from collections.abc import Callable
from itertools import count
from typing import Any

from conformance.harness import Setup
from conformance.random_models import DISCRETE, Description
from conformance.random_pair import Pair
from conformance.random_parts import AUTO, IMPORTS, NESTED, NETWORKS, OBSERVED, OPTIMIZERS, ROWS
from conformance.random_text import Text, indented


def _objective(this: Description) -> list[str]:
    nesting = (
        f", max_plate_nesting={this.depth}" if this.nesting_given or this.enumerates or this.objective == "rws" else ""
    )
    options = f"num_particles={this.particles}, vectorize_particles={this.vectorised}{nesting}"
    kinds = {"meanfield": "TraceMeanField_ELBO", "enum": "TraceEnum_ELBO", "graph": "TraceGraph_ELBO"}
    kinds |= {"renyi": "RenyiELBO", "rws": "ReweightedWakeSleep"}
    more = {"renyi": "alpha=0.5, ", "rws": "insomnia=1.0, model_has_params=True, "}.get(this.objective, "")
    lines = [f"elbo = {kinds.get(this.objective, 'Trace_ELBO')}({more}{options})"]
    if this.objective == "differentiable":
        return [*lines, "loss = elbo.differentiable_loss"]
    if this.objective == "penalised":
        penalty = "sum(value.pow(2).sum() for value in pyro.get_param_store().values())"
        body = ["value = elbo.differentiable_loss(model, guide, *args, **kwargs)", f"return value + 0.01 * {penalty}"]
    elif this.objective == "by hand":
        body = [
            "posterior = poutine.trace(guide).get_trace(*args, **kwargs)",
            "joint = poutine.trace(poutine.replay(model, trace=posterior)).get_trace(*args, **kwargs)",
            "return posterior.log_prob_sum() - joint.log_prob_sum()",
        ]
        lines = []
    else:
        return [*lines, "loss = elbo"]
    return [*lines, "def loss(model, guide, *args, **kwargs):", *indented(body)]


def _event(text: Text) -> None:
    """Write what the user does once."""
    this, net = text.this, text.outside("net")
    at = f"if step == {this.event_step}:"
    events = {
        "eval": [f"{net}.eval()"],
        "layer": [f"{net}[-1] = nn.Linear(4, 1)"],
        "network": [f"{net} = {NETWORKS.get(this.network, '').format(c=this.columns)}"],
        "freeze": [f"{net}.requires_grad_(False)"],
        "clear": ["pyro.clear_param_store()"],
        "load": ["pyro.get_param_store().set_state(copy.deepcopy(saved))"],
        "weights": ["with torch.no_grad():", f"    {net}[-1].weight.mul_(0.5)"],
        "load weights": [f"{net}.load_state_dict(saved)"],
        "parameter": [f"{net}[-1].weight = nn.Parameter(torch.zeros(1, 4))"],
        "validation": ["pyro.enable_validation(False)"],
        "particles": ["elbo.num_particles = 3"],
        "learning rate": [
            "for each in optim.optim_objs.values():",
            '    getattr(each, "optimizer", each).param_groups[0]["lr"] = 0.001',
        ],
        "seed": ["pyro.set_rng_seed(7)"],
        "hook": [f"{net}.register_forward_hook(lambda module, given, made: 0.9 * made)"],
        "forward": [f"{net}[-1].forward = lambda value: 0.5 * value.sum(-1, keepdim=True)"],
        "rate": [f"{net}[2].p = 0.5"],
    }
    if this.event not in events:
        return
    if this.event == "network" and not text.is_object:
        text.outer.add("global net" if this.form == "globals" else "nonlocal net")
    if this.event == "load":
        text.made.append("saved = {}")
        text.before += ["if step == 1:", "    saved.update(copy.deepcopy(pyro.get_param_store().get_state()))"]
        at = f"if step == {max(2, this.event_step)}:"
    text.before += [at, *indented(events[this.event])]
    if this.event == "eval":
        text.before += [f"if step == {this.event_step + 2}:", f"    {net}.train()"]


def _data(this: Description) -> list[str]:
    """Return the lines of what makes a step's data, as they should be."""
    data = OBSERVED[this.observed][1]
    size = "n" if this.plate != "nested" else f"n * {NESTED}"
    shaped = f".reshape(n, {NESTED})" if this.plate == "nested" else ""
    lines = [f"n = {this.lengths}[step % {len(this.lengths)}]"]
    if this.data == "fresh":
        return [*lines, f"x, y = torch.randn(n, {this.columns}), {data.format(n=size)}{shaped}"]
    if this.data == "batches":
        lines.append(f"start = 5 * step % ({ROWS} - n)")
        return [*lines, "x, y = all_x[start : start + n], all_y[start : start + n]"]
    if len(this.lengths) == 1 and not {"strided", "leaf"} & {*this.arguments}:
        return [*lines, "x, y = all_x, all_y"]
    return [*lines, "x, y = all_x[:n], all_y[:n]"]


def _wrong(this: Description) -> list[str]:
    """Return the lines of what is wrong with the data of one step."""
    wrong = {
        "nan": ["x = x.clone()", 'x[0] = float("nan")'],
        "infinite": ["x = x.clone()", 'x[0] = float("inf")'],
        "outside": ["y = y.clone()", f"y[0] = {OBSERVED[this.observed][2]}"],
        "columns": ["x = torch.cat([x, x[:, :1]], -1)"],
        "double": ["x = x.double()"],
        "missing argument": ["return (x,), {}"],
    }
    return [f"if step == {this.event_step}:", *indented(wrong[this.event])] if this.event in wrong else []


def _call(pair: Pair) -> list[str]:
    """Return the lines of what gives a step its arguments."""
    this = pair.this
    lines = _data(this)
    if "strided" in this.arguments:
        lines.append("x, y = x.t().contiguous().t(), torch.stack([y, y], -1)[..., 0]")
    if "leaf" in this.arguments:
        lines += ["x = x.detach().requires_grad_()", "leaves.append(x)"]
    lines += _wrong(this)
    if "array" in this.arguments:
        lines.append("y = y.numpy()")
    if "closed over" in this.arguments:
        lines.append("current.update(x=x, y=y)")
    first = {"nested": ['{"x": x, "y": [y]}'], "namedtuple": ["Batch(x, y)"], "closed over": [], "keyword": ["x"]}
    args = next((first[each] for each in this.arguments if each in first), ["x", "y"])
    kwargs = [f'"{name}": {value}' for name, value in pair.calls]
    if this.plate == "given":
        start = "start" if this.data == "batches" else "0"
        rows = f"torch.arange({start}, {start} + n)"
        if "keyword" in this.arguments:
            kwargs.append(f'"rows": {rows}')
        else:
            args = [*args, rows]
    if "keyword" in this.arguments:
        kwargs.append('"y": y')
    return [*lines, f"return ({', '.join(args)}{',' * (len(args) == 1)}), {{{', '.join(kwargs)}}}"]


def source(this: Description) -> str:
    """Return a module with a function `make` that returns a `Setup`."""
    text = Text(this)
    pair = Pair(text)
    pair.number()
    pair.arguments()
    model = pair.model()
    guide = [] if this.auto else pair.guide()
    functions = _functions(text, pair, model, guide)
    target, guided = ("pair.model", "pair.guide") if this.form in ("plain", "module") else ("model", "guide")
    after = []
    if this.handler == "wrapped":
        after.append(f"target = poutine.scale({target}, scale=0.1)")
        guided = guided if this.auto else f"poutine.scale({guided}, scale=0.1)"
    elif this.handler == "reparam":
        after.append(f'target = poutine.reparam({target}, config={{"z0": LocScaleReparam()}})')
    else:
        after.append(f"target = {target}")
    hidden = tuple(f"z{n}" for n, each in enumerate(this.latents) if each.family in DISCRETE)
    hidden += ("state",) if this.plate == "markov" else ()
    if this.auto:
        blocked = (
            f"poutine.block(target, hide_fn=lambda site: site['name'].startswith({hidden}))" if hidden else "target"
        )
        after.append(f"guide = autoguide.{AUTO[this.guide]}({blocked})")
        guided = "guide"
    after += [f"optim = {OPTIMIZERS[this.optimizer]}", *_objective(this)]
    call = _call(pair)
    if this.data != "fresh":
        rows = this.lengths[0] if this.data == "same" and len(this.lengths) == 1 else ROWS
        nested = this.plate == "nested"
        shaped = f".reshape({rows}, {NESTED})" if nested else ""
        size = f"{rows} * {NESTED}" if nested else str(rows)
        after.append(f"all_x = torch.randn({rows}, {this.columns})")
        after.append(f"all_y = {OBSERVED[this.observed][1].format(n=size)}{shaped}")
    if this.optimizer == "scheduler":
        text.before += ["if step:", "    optim.step()"]
    if this.event == "load weights":
        after.append(f"saved = copy.deepcopy({text.outside('net')}.state_dict())")
    _event(text)
    if this.form in ("module", "pyro_module"):
        text.watched = ["pair"] if this.form == "module" else ["model", *["guide"] * (not this.auto)]
    more = [f"watched=[{', '.join(text.watched)}]", f"evaluate_every={this.evaluated}"]
    if text.state:
        more.append(f"state=lambda: [{', '.join(text.state)}]")
    if this.second_svi:
        other = 'pyro.optim.Adam({"lr": 0.01})'
        more.append(f"also=Setup(target, {guided}, {other}, Trace_ELBO(), call)")
    before = [*sorted(text.outer - {""}), *text.before] or ["pass"]
    made = [
        *text.made,
        *functions[1],
        *after,
        "def call(step):",
        *indented(call),
        "def before(step):",
        *indented(before),
    ]
    made.append(f"return Setup(target, {guided}, optim, loss, call, before, {', '.join(more)})")
    return "\n".join([IMPORTS, *text.module, *functions[0], "", "", "def make():", *indented(made), ""])


def _functions(text: Text, pair: Pair, model: list[str], guide: list[str]) -> tuple[list[str], list[str]]:
    """Return the definitions of model and guide: of the module, and within `make`."""
    form = text.this.form
    if not text.is_object:
        lines = []
        for name, body in (("model", model), ("guide", guide)):
            if body:
                lines += [f"def {name}({pair.signature(name)}):", *indented(body)]
        return (lines, []) if form == "globals" else ([], lines)
    base = {"plain": "", "module": "(nn.Module)", "pyro_module": "(PyroModule)"}[form]
    begin = ["super().__init__()"] if base else []
    classes: list[str] = []
    if form == "pyro_module":
        for side, body in (("model", model), ("guide", guide)):
            if body:
                init = begin + text.init[side]
                inner = [*text.body[side], "def __init__(self):", *indented(init)]
                inner += [f"def forward({pair.signature(side)}):", *indented(body)]
                classes += [f"class {side.capitalize()}{base}:", *indented(inner)]
        objects = ["model = Model()", *(["guide = Guide()"] if guide else [])]
    else:
        inner = [*text.body["model"], "def __init__(self):", *indented(begin + text.init["model"] or ["pass"])]
        inner += [f"def model({pair.signature('model')}):", *indented(model)]
        if guide:
            inner += [f"def guide({pair.signature('guide')}):", *indented(guide)]
        classes, objects = [f"class Pair{base}:", *indented(inner)], ["pair = Pair()"]
    return [], classes + objects


_NUMBERS = count()


def maker(this: Description) -> Callable[[], Setup]:
    """Return what makes a description's setup, each time by a module of its own."""
    text = source(this)
    name = f"random_model_{next(_NUMBERS)}"
    file = f"<{name}>"
    code = compile(text, file, "exec")
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)

    def make() -> Setup:
        module = types.ModuleType(name)
        sys.modules[name] = module  # dataclasses look for it
        exec(code, vars(module))
        made: Any = module.make()
        return made

    return make
