"""Put faults into a copy of the code, one at a time, and see whether the tests notice: ``make mutants``.

Prints for each fault the first tests that failed. Exits with 1 where a fault went unnoticed, or where the tests fail
without one.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Mutant(NamedTuple):
    """A fault: in `file` of the package, `old`, which stands there once, becomes `new`; `tests` should notice."""

    fault: str
    file: str
    old: str
    new: str
    tests: str = "tests"


ELBO = "inference/recycling_elbo.py"
INDEX = "likelihoods/index_conditioned_normal.py"
SCALE = "torch.maximum((x - loc).abs(), self.floor)"
RUN = "            last_traces = self._get_pass(model, guide, args, kwargs)\n"
KL = "kl = scale_and_mask(kl, "
WEIGHTED = "for term in _minus_kl_terms(site, guide_trace.nodes[name]):\n                    elbo = elbo + "

LIKELIHOODS, DIAGNOSTICS = "tests/likelihoods", "tests/diagnostics"

MUTANTS = [
    Mutant("nothing: the tests must pass", ELBO, "self.detach = detach", "self.detach = detach"),
    Mutant("a detached recycled sample", ELBO, "recycled.detach() if self.detach else recycled", "recycled.detach()"),
    Mutant("a recycled sample never detached", ELBO, "recycled.detach() if self.detach else recycled", "recycled"),
    Mutant("gradients of the first pass only", ELBO, RUN, f"            with torch.no_grad():\n    {RUN}"),
    Mutant("a plate size that is ignored", "pair.py", "size or x.shape[-2],", "x.shape[-2],"),
    Mutant("a size ignored by the model", "models/vae.py", "data_plate(x, self.size)", "data_plate(x, None)"),
    Mutant("a size ignored by the guide", "guides/amortized_normal.py", "data_plate(x, self.size)", "data_plate(x, None)"),
    Mutant("x.shape[0] as the batch", "pair.py", "size or x.shape[-2], subsample=x.movedim(-2, 0)", "size or x.shape[0], subsample=x"),
    Mutant("a detached KL", ELBO, KL, "kl = scale_and_mask(kl.detach(), "),
    Mutant("a sampled KL in place of the closed form", ELBO, "kl = kl_divergence(", "raise NotImplementedError("),
    Mutant("a KL that is not scaled by the plate", ELBO, 'scale=guide_site["scale"]', "scale=1.0"),
    Mutant("an ignored kl_weight", ELBO, f"{WEIGHTED}self._kl_weight.to(term.dtype) * term", f"{WEIGHTED}term"),
    Mutant("a kl_weight copied at the start", ELBO, "return self._kl_weight\n", "return self._kl_weight.clone()\n"),
    Mutant("a kl_weight of the default dtype", ELBO, f"{WEIGHTED}self._kl_weight.to(term.dtype)", f"{WEIGHTED}self._kl_weight"),
    Mutant("one pass too few", ELBO, "range(2, passes + 1)", "range(2, passes)"),
    Mutant("every pass from the first one's output", ELBO, "_next_input(model, last_traces[0], args, kwargs)", "_next_input(model, traces[0], args, kwargs)"),
    Mutant("a mean where a sample is asked for", "pair.py", 'if how == "mean":', "if True:"),
    Mutant("a sample where the mean is asked for", "pair.py", 'if how == "mean":', "if False:"),
    Mutant("other arguments dropped", ELBO, "*args[1:])", ")"),
    Mutant("training in Pyro's global store", ELBO, "return _OwnParametersELBOModule(", "return ELBOModule("),
    Mutant("test time in Pyro's global store", "_core/isolation.py", "torch.no_grad(), own_parameters()", "torch.no_grad()"),
    Mutant("a store without the user's own parameters", "_core/isolation.py", "store.scope(without_modules(store.get_state()))", "store.scope()"),
    Mutant("a user's own parameters that are lost", "_core/isolation.py", "store.set_state(without_modules(state))", "pass"),
    Mutant("plates that are not compared", ELBO, "if not is_validation_enabled():\n        return", "return"),
    Mutant("a site that observes anything", ELBO, "not torch.equal(value, args[0])", "False"),
    Mutant("no floor", INDEX, SCALE, "(x - loc).abs() + 1e-30"),
    Mutant("a floor that is added", INDEX, SCALE, "(x - loc).abs() + self.floor"),
    Mutant("a variance where the scale should be", INDEX, SCALE, "torch.maximum((x - loc) ** 2, self.floor)"),
    Mutant("a detached scale", INDEX, SCALE, f"{SCALE}.detach()"),
    Mutant("a floor that is a constant", INDEX, SCALE, "(x - loc).abs().clamp(min=0.5)"),
    Mutant("a learned scale that does not learn", "likelihoods/learned_normal.py", "dist.Normal(loc, scale)", "dist.Normal(loc, scale.detach())"),
    Mutant("low precision kept", "guides/amortized_normal.py", "dist.Normal(loc.to(x.dtype), scale.to(x.dtype))", "dist.Normal(loc, scale)"),
    Mutant("a centre that is not subtracted", "networks/mlp.py", "centered = x - self.center", "centered = x"),
    Mutant("a centre that is not added", "networks/mlp.py", "loc = loc + self.center", "loc = loc + 0"),
    Mutant("no affine path in the encoder", "networks/mlp.py", "loc = loc + self.affine(centered)", "loc = loc + 0"),
    Mutant("no affine path in the decoder", "networks/mlp.py", "loc = loc + self.affine(z)", "loc = loc + 0"),
    Mutant("scales without bounds", "networks/centred.py", "return torch.exp(lower + (upper - lower) * fraction)", "return log_scale.exp()"),
    Mutant("a generated row recycled once too often", "inference/predictive.py", "passes - 1, sample", "passes, sample"),
    Mutant("samples where means are asked for", "inference/predictive.py", "_values(guide.encode(x), sample)", "_values(guide.encode(x), True)"),
    Mutant("all rows at once", "inference/predictive.py", 'torch.split(x, positive_int("batch_size", batch_size), dim=-2)', "(x,)"),
    Mutant("test-time passes in training mode", "_core/isolation.py", "        module.eval()\n", "        pass\n"),
    Mutant("test-time passes that keep gradients", "_core/isolation.py", "torch.no_grad(), own", "torch.enable_grad(), own"),
    Mutant("a shared variance that is not averaged", "likelihoods/shared_normal.py", ".reciprocal().clamp(min=_MOMENTUM)", "", LIKELIHOODS),
    Mutant("a shared variance of the batch in evaluation", "likelihoods/shared_normal.py", "if self.training and", "if", LIKELIHOODS),
    Mutant("a Student-t of other degrees", "likelihoods/student_t.py", "dist.StudentT(self.df,", "dist.StudentT(self.df + 1,", LIKELIHOODS),
    Mutant("a learned scale without a bound", "likelihoods/scaled.py", "_SMALLEST * self.scale + self", "self", LIKELIHOODS),
    Mutant("a share of inliers for that of outliers", "likelihoods/contaminated_normal.py", "logsigmoid(-self.logit_share)", "logsigmoid(self.logit_share)", LIKELIHOODS),
    Mutant("an inverse gamma of another rate", "likelihoods/inverse_gamma_normal.py", "self.floor / df.sqrt()", "self.floor", LIKELIHOODS),
    Mutant("a Bernoulli that checks what is recycled", "likelihoods/bernoulli.py", "distribution._validate_args = False", "pass", LIKELIHOODS),
    Mutant("a support that nobody checks", "_core/distributions.py", "    if outside.any():\n        name", "    if False:\n        name", LIKELIHOODS),
    Mutant("a mean that does not exist", "_core/distributions.py", "isinstance(base, StudentT | Cauchy)", "False", "tests/inference/test_predictive.py"),
    Mutant("a mixture without its weights", "priors/gaussian_mixture.py", "dist.Categorical(logits=self.logits)", "dist.Categorical(logits=0 * self.logits)", "tests/priors"),
    Mutant("a prior that stays where it was", "priors/from_distribution.py", "self.distribution = _mapped(self.distribution, fn)", "pass", "tests/priors"),
    Mutant("draws recycled where the mean is asked for", "inference/training/trainer.py", "RecyclingELBO(recycle=recycle_in_training(model))", 'RecyclingELBO(recycle="sample")', "tests/estimators/test_estimator_parts.py"),
    Mutant("weights without the prior", "diagnostics/guide/weights.py", "self.log_likelihood + self.log_prior - self", "self.log_likelihood - self", DIAGNOSTICS),
    Mutant("a bound that grows with the draws", "diagnostics/guide/weights.py", " - math.log(len(each))", "", DIAGNOSTICS),
    Mutant("a bound for a profile likelihood", "diagnostics/guide/weights.py", "if is_profile(model):", "if False:", DIAGNOSTICS),
    Mutant("densities in the model's units", "diagnostics/to_arviz.py", " - units.log_scale(distribution)", "", DIAGNOSTICS),
    Mutant("replicates that ignore the mask", "diagnostics/replicates/replicate.py", "residual.masked_fill(~mask, torch.nan)", "residual", DIAGNOSTICS),
    Mutant("ranks that are not corrected", "diagnostics/guide/calibration.py", "len(counts) * stats.chisquare", "stats.chisquare", DIAGNOSTICS),
    Mutant("a gap of the wrong sign", "diagnostics/guide/amortisation.py", "elbo[0] - elbo[1]", "elbo[1] - elbo[0]", DIAGNOSTICS),
    Mutant("bounds compared in standardised units", "comparison/criteria.py", "bound = bound - np.log(estimator.scaling_.scale).sum()", "pass", "tests/comparison"),
    Mutant("a companion of fewer passes", "comparison/compare.py", "phase.epochs * phase.passes", "phase.epochs", "tests/comparison"),
]  # fmt: skip


def first_failures(mutant: Mutant) -> list[str]:
    """Return the first tests that fail on a copy of the project with the fault in it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "*-output")
        shutil.copytree(ROOT, copy, ignore=ignored)
        path = copy / "pyro_ricvae" / mutant.file
        path.write_text(path.read_text().replace(mutant.old, mutant.new))
        # PYTHONPATH puts the copy before the installed package, also for the scripts that tests run. No warnings as errors: a fault should be caught by what
        # a test asserts.
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--maxfail=3",
            "-p",
            "no:cacheprovider",
            "-W",
            "default",
            mutant.tests,
        ]
        # This one compares the list above with the code.
        command += ["--deselect", "tests/test_package.py::test_every_mutant_has_its_place_in_the_code"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(copy)}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            sys.exit(f"{mutant.fault}: the tests did not run\n{done.stdout}{done.stderr}")
        return re.findall(r"^(?:FAILED|ERROR) tests/(\S+)", done.stdout, flags=re.MULTILINE)


def main() -> None:
    """Try all mutants, or those whose fault contains one of the given words."""
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.fault for word in sys.argv[1:])]
    wrong = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, failures in zip(chosen, pool.map(first_failures, chosen), strict=True):
            is_control = mutant.old == mutant.new
            wrong += bool(failures) == is_control
            seen = "; ".join(failures) if failures else ("pass" if is_control else "NOT NOTICED")
            print(f"{mutant.fault}: {seen}", flush=True)
    print(f"{len(chosen)} runs, {wrong} not as they should be")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
