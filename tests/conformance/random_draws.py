"""Draws descriptions of `random_models`, and makes them simpler."""

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

from conformance.random_models import (
    ARGUMENTS,
    AUTO,
    BRANCHES,
    DISCRETE,
    EFFECTS,
    EVENTS,
    HANDLERS,
    HOLDERS,
    NETWORKS,
    NUMBERS,
    OBJECTIVES,
    OBSERVED,
    OF_NETWORKS,
    PATTERNS,
    RANDOM,
    SCALARS,
    VECTORS,
    Description,
    Effect,
    Latent,
    Number,
)

Choose = Callable[[Sequence[Any]], Any]


def describe(choose: Choose) -> Description:
    """Draw a description, by what chooses one of some values: simpler ones come first."""

    def mostly(first: Any, others: Sequence[Any], share: float = 0.3) -> Any:
        return (
            choose(tuple(others)) if choose((False,) * round(20 - 20 * share) + (True,) * round(20 * share)) else first
        )

    objective = mostly("trace", OBJECTIVES[1:], 0.45)
    event = mostly("", EVENTS)
    described = Description(
        form=choose(("closures", "globals", "plain", "module", "pyro_module")),
        plate=mostly("one", ("none", "subsampled", "nested", "sequential", "given", "markov")),
        lengths=mostly((8,), ((8, 5), (7, 7, 7, 4), (6, 1), (5, 6, 7, 8, 9, 10, 11, 12), (1,)), 0.35),
        columns=choose((2, 1, 3)),
        latents=tuple(_latent(choose, mostly, objective) for _ in range(choose((1, 0, 1, 2, 3)))),
        observed=mostly("normal", OBSERVED[1:], 0.6),
        also_observed=mostly("", ("normal", "laplace"), 0.15),
        learnt_noise=choose((False, True)),
        handler=mostly("", HANDLERS),
        network=choose(NETWORKS[:1] * 3 + NETWORKS[1:]),
        guide=choose(("by hand", "by hand", "by hand", "amortised", "amortised", "auto_normal", *AUTO)),
        objective=objective,
        particles=choose((1, 1, 1, 2, 3)),
        vectorised=choose((False, True)),
        nesting_given=choose((False, True)),
        optimizer=choose(("adam", "clipped", "sgd", "scheduler", "per parameter", "adagrad", "clip")),
        number=mostly(None, (True,), 0.45) and _number(choose, mostly),
        effect=mostly(None, (True,), 0.2) and Effect(choose(EFFECTS), choose(HOLDERS[:-1]), choose((False, True))),
        random=mostly("", RANDOM, 0.2),
        branch=mostly("", BRANCHES, 0.2),
        arguments=mostly((), [(each,) for each in ARGUMENTS] + [("flag", "partial"), ("keyword", "label")], 0.35),
        data=choose(("same", "batches", "fresh")),
        event=event,
        event_step=choose((5, 4, 3, 2, 0)) if event else 5,
        evaluated=mostly(0, (1, 3), 0.2),
        second_svi=mostly(False, (True,), 0.1),
    )
    return possible(described)


def _latent(choose: Choose, mostly: Any, objective: str) -> Latent:
    discrete = choose((False, True, True)) if objective == "enum" else choose((False,) * 5 + (True,))
    return Latent(
        family=choose(DISCRETE if discrete else (*SCALARS, *VECTORS)),
        local=choose((False, True)),
        use=mostly("add", ("times", "decoded")),
        child=mostly(False, (True,)),
        summed=choose(("model", "guide", "sequential")) if discrete and objective == "enum" else "",
    )


def _number(choose: Choose, mostly: Any) -> Number:
    return Number(
        holder=choose(HOLDERS + NUMBERS),
        pattern=choose(PATTERNS),
        use=mostly("times", ("weight", "prior", "branch", "turns", "guide", "dropout", "name"), 0.6),
    )


def possible(this: Description) -> Description:
    """Return a description without the combinations that Pyro has no meaning for."""
    for rule in _RULES:
        this = dataclasses.replace(this, **rule(this))
    return this


def _form(this: Description) -> dict[str, Any]:
    network, form, guide, number = this.network, this.form, this.guide, this.number
    if number is not None and number.holder == "network":
        network, number = "own", dataclasses.replace(number, use="network")
    if network == "bayesian":
        form, guide = "pyro_module", guide if this.auto else "auto_normal"
    elif this.auto and all(each.family in DISCRETE for each in this.latents):
        guide = "by hand"
    return {"network": network, "form": form, "guide": guide, "number": number}


def _plate(this: Description) -> dict[str, Any]:
    plate, observed, guide = this.plate, this.observed, this.guide
    if plate == "markov" and this.objective != "enum":
        plate = "sequential"
    if this.handler == "obs_mask":
        plate, observed = "one", observed if observed in ("laplace", "studentt") else "normal"
    if observed == "dirichlet" and (plate not in ("one", "given", "subsampled") or this.handler):
        observed = "normal"
    if guide == "amortised" and plate not in ("one", "nested", "given"):
        guide = "by hand"
    return {"plate": plate, "observed": observed, "guide": guide}


