"""Writes the bodies of a random model and its guide."""

from conformance.random_models import VECTORS, Latent
from conformance.random_parts import NESTED, NETWORKS, OBSERVED, POSTERIORS, PRIORS, ROWS
from conformance.random_state import State
from conformance.random_text import indented


class Pair(State):
    """Writes model and guide."""

    def signature(self, side: str) -> str:
        nested = {"nested": ["data"], "namedtuple": ["batch"], "closed over": []}
        first = next((nested[each] for each in self.this.arguments if each in nested), ["x", "y"])
        given = ["rows"] if self.this.plate == "given" else []
        owner = ["self"] if self.text.is_object else []
        return ", ".join([*owner, *first, *given, *self.parameters, *self.text.default[side]])

    def unpacked(self) -> list[str]:
        lines = []
        if "nested" in self.this.arguments:
            lines.append('x, y = data["x"], data["y"][0]')
        if "namedtuple" in self.this.arguments:
            lines.append("x, y = batch.x, batch.y")
        if "closed over" in self.this.arguments:
            lines.append('x, y = current["x"], current["y"]')
        if "array" in self.this.arguments:
            lines.append("y = torch.as_tensor(y)")
        return lines

    def latent(self, number: int, latent: Latent, *, name: str) -> list[str]:
        """Return the lines by which the model draws a latent and uses it."""
        loc = f"z{number - 1}" if latent.child else "0.0"
        scale = self.value if self.used_number("prior") and number == 0 else "1.0"
        prior = PRIORS[latent.family].format(loc=loc, scale=scale)
        marked = {"model": ', infer={"enumerate": "parallel"}'}.get(latent.summed, "")
        z = f"z{number}"
        lines = [f"{z} = pyro.sample({name}, {prior}{marked})"]
        spread = f"{z}.unsqueeze(-1)" if self.this.depth == 0 and not latent.local else z
        if latent.family == "bernoulli":
            lines.append(f"mu = mu + {spread} - 0.5")
        elif latent.family == "categorical":
            lines.append(f"mu = mu + torch.tensor([-1.0, 0.0, 1.0])[{spread}.long()]")
        elif latent.family in VECTORS:
            keep = ", keepdim=True" if self.this.depth == 0 else ""
            lines.append(f"mu = mu + ({z} * torch.tensor([0.2, 0.3, 0.5])).sum(-1{keep})")
        elif latent.use == "times":
            lines.append(f"mu = mu * {spread}")
        elif latent.use == "decoded":
            decoder = self.text.own(f"decoder{number}", "nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1))")
            self.text.watched.append(self.text.outside(f"decoder{number}"))
            if self.this.form != "pyro_module":
                lines.insert(0, f'pyro.module("decoder{number}", {decoder})')
            lines.append(f"mu = mu + {decoder}({spread}.unsqueeze(-1)).squeeze(-1)")
        else:
            lines.append(f"mu = mu + {spread}")
        return lines

    def weighted(self, lines: list[str]) -> list[str]:
        if not lines or not self.used_number("weight"):
            return lines
        return [f"with poutine.scale(scale={self.value}):", *indented(lines)]

    def base(self) -> list[str]:
        """Return the lines up to the mean as it is without latents."""
        this, text = self.this, self.text
        if this.network == "none":
            self.weight = text.parameter("weight", f"torch.full(({this.columns},), 0.1)")
            return [f"mu = x @ {self.weight}"]
        if this.network == "own":
            forward = "    def forward(self, value):\n        return self.gain * super().forward(value)"
            text.module.append(f"class Net(nn.Sequential):\n    gain = 1.0\n{forward}")
        network = text.own("net", NETWORKS[this.network].format(c=this.columns))
        self.weight = f"{network}[-1].weight"
        if this.network == "bayesian":
            text.init["model"].append(
                f"self.net.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, {this.columns}]).to_event(2))"
            )
        text.watched.append(text.outside("net"))
        registered = [] if this.form == "pyro_module" else [f'pyro.module("net", {network})']
        return [*registered, f"mu = {network}(x).squeeze(-1)"]

    def model(self) -> list[str]:
        this = self.this
        lines = self.unpacked() + self.base()
        first, last = self.effect()
        if this.depth == 2:
            lines.append("mu = mu[:, None]")
        if this.random == "randn_like" or this.random == "randperm":
            lines.append("base = mu.detach()")
        lines += first + self.used
        if self.used_number("times"):
            lines.append(f"mu = mu * {self.value}")
        latents = list(enumerate(this.latents))
        outer = [line for n, each in latents if not each.local for line in self.latent(n, each, name=f'"z{n}"')]
        lines += self.weighted(outer)
        lines += self.turns() + self.drawn() + last
        if this.learnt_noise:
            lines.append(f"noise = {self.text.parameter('noise', 'torch.tensor(0.5)', 'positive')}")
        lines += self.rows([(n, each) for n, each in latents if each.local])
        return [*sorted(self.declared), *lines]

    def observe(self, mu: str, y: str, name: str, event: str = "") -> list[str]:
        this = self.this
        noise = "noise" if this.learnt_noise else "0.5"
        made = OBSERVED[this.observed][0].format(mu=mu, s=noise) + event
        if this.handler == "own mask":
            made += f".mask({y} > 0)" if not event else ""
        hidden = ", obs_mask=torch.arange(len(y)) % 3 > 0" if this.handler == "obs_mask" else ""
        lines = [f"pyro.sample({name}, {made}, obs={y}{hidden})"]
        if this.also_observed:
            other = OBSERVED[this.also_observed][0].format(mu=f"0.5 * {mu}", s="1.0") + event
            lines.append(f"pyro.sample({name.replace('y', 'w', 1)}, {other}, obs=0.1 * {y}.float())")
        if this.observed == "dirichlet" and this.also_observed:
            lines.pop()
        around = {
            "mask": f"poutine.mask(mask=torch.arange(len(y)){self.new} % 3 > 0)",
            "mask of values": f"poutine.mask(mask={y} > 0)",
            "scale": "poutine.scale(scale=0.5)",
            "scale of rows": f"poutine.scale(scale={ROWS} / len(y))",
        }.get(this.handler)
        if this.handler == "mask" and this.plate != "one" and this.plate != "nested":
            around = "poutine.mask(mask=len(y) > 5)"
        if this.handler == "mask of values" and event:
            around = "poutine.mask(mask=(x > 0).any())"
        if around:
            return [f"with {around}:", *indented(lines)]
        if this.handler == "factor":
            lines.append(
                f"pyro.factor({name.replace('y', 'penalty', 1)}, -0.01 * {mu}.pow(2){'.sum(-1)' if event else ''})"
            )
        if this.handler == "deterministic":
            lines.append(f"pyro.deterministic({name.replace('y', 'mean', 1)}, {mu})")
        return lines

    @property
    def size(self) -> str:
        return "count" if "count" in self.this.arguments else "len(y)"

    def rows(self, latents: list[tuple[int, Latent]]) -> list[str]:
        """Return the lines within the plates."""
        this = self.this
        if this.plate == "none":
            return self.observe("mu", "y", '"y"', ".to_event(1)")
        if this.plate in ("sequential", "markov"):
            return self.one_by_one(latents)
        inner = [line for n, each in latents for line in self.latent(n, each, name=f'"z{n}"')]
        inner = self.weighted(inner)
        if this.plate == "subsampled":
            inner = ["mu = mu[..., rows]", *inner, *self.observe("mu", "y[rows]", '"y"')]
        elif this.plate == "nested":
            observe = self.observe("mu", "y", '"y"')
            spread = f"mu = mu + torch.linspace(-0.2, 0.2, {NESTED})"
            inner = [*inner, f'with pyro.plate("columns", {NESTED}, dim=-1):', *indented([spread, *observe])]
        else:
            inner = [*inner, *self.observe("mu", "y", '"y"')]
        return [f"with {self.plate()}:", *indented(inner)]

    def plate(self) -> str:
        return {
            "one": f'pyro.plate("rows", {self.size})',
            "given": f'pyro.plate("rows", {ROWS}, subsample=rows)',
            "nested": f'pyro.plate("rows", {self.size}, dim=-2)',
            "subsampled": f'pyro.plate("rows", {self.size}, subsample_size=3) as rows',
            "sequential": f'for i in pyro.plate("rows", {self.size}):',
            "markov": f"for i in pyro.markov(range({self.size})):",
        }[self.this.plate]

    def one_by_one(self, latents: list[tuple[int, Latent]]) -> list[str]:
        inner, before = ["mean = mu[..., i]"], []
        for n, each in latents:
            drawn = self.latent(n, each, name=f'f"z{n}_{{i}}"')
            inner += [line.replace("mu = mu", "mean = mean") for line in drawn]
        if self.this.plate == "markov":
            before = ["state = 0", "jumps = torch.tensor([[0.7, 0.3], [0.2, 0.8]])"]
            state = 'pyro.sample(f"state_{i}", dist.Categorical(jumps[state]), infer={"enumerate": "parallel"})'
            inner += [f"state = {state}", "mean = mean + state.float()"]
        return [*before, self.plate(), *indented([*inner, *self.observe("mean", "y[i]", 'f"y_{i}"')])]

    def guide(self) -> list[str]:
        """Return the lines of a guide that is written by hand."""
        this = self.this
        lines = self.unpacked()
        outer = [line for n, each in enumerate(this.latents) if not each.local for line in self.posterior(n, each)]
        local = [(n, each) for n, each in enumerate(this.latents) if each.local and each.summed != "model"]
        if local and this.guide == "amortised":
            width = {"nested": NESTED}.get(this.plate, 3 if this.observed == "dirichlet" else 1)
            made = f"nn.Sequential(nn.Linear({this.columns + width}, 4), nn.Softplus(), nn.Linear(4, {2 * len(local)}))"
            encoder = self.text.own("encoder", made, "guide")
            self.text.watched.append(self.text.outside("encoder", "guide"))
            if this.form != "pyro_module":
                lines.append(f'pyro.module("encoder", {encoder})')
            lines.append(f"code = {encoder}(torch.cat([x, y.reshape(len(y), -1).to(x.dtype)], -1))")
        lines += outer
        inner = [line for order, (n, each) in enumerate(local) for line in self.posterior(n, each, order)]
        if this.handler == "obs_mask":
            inner.append('pyro.sample("y_unobserved", dist.Normal(torch.zeros(len(y)), 1.0))')
        if inner and this.plate == "sequential":
            lines += [self.plate(), *indented(inner)]
        elif inner:
            lines += [f"with {self.plate()}:", *indented(inner)]
        return lines or ["pass"]

    def posterior(self, number: int, latent: Latent, order: int = 0) -> list[str]:
        if latent.summed == "model":
            return []
        this, text = self.this, self.text
        name = f'"z{number}"'
        if latent.local and this.guide == "amortised":
            parts = [2 * order, 2 * order + 1]
            a, b = [f"code[:, {each}{f':{each + 1}' if this.depth == 2 else ''}]" for each in parts]
        else:
            shape = "(3,)" if latent.family in VECTORS else "()"
            taken = ""
            if latent.local:
                shape = f"({ROWS}, 1)" if this.plate == "nested" else f"({ROWS},)"
                taken = {"subsampled": "[rows]", "given": "[rows]", "sequential": "[i]"}.get(this.plate, "[: len(y)]")
            a = text.parameter(f"z{number}_a", f"torch.full({shape}, 0.2)", side="guide") + taken
            needed = latent.family not in ("point", "bernoulli", "dirichlet")
            b = text.parameter(f"z{number}_b", f"torch.full({shape}, -0.5)", side="guide") + taken if needed else ""
        if latent.local and this.plate == "sequential":
            name = f'f"z{number}_{{i}}"'
        if self.used_number("guide") and this.guide == "by hand":
            a = f"({a} * {self.value})"
        made = POSTERIORS[latent.family].format(a=a, b=b)
        marked = {"guide": "parallel", "sequential": "sequential"}.get(latent.summed)
        infer = f', infer={{"enumerate": "{marked}"}}' if marked else ""
        return [f"pyro.sample({name}, {made}{infer})"]