def _latents(this: Description) -> dict[str, Any]:
    no_local = this.plate in ("none", "markov") or (this.auto and this.plate in ("subsampled", "sequential", "given"))
    latents: list[Latent] = []
    for latent in this.latents:
        local = latent.local and not no_local and latent.family not in VECTORS
        before = latents[-1] if latents else None
        child = latent.child and latent.family in ("normal", "laplace", "studentt")
        child = child and before is not None and before.family in SCALARS and (local or not before.local)
        use = latent.use if latent.family in SCALARS and not (this.plate == "sequential" and local) else "add"
        summed = latent.summed if latent.family in DISCRETE and this.objective == "enum" else ""
        latents.append(Latent(latent.family, local, use, child, "model" if summed and this.auto else summed))
    handler = this.handler
    if handler == "reparam" and not (this.auto and latents and latents[0].family in ("normal", "studentt")):
        handler = ""
    if handler == "reparam":
        latents[0] = Latent(latents[0].family)
    return {"latents": tuple(latents), "handler": handler}


def _lengths(this: Description) -> dict[str, Any]:
    least = 4 if this.plate == "subsampled" else 2 if this.network == "batchnorm" else 1
    most = 4 if this.plate in ("sequential", "markov") else max(this.lengths)
    lengths = tuple(max(least, min(most, each)) for each in this.lengths)
    if this.auto and (this.handler == "obs_mask" or any(each.local for each in this.latents)):
        lengths = lengths[:1]  # automatic guides have a parameter a row
    return {"lengths": lengths}


def _objective(this: Description) -> dict[str, Any]:
    objective = this.objective
    discrete = any(each.family in DISCRETE for each in this.latents)
    if discrete and (objective == "meanfield" or (objective == "graph" and this.auto)):
        objective = "trace"
    pointed = this.guide == "auto_delta" or any(each.family == "point" for each in this.latents)
    if objective == "rws" and (pointed or not this.latents):
        objective = "renyi"
    particles = 1 if objective == "by hand" else this.particles
    if objective in ("renyi", "rws"):
        particles = max(2, particles)
    one_by_one = objective in ("graph", "rws") or this.network == "bayesian"
    one_by_one = one_by_one or any(each.summed == "sequential" for each in this.latents)
    second = this.second_svi and objective in ("trace", "meanfield", "renyi", "graph") and not this.evaluated
    vectorised = this.vectorised and particles > 1 and not one_by_one
    return {"objective": objective, "particles": particles, "vectorised": vectorised, "second_svi": second}


def _state(this: Description) -> dict[str, Any]:
    number, effect = this.number, this.effect
    if number is not None and number.use == "guide" and (this.guide != "by hand" or not this.latents):
        number = dataclasses.replace(number, use="times")
    if effect is not None and effect.kind == "argument" and this.data == "fresh":
        effect = dataclasses.replace(effect, kind="average")
    if effect is not None and effect.kind == "clipped" and this.network == "bayesian":
        effect = dataclasses.replace(effect, kind="average")
    return {"number": number, "effect": effect}


def _event(this: Description) -> dict[str, Any]:
    event, arguments = this.event, this.arguments
    if event in OF_NETWORKS and this.network in ("none", "bayesian"):
        event = "load" if event in ("freeze", "weights", "load weights", "eval") else "clear"
    if event == "rate" and this.network != "dropout":
        event = "hook"
    if event == "particles" and this.objective == "by hand":
        event = "seed"
    if event in ("columns", "missing argument") or this.plate == "given":
        other = ("nested", "namedtuple", "count", "closed over")
        arguments = tuple(each for each in arguments if each not in other)
    return {"event": event, "arguments": arguments}


_RULES = (_form, _plate, _latents, _lengths, _objective, _state, _event)


def described_by(seed: int, number: int) -> Description:
    """Return model `number` of a seed, the same at every call."""
    return describe(random.Random(f"{seed}/{number}").choice)


def simpler(this: Description) -> list[Description]:
    """Return descriptions that are simpler by one thing."""
    default = Description()
    found = [
        dataclasses.replace(this, **{field.name: getattr(default, field.name)})
        for field in dataclasses.fields(this)
        if getattr(this, field.name) != getattr(default, field.name)
    ]
    for index, latent in enumerate(this.latents):
        rest = this.latents[:index], this.latents[index + 1 :]
        found.append(dataclasses.replace(this, latents=rest[0] + rest[1]))
        for part in dataclasses.fields(latent):
            if getattr(latent, part.name) != part.default:
                less = dataclasses.replace(latent, **{part.name: part.default})
                found.append(dataclasses.replace(this, latents=(*rest[0], less, *rest[1])))
    for name in ("number", "effect"):
        value = getattr(this, name)
        for part in dataclasses.fields(value) if value is not None else ():
            if part.default is not dataclasses.MISSING and getattr(value, part.name) != part.default:
                less = dataclasses.replace(value, **{part.name: part.default})
                found.append(dataclasses.replace(this, **{name: less}))
    unlike = [possible(each) for each in found]
    return [each for number, each in enumerate(unlike) if each != this and each not in unlike[:number]]
