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
    """A fault: in `file` of the package, `old`, which stands there once, becomes `new`; `tests` should notice.

    Those are files or folders with blanks between; by default the folder that mirrors the file's, and what is below it.
    """

    fault: str
    file: str
    old: str
    new: str
    tests: str = ""

    @property
    def where(self) -> list[str]:
        """The tests that should notice."""
        return (self.tests or f"tests/{self.file.removeprefix('_').rpartition('/')[0]}").split()


ELBO = "inference/recycling_elbo.py"
INDEX = "likelihoods/index_conditioned_normal.py"
SCALE = "torch.maximum((x - loc).abs(), floor)"
RUN = "            last_traces = self._get_pass(model, guide, args, kwargs)\n"
KL = "kl = scale_and_mask(kl, "
WEIGHTED = "for term in _minus_kl_terms(site, guide_trace.nodes[name]):\n                    elbo = elbo + "

LIKELIHOODS, DIAGNOSTICS = "tests/likelihoods", "tests/diagnostics"
PAIR = "tests/test_pair.py tests/inference/test_recycling_elbo.py tests/models tests/guides"
ALONE = "tests/inference/test_predictive.py tests/inference/test_training.py tests/diagnostics/pair"
TRAINING = "tests/inference/test_recycling_elbo.py tests/inference/test_training.py"

MUTANTS = [
    Mutant("nothing: the tests must pass", ELBO, "self.detach = detach", "self.detach = detach", "tests"),
    Mutant("a detached recycled sample", ELBO, "recycled.detach() if self.detach else recycled", "recycled.detach()", TRAINING),
    Mutant("a recycled sample never detached", ELBO, "recycled.detach() if self.detach else recycled", "recycled", TRAINING),
    Mutant("gradients of the first pass only", ELBO, RUN, f"            with torch.no_grad():\n    {RUN}", TRAINING),
    Mutant("a plate size that is ignored", "pair.py", "size or x.shape[-2],", "x.shape[-2],", PAIR),
    Mutant("a size ignored by the model", "models/vae.py", "data_plate(x, self.size)", "data_plate(x, None)", PAIR),
    Mutant("a size ignored by the guide", "guides/amortized_normal.py", "data_plate(x, self.size)", "data_plate(x, None)", PAIR),
    Mutant("x.shape[0] as the batch", "pair.py", "size or x.shape[-2], subsample=x.movedim(-2, 0)", "size or x.shape[0], subsample=x", PAIR),
    Mutant("a detached KL", ELBO, KL, "kl = scale_and_mask(kl.detach(), ", TRAINING),
    Mutant("a sampled KL in place of the closed form", ELBO, 'kl = kl_or_none(guide_site["fn"], model_site["fn"])', "kl = None", TRAINING),
    Mutant("a KL that is not scaled by the plate", ELBO, 'scale=guide_site["scale"]', "scale=1.0", TRAINING),
    Mutant("an ignored kl_weight", ELBO, f"{WEIGHTED}self._kl_weight.to(term.dtype) * term", f"{WEIGHTED}term", TRAINING),
    Mutant("a kl_weight copied at the start", ELBO, "return self._kl_weight\n", "return self._kl_weight.clone()\n", TRAINING),
    Mutant("a kl_weight of the default dtype", ELBO, f"{WEIGHTED}self._kl_weight.to(term.dtype)", f"{WEIGHTED}self._kl_weight", TRAINING),
    Mutant("one pass too few", ELBO, "range(2, passes + 1)", "range(2, passes)", TRAINING),
    Mutant("every pass from the first one's output", ELBO, "_next_input(model, last_traces[0], args, kwargs, first)", "_next_input(model, traces[0], args, kwargs, first)", TRAINING),
    Mutant("a mean where a sample is asked for", "pair.py", 'if how == "mean":', "if True:", PAIR),
    Mutant("a sample where the mean is asked for", "pair.py", 'if how == "mean":', "if False:", PAIR),
    Mutant("other arguments dropped", ELBO, "*args[1:])", ")", TRAINING),
    Mutant("training in Pyro's global store", ELBO, "return _OwnParametersELBOModule(", "return ELBOModule(", TRAINING),
    Mutant("test time in Pyro's global store", "_core/isolation.py", "torch.no_grad(), own_parameters()", "torch.no_grad()", ALONE),
    Mutant("a store without the user's own parameters", "_core/isolation.py", "store.scope(without_modules(store.get_state()))", "store.scope()", ALONE),
    Mutant("a user's own parameters that are lost", "_core/isolation.py", "store.set_state(without_modules(state))", "pass", ALONE),
    Mutant("plates that are not compared", ELBO, "if not is_validation_enabled():\n        return", "return", TRAINING),
    Mutant("a site that observes anything", ELBO, "not torch.equal(value, args[0])", "False", TRAINING),
    Mutant("no floor", INDEX, SCALE, "(x - loc).abs() + 1e-30"),
    Mutant("a floor that is added", INDEX, SCALE, "(x - loc).abs() + self.floor"),
    Mutant("a variance where the scale should be", INDEX, SCALE, "torch.maximum((x - loc) ** 2, self.floor)"),
    Mutant("a detached scale", INDEX, SCALE, f"{SCALE}.detach()"),
    Mutant("a floor that is a constant", INDEX, SCALE, "(x - loc).abs().clamp(min=0.5)"),
    Mutant("a learned scale that does not learn", "likelihoods/learned_normal.py", "dist.Normal(loc, scale)", "dist.Normal(loc, scale.detach())"),
    Mutant("low precision kept", "guides/amortized_normal.py", "dist.Normal(loc.to(x.dtype), scale.to(x.dtype))", "dist.Normal(loc, scale)", PAIR),
    Mutant("a centre that is not subtracted", "networks/mlp.py", "centered = x - self.center", "centered = x"),
    Mutant("a centre that is not added", "networks/mlp.py", "loc = loc + self.center", "loc = loc + 0"),
    Mutant("no affine path in the encoder", "networks/mlp.py", "loc = loc + self.affine(centered)", "loc = loc + 0"),
    Mutant("no affine path in the decoder", "networks/mlp.py", "loc = loc + self.affine(z)", "loc = loc + 0"),
    Mutant("scales without bounds", "networks/centred.py", "return torch.exp(lower + (upper - lower) * fraction)", "return log_scale.exp()"),
    Mutant("a generated row recycled once too often", "inference/predictive.py", "passes - 1, sample, how", "passes, sample, how"),
    Mutant("samples where means are asked for", "inference/predictive.py", "_values(guide.encode(x), sample)", "_values(guide.encode(x), True)"),
    Mutant("all rows at once", "inference/predictive.py", 'torch.split(x, positive_int("batch_size", batch_size), dim=-2)', "(x,)"),
    Mutant("test-time passes in training mode", "_core/isolation.py", "        module.eval()\n", "        pass\n", ALONE),
    Mutant("test-time passes that keep gradients", "_core/isolation.py", "torch.no_grad(), own", "torch.enable_grad(), own", ALONE),
    Mutant("a shared variance that is not averaged", "likelihoods/shared_normal.py", ".reciprocal().clamp(min=_MOMENTUM, max=1.0)", "", LIKELIHOODS),
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
    Mutant("draws recycled where the mean is asked for", "inference/training/trainer.py", "how = recycle_in_training(model)", 'how = "sample"', "tests/estimators/test_estimator_parts.py"),
    Mutant("weights without the prior", "diagnostics/guide/weights.py", "self.log_likelihood + self.log_prior - self", "self.log_likelihood - self", DIAGNOSTICS),
    Mutant("a bound that grows with the draws", "diagnostics/guide/weights.py", " - math.log(len(each))", "", DIAGNOSTICS),
    Mutant("a bound for a profile likelihood", "diagnostics/guide/weights.py", "if is_profile(model):", "if False:", DIAGNOSTICS),
    Mutant("densities in the model's units", "diagnostics/to_arviz.py", " - units.log_scale(distribution)", "", DIAGNOSTICS),
    Mutant("replicates that ignore the mask", "diagnostics/replicates/replicate.py", "residual.masked_fill(~mask, torch.nan)", "residual", DIAGNOSTICS),
    Mutant("ranks that are not corrected", "diagnostics/guide/calibration.py", "len(counts) * stats.chisquare", "stats.chisquare", DIAGNOSTICS),
    Mutant("a gap of the wrong sign", "diagnostics/guide/amortisation.py", "elbo[0] - elbo[1]", "elbo[1] - elbo[0]", DIAGNOSTICS),
    Mutant("bounds compared in standardised units", "comparison/criteria.py", "bound = bound - np.log(estimator.scaling_.scale).sum()", "pass", "tests/comparison"),
    Mutant("a companion of fewer passes", "comparison/compare.py", "phase.passes_in_all(steps) for phase", "phase.epochs * steps for phase", "tests/comparison"),
    Mutant("a Pareto tail at the wrong end", "_core/arviz.py", "arviz.psislw(log_weights.T)", "arviz.psislw(-log_weights.T)"),
    Mutant("rows that need not be finite", "_core/checks.py", "wrong = ~x.isfinite()", "wrong = x.isnan()", ALONE),
    Mutant("an error without the user's line", "_core/errors.py", "if frame.line and not", "if False and not", "tests/diagnostics/pair"),
    Mutant("an extra that is not named", "_core/extras.py", "pip install 'pyro-ricvae[{name}]'", "pip install it", "tests/core"),
    Mutant("a deviation from zero", "_core/robust.py", "np.abs(x - np.median(x, axis=0))", "np.abs(x)", "tests/data"),
    Mutant("half of an output in place", "_core/staging.py", "made, earlier = Path(name) / target.name,", "made, earlier = target,", "tests/cli/test_outputs.py tests/estimators/test_base.py"),
    Mutant("a recycling step of another pass", "pair.py", "likelihood.next_input(inner(distribution), x, observed)", "likelihood.next_input(inner(distribution), x.roll(1, 0), observed)", PAIR),
    Mutant("test time by means where the likelihood says", "pair.py", '        return "likelihood"\n    return "repair"', '        return "mean"\n    return "repair"', PAIR),
    Mutant("cells that count though not observed", "models/vae.py", "            cells = ObservedCells(cells, observed, filler)\n", "", PAIR),
    Mutant("a guide that sees what is not observed", "guides/amortized_normal.py", "x = torch.where(observed, x,", "x = torch.where(observed | True, x,", PAIR),
    Mutant("a shared variance of what is not observed", "likelihoods/shared_normal.py", "(squares * observed).sum()", "squares.sum()", PAIR),
    Mutant("heads of a row's width alone", "likelihoods/likelihood.py", "    if has_row_shapes(likelihood):\n        row", "    if True:\n        row", PAIR),
    Mutant("the same batch again", "data/batches.py", "self._position += self.size  # only", "pass  # only"),
    Mutant("an epoch in the order of the last", "data/batches.py", "self._order = torch.randperm(self.source.n_rows", "self._order = torch.arange(self.source.n_rows"),
    Mutant("a resumed order that starts anew", "data/batches.py", 'self._position = int(state["position"])', "self._position = 0", "tests/data tests/inference/training/test_state.py"),
    Mutant("dirt on other cells than the mask says", "data/corruption.py", "        mask[row] = True", "        mask[row - 1] = True"),
    Mutant("the cache before the user's folder", "data/datasets.py", "            if (Path(named) / name).is_file():", "            if (Path(named) / name).is_file() and not (_cache() / name).is_file():"),
    Mutant("masked cells that count", "data/rows.py", "np.ma.filled(data.astype(np.float64), np.nan) if np.ma.is_masked(data) else np.asarray(data)", "np.asarray(data)"),
    Mutant("columns in any order", "data/rows.py", "if columns is not None and rows.columns is not None and list(columns) != rows.columns:", "if False:", "tests/estimators/test_base.py tests/estimators/test_estimator_input.py"),
    Mutant("a range of stray values", "data/scaling.py", "high - low > _STRAY * (inner_high - inner_low)", "False"),
    Mutant("scores of twice the passes", "diagnostics/scores.py", "encoded = recycle(model, guide, chunk, positive_int(\"passes\", passes) - 1)", "encoded = recycle(model, guide, chunk, positive_int(\"passes\", passes))", "tests/diagnostics/test_scores.py"),
    Mutant("a classifier that sees what it is tested on", "diagnostics/guide/aggregate.py", "predicted = classifier.predict(torch.cat([posterior[half:], prior[half:]]).numpy())", "predicted = classifier.predict(torch.cat([posterior[: n - half], prior[: n - half]]).numpy())", DIAGNOSTICS),
    Mutant("k-hat without a tail", "diagnostics/guide/pareto.py", "if has_tail.any():", "if False:"),
    Mutant("a pair that is not left as it was", "diagnostics/pair/check.py", "vars(module).update(attributes)", "vars(module).update(attributes, training=False)"),
    Mutant("problems that are none", "diagnostics/pair/report.py", "return not self.problems", "return True"),
    Mutant("a model on latents of its own", "diagnostics/pair/run.py", "poutine.replay(self.model, trace=self.guide_trace)", "self.model"),
    Mutant("plates that need not agree", "diagnostics/pair/structure.py", "if (frame.size, frame.full_size) != (other.size, other.full_size) and", "if False and"),
    Mutant("gradients that need not be", "diagnostics/pair/values.py", "unused = [name for name, gradient in found.items() if gradient is None]", "unused = []"),
    Mutant("intervals that hold too much", "diagnostics/replicates/intervals.py", "np.concatenate([(1 - nominal) / 2, (1 + nominal) / 2])", "np.concatenate([(1 - nominal) / 3, 1 - (1 - nominal) / 3])"),
    Mutant("ranks of the wrong side", "diagnostics/replicates/pit.py", "less += (replicates < x).sum(0)", "less += (replicates > x).sum(0)"),
    Mutant("a tail of one side", "diagnostics/replicates/ppc.py", "min(1.0, 2 * (1 + beyond) / (len(values) + 1))", "min(1.0, (1 + beyond) / (len(values) + 1))"),
    Mutant("a statistic of all cells", "diagnostics/replicates/statistics.py", "return (near & mask).sum((-2, -1)) / mask.sum()", "return near.sum((-2, -1)) / mask.sum()"),
    Mutant("a row's loss on what it encoded", "inference/row_loss.py", "-model.decode(posterior.mean, x).log_prob(x)", "-model.decode(posterior.mean, x).log_prob(x if encoded is None else encoded)", "tests/inference/test_row_loss.py tests/diagnostics/test_scores.py"),
    Mutant("trained tensors that are copies", "inference/compile/capture.py", "setattr(owner, name, original)", "setattr(owner, name, constant)", "tests/inference/compile/test_compiled_elbo.py"),
    Mutant("one graph for training and evaluation", "inference/compile/program.py", "            and self.dependencies.hold()\n", "", "tests/inference/compile/test_compiled_elbo.py"),
    Mutant("a capture that leaves parameters in the store", "inference/compile/patches.py", "        vars(store).update(before)\n", "        pass\n", "tests/inference/compile/test_as_svi.py"),
    Mutant("a schedule that is not compared", "inference/compile/dependencies.py", "and all(map(is_, map(getitem, found.containers, found.keys), found.values))", "", "tests/inference/compile/test_dependencies.py"),
    Mutant("networks' forward that is not looked at", "inference/compile/look.py", "if special else self._may_read(cls, name):", "if special else name in self.known:", "tests/inference/compile/test_dependencies.py"),
    Mutant("stand-ins that a capture leaves", "inference/compile/making.py", "    with dependencies.kept():\n", "    if True:\n", "tests/inference/compile/test_as_svi.py"),
    Mutant("lengths that are kept", "inference/compile/dependencies.py", "if any(map(_is_of_length, written)):", "if False:", "tests/inference/compile/test_as_svi.py"),
    Mutant("gradients of buffers that have moved", "inference/compile/making.py", "            copied = summed.graph.call_function(torch.ops.aten.clone.default, (given,))", "            copied = summed.graph.get_attr(nodes[0].target)", "tests/inference/compile/test_as_svi.py"),
    Mutant("dirt that is half as probable", "likelihoods/two_components.py", "        return torch.sigmoid(second - first)", "        return torch.sigmoid(second - first) / 2", "tests/likelihoods/test_spike_and_slab.py"),
    Mutant("estimates that follow recycled rows", "pair.py", "    likelihood.first_pass = False\n", "    likelihood.first_pass = True\n", "tests/likelihoods/test_spike_and_slab.py"),
    Mutant("repaired rows that are repaired again", "pair.py", "given = x if first is None else first", "given = x", "tests/likelihoods/test_spike_and_slab.py"),
    Mutant("a sentinel that sets a scale", "_core/robust.py", "len(away) >= _FEW_OTHERS * len(columns)", "True", "tests/core"),
    Mutant("decimals that are lost", "data/rows.py", "values if number is None else np.round(values, number)", "values", "tests/data"),
    Mutant("a default of another kind", "estimators/registry.py", 'AUTOMATIC if is_auto(likelihood) else likelihood', '"shared_normal" if is_auto(likelihood) else likelihood', "tests/estimators/test_estimator.py"),
    Mutant("rows by their density alone", "diagnostics/scores.py", "return (far + kl).unsqueeze(-1)", "return (far + 0 * kl).unsqueeze(-1)", "tests/diagnostics/test_scores.py"),
    Mutant("rows as near to the centre as to the mean", "diagnostics/scores.py", "_TYPICAL * floor", "floor", "tests/diagnostics/test_scores.py"),
    Mutant("tails that widen the scale", "likelihoods/clean_or_dirty.py", "weighted = squares * (clean_df + 1) / (clean_df + squares / scale.square())", "weighted = squares", "tests/likelihoods/test_spike_and_slab.py"),
    Mutant("tables in which the penalty stays", "estimators/defaults.py", '"clean_df": 8.0, "widest": 3.7', '"clean_df": 8.0, "widest": 2.5', "tests/estimators/test_repair.py"),
    Mutant("noise of images that is clean", "estimators/defaults.py", '"clean_df": None, "widest": 2.0', '"clean_df": None, "widest": 2.5', "tests/estimators/test_repair.py"),
    Mutant("black pixels that set a scale", "estimators/defaults.py", '"narrowest": 0.5', '"narrowest": 0.02', "tests/estimators/test_repair.py"),
    Mutant("a scale without a lower bound", "likelihoods/spike_and_slab.py", "self.narrowest * self._end", "0.0 * self._end", "tests/likelihoods/test_spike_and_slab.py"),
    Mutant("a spike as narrow in training", "likelihoods/spike_and_slab.py", "(self.broadening * scale)", "(1.0 * scale)", "tests/likelihoods/test_spike_and_slab.py"),
    Mutant("a spike as broad as all dirt", "likelihoods/spike_and_slab.py", ".clamp_max(self.broadest * self._end)", "", "tests/likelihoods/test_spike_and_slab.py"),
    Mutant("strokes that are trained away", "estimators/defaults.py", "max(of_range / floor, of_floor)", "of_range / floor", "tests/estimators/test_repair.py tests/estimators/test_defaults.py"),
    Mutant("a spike that is lost in older models", "estimators/settings.py", "        if once:", "        if False:", "tests/estimators/test_persistence.py"),
    Mutant("a spike of another pair", "estimators/pairs.py", "if settings.spike and isinstance(likelihood, SpikeAndSlab):", "if False:", "tests/estimators/test_base.py"),
    Mutant("draws as wide as the residual", "likelihoods/spike_and_slab.py", "after = (1 - dirty) * self.scale.square() + dirty * squares", "after = squares", "tests/likelihoods/test_spike_and_slab.py"),
    Mutant("images that are recycled repaired", "pair.py", 'getattr(likelihood, "recycle_in_training", getattr(likelihood, "recycle", "sample"))', 'getattr(likelihood, "recycle", "sample")', "tests/likelihoods/test_spike_and_slab.py"),
    Mutant("wide residuals that make dirt clean", "likelihoods/spike_and_slab.py", "torch.where(self.mixed > 0, math.inf, bound)", "torch.where(self.mixed > -1, math.inf, bound)", "tests/likelihoods/test_spike_and_slab.py"),
    Mutant("dirt of images as wide as of tables", "estimators/defaults.py", "_WIDTH / floor if images else _RATIO", "_RATIO", "tests/estimators/test_defaults.py"),
    Mutant("dirt of another width once loaded", "estimators/dirt.py", 'saved.get("ratio", 10.0)', "10.0", "tests/estimators/test_repair.py"),
    Mutant("networks of tables by their columns alone", "estimators/defaults.py", "(not images and n_rows < _MANY_ROWS)", "False", "tests/estimators/test_defaults.py"),
    Mutant("inliers that are outlying", "estimators/outliers.py", "np.where(self.decision_function(X) < 0, -1, 1)", "np.where(self.decision_function(X) > 0, -1, 1)", "tests/estimators/test_outliers.py"),
    Mutant("passes that are never more than one", "estimators/defaults.py", "return 2 if repairs and train_passes > 1 else 1", "return 1", "tests/estimators/test_estimator.py"),
    Mutant("all cells written anew", "cli/files.py", "text.iat[i, first + j] = repr(value) if number is None else", "text.iat[i, first + j] = repr(value) if True else", "tests/cli"),
    Mutant("captures that take minutes", "inference/compile/patches.py", "if len(recorded.valid) > _MOST_VALIDATED:", "if False:", "tests/inference/compile/test_as_svi.py"),
    Mutant("plates in another order", "inference/compile/stand_ins.py", "return hash((frame.name, frame.dim, size.node.hint if isinstance(size, torch.SymInt) else size, frame.counter))", "return hash((frame.name, frame.dim, frame.counter))", "tests/inference/compile/test_as_svi.py"),
    Mutant("one graph for plates of all lengths", "inference/compile/stand_ins.py", "if len(sizes) > 1 and any(", "if False and any(", "tests/inference/compile/test_as_svi.py"),
    Mutant("a store in another order", "inference/compile/patches.py", '        store._params = _InOrder(before["_params"], store._params)\n', "", "tests/inference/compile/test_as_svi.py"),
    Mutant("names of rows that are cleaned", "data/columns.py", "        elif _names_rows(column):", "        elif False:", "tests/data/test_columns.py"),
    Mutant("whole numbers that are cut", "data/rows.py", "np.clip(np.rint(values)", "np.clip(np.floor(values)", "tests/data/test_rows.py"),
    Mutant("components that are not fitted", "estimators/dirt.py", "        found.follow(squares, momentum=1.0)", "        pass", "tests/estimators/test_repair.py"),
    Mutant("invalid data that a graph takes", "inference/compile/patches.py", "recorded.valid.append(valid.all())", "pass", "tests/inference/compile/test_as_svi.py"),
    Mutant("a loss that is not finite in a parameter", "inference/compile/svi.py", "            before.put_back()  # SVI may raise an error, or warn\n            for parameter, gradient in zip(program.trained, gradients, strict=True):\n                parameter.grad = gradient\n            return None, False", "            pass", "tests/inference/compile/test_as_svi.py"),
    Mutant("gradients of a step that is refused", "inference/compile/svi.py", "            if all(map(math.isfinite, numbers)):\n                for number, surrogate", "            if True:\n                for number, surrogate", "tests/inference/compile/test_as_svi.py"),
    Mutant("parameters that only an evaluation reads", "inference/compile/making.py", "*held_by(graph.module).values()", "", "tests/inference/compile/test_as_svi.py"),
    Mutant("a model's effects that are left out", "inference/compile/watch.py", 'return f"it changes what it reads: {in_words(changed)}"', "return None", "tests/inference/compile/test_as_svi.py"),
    Mutant("a graph that is verified once", "inference/compile/graphs.py", "program.is_due() and not is_recording()", "False", "tests/inference/compile/test_as_svi.py"),
    Mutant("momentum that ends", "inference/compile/svi.py", "parameter.grad = self._zeros.get(parameter)", "pass", "tests/inference/compile/test_as_svi.py"),
    Mutant("gradients past no_grad", "inference/compile/capture.py", "back.get(_itself(was), now)", "now", "tests/inference/compile/test_as_svi.py"),
    Mutant("values of other tensors as constants", "inference/compile/replacing.py", "users = threading.get_ident() == thread and", "users = False and", "tests/inference/compile/test_as_svi.py"),
    Mutant("bf16 for matrices of doubles", "inference/compile/precision.py", "if any(parameter.dtype != torch.float32 for", "if any(False for", "tests/inference/compile/test_precision.py"),
    Mutant("a graph that nobody verified", "inference/compile/program.py", "not _equal(one, other, exactly)", "False", "tests/inference/compile/test_compiled_elbo.py"),
    Mutant("gradients that are kept after a step", "inference/compile/svi.py", "                parameter.grad = self._zeros_for(parameter)", "                pass", "tests/inference/compile/test_compiled_svi.py"),
    Mutant("an engine that never pays", "inference/training/engine.py", 'chosen = "eager" if saved < capture else', 'chosen = "eager" if True else'),
    Mutant("units that are always active", "inference/training/monitor.py", "(z.var(0) > ACTIVE_VARIANCE).sum()", "(z.var(0) > -1).sum()"),
    Mutant("a bar that counts looks", "inference/training/progress.py", 'self._bar.update(entry["rows"])', "self._bar.update(1)"),
    Mutant("steps of several passes alone", "inference/training/recipe.py", "return self.passes if is_recycled else 1", "return self.passes"),
    Mutant("a loss of passes that are not counted", "inference/training/state.py", "self.passed + rows * passes", "self.passed + rows"),
    Mutant("a gradient through repaired rows", "inference/training/trainer.py", 'detach=how == "repair"', "detach=False", "tests/inference/training"),
    Mutant("recycling that is not given up", "inference/training/trainer.py", "self.state.good, self.state.recycles = self.state.start, False", "self.state.good, self.state.recycles = self.state.start, True"),
    Mutant("a floor that moves in steps", "inference/training/recipe.py", "float(start * (end / start) ** min(1.0, progress / self.floor_until))", "float(start + (end - start) * min(1.0, progress / self.floor_until))"),
    Mutant("phases of recycling from the start", "inference/training/recipe.py", "single = epochs if passes == 1 else", "single = 0 if passes > 1 else"),
    Mutant("a state without moments", "inference/training/state.py", '                "moments": self.step.moments(),', '                "moments": [{} for _ in self.step.parameters],'),
    Mutant("a state without what was random", "inference/training/state.py", 'set_random_state(state["random"], self.step.device)', "pass"),
    Mutant("a state that forgets how it was slowed", "inference/training/state.py", 'self.slowed = state["phase"], state["number"], state["slowed"]', 'self.slowed = state["phase"], state["number"], 1.0'),
    Mutant("a state that goes on to change", "inference/training/state.py", "        return deepcopy(\n            {", "        return dict(\n            {"),
    Mutant("moments that are not restored", "inference/training/step.py", "value.copy_(saved[name])", "pass"),
    Mutant("a schedule that nobody follows", "inference/training/trainer.py", "buffer.fill_(self.recipe.scheduled(ends, progress))", "pass"),
    Mutant("a scale that is squared", "likelihoods/fixed_normal.py", "dist.Normal(in_precision_of(x, decoder_output), self.scale)", "dist.Normal(in_precision_of(x, decoder_output), self.scale**2)", LIKELIHOODS),
    Mutant("a Laplace that is a normal", "likelihoods/laplace.py", "dist.Laplace(in_precision", "dist.Normal(in_precision", LIKELIHOODS),
    Mutant("a prior of half the width", "priors/standard_normal.py", "torch.ones(n_latent)", "torch.full((n_latent,), 0.5)"),
    Mutant("a likelihood of rows that gets through", "testing.py", '    _expect_shapes("the cells", cells, shape, ())\n    log_prob', "    log_prob", "tests/test_testing.py"),
    Mutant("a density that need not integrate to one", "testing.py", "abs(worst - 1) < _INTEGRAL_TOLERANCE", "True", "tests/test_testing.py"),
    Mutant("columns that are forgotten", "estimators/base.py", "self.feature_names_in_ = np.asarray(columns, dtype=object)\n        elif", "pass\n        elif"),
    Mutant("an automatic floor of the centre's cells", "estimators/defaults.py", "away = distances[distances > 0]", "away = distances[distances >= 0]", "tests/estimators/test_defaults.py"),
    Mutant("cleaned rows in standardised units", "estimators/pair_estimator.py", "rows.like(self.scaling_.restore(cleaned.numpy()))", "rows.like(cleaned.numpy())", "tests/estimators/test_estimator.py"),
    Mutant("a newer format that is read", "estimators/persistence.py", 'newer = described["format_version"] > FORMAT_VERSION', "newer = False", "tests/estimators/test_persistence.py"),
    Mutant("a pursuit of another weight", "estimators/pursuit.py", "float(lambda_scale) / len(tall) ** 0.5", "float(lambda_scale) / len(tall)", "tests/estimators/test_robust_pca.py"),
    Mutant("the object given, and not a copy", "estimators/registry.py", "made: Any = deepcopy(as_likelihood(argument))", "made: Any = as_likelihood(argument)", "tests/estimators/test_persistence.py tests/estimators/test_estimator_parts.py tests/estimators/test_estimator_input.py"),
    Mutant("a pair of other networks taken for its own", "estimators/ricvae.py", "is_own = builds_alike(new, taken.model, taken.guide)", "is_own = True", "tests/estimators/test_base.py"),
    Mutant("an affine bound without its log-determinant", "diagnostics/affine.py", " + np.linalg.slogdet(precision)[1]\n", "\n", "tests/diagnostics/test_affine.py"),
    Mutant("an affine bound of the first step", "diagnostics/affine.py", "_MAX_STEPS = 2000", "_MAX_STEPS = 1", "tests/diagnostics/test_affine.py"),
    Mutant("an affine objective without its kappa", "diagnostics/affine.py", "(posterior.loc**2).sum(axis=1) - W.shape[1]", "(posterior.loc**2).sum(axis=1)", "tests/diagnostics/test_affine.py"),
    Mutant("an affine objective with no floor inside", "diagnostics/affine.py", "value = value + _inside(", "value = value + 0 * _inside(", "tests/diagnostics/test_affine.py"),
    Mutant("a count of near-zero residuals without the latents' part", "diagnostics/degeneracy.py", "(residuals**2 < tolerance).sum(axis=1) - (values < tolerance).sum(axis=1)", "(residuals**2 < tolerance).sum(axis=1)", "tests/diagnostics/test_affine.py"),
    Mutant("rows memorised without the constant term", "diagnostics/degeneracy.py", "n_memorised = min(n, rank + 1)", "n_memorised = min(n, rank)", "tests/diagnostics/test_affine.py"),
    Mutant("EM whose latents' covariance is not folded in", "estimators/marginal.py", "svd(W @ (vectors * np.sqrt(np.maximum(values, 0.0))), full_matrices=False)", "svd(W, full_matrices=False)", "tests/estimators/test_empirical_bayes.py"),
    Mutant("EM whose latents' mean is not folded in", "estimators/marginal.py", "solved[:, k] + W @ mean", "solved[:, k]", "tests/estimators/test_empirical_bayes.py"),
    Mutant("EM by means alone", "estimators/marginal.py", "        second[:, :k, :k] += posterior.covariance\n", "", "tests/estimators/test_empirical_bayes.py"),
    Mutant("an empirical-Bayes floor that stays", "estimators/marginal.py", "target = max(least, median) if floor is None else least", "target = state.floor", "tests/estimators/test_empirical_bayes.py"),
    Mutant("an empirical-Bayes floor that ignores the noise", "estimators/marginal.py", "max(least, median) if floor is None", "least if floor is None", "tests/estimators/test_empirical_bayes.py"),
    Mutant("a subspace without its centre", "estimators/robust_pca.py", "return self._as_events(self._split(X)[0] + self.center_)", "return self._as_events(self._split(X)[0])", "tests/estimators/test_robust_pca.py"),
    Mutant("a threshold of other errors than the scores", "estimators/drae.py", "self._squares(x).sum(axis=1))", "self._squares(x).mean(axis=1))", "tests/estimators/test_drae.py"),
    Mutant("a discriminative loss without its weight", "estimators/discriminative.py", "+ weight * within", "+ within", "tests/estimators/test_discriminative.py"),
    Mutant("a discriminative loss of outliers", "estimators/discriminative.py", "errors[order[:n_inliers]].mean()", "errors.mean()", "tests/estimators/test_discriminative.py"),
    Mutant("a discriminative split by sizes of groups unweighted", "estimators/discriminative.py", "** 2 / (numbers * (len(scaled) - numbers))", "** 2", "tests/estimators/test_discriminative.py"),
    Mutant("discriminative errors with their offset", "estimators/discriminative.py", "np.cumsum(scaled - scaled.mean())", "np.cumsum(scaled)", "tests/estimators/test_discriminative.py"),
    Mutant("a hard case that is left short", "estimators/sphere.py", "found[0] = lacking**0.5", "pass", "tests/estimators/test_sphere.py"),
    Mutant("one-class labels without a margin", "estimators/soft_labels.py", "+ margin * (mean + above / numbers)", "", "tests/estimators/test_uocl.py"),
    Mutant("one-class coefficients without a margin", "estimators/uocl.py", "labels + margin * is_inlier / is_inlier.sum()", "labels", "tests/estimators/test_uocl.py"),
    Mutant("a one-class graph that is not symmetric", "estimators/uocl.py", "graph.maximum(graph.T)", "graph", "tests/estimators/test_uocl.py"),
    Mutant("networks alike by their tensors alone", "estimators/pairs.py", "if not all(map(torch.equal, *made)):", "if False:", "tests/estimators/test_base.py"),
    Mutant("intervals that are not paired", "comparison/result.py", "paired.std(ddof=1) / len(paired) ** 0.5", "values.loc[name].std(ddof=1) / len(paired) ** 0.5"),
    Mutant("a panel where lower and higher are mixed", "plots/comparison.py", "{better} is better", "{better} is worse"),
    Mutant("k-hats that are never red", "plots/guide.py", "which & ((k > 0.7) == is_bad)", "which & (not is_bad)"),
    Mutant("replicates of other rows drawn beside", "plots/replicates.py", "if replicated.dim() != 3 or replicated.shape[1:] != x.shape:", "if False:", "tests/diagnostics/replicates/test_ppc.py"),
    Mutant("limits that are not used", "plots/rows.py", "    low, high = limits\n", "    low, high = float(images.min()), float(images.max())\n"),
    Mutant("a picture in another resolution", "plots/style.py", "dpi=_DPI", "dpi=30"),
    Mutant("errors on what is clean taken for dirty", "demo/scenarios.py", '"clean": ~where,', '"clean": where,'),
    Mutant("an iC-VAE of fewer passes", "demo/methods.py", '"train_passes": 1, "epochs": equal.epochs}', '"train_passes": 1}'),
    Mutant("a demo that forgets the input's error", "demo/run.py", 'results[data] = {"input": scenario.errors(scenario.dirty)}', 'results[data] = {"input": scenario.errors(scenario.clean)}'),
    Mutant("the worst row at the end", "cli/cleaning.py", "largest(-scores, _N_LISTED)", "largest(scores, _N_LISTED)", "tests/cli/test_cli.py"),
    Mutant("numbers without their type", "cli/files.py", "columns = {i: _as_type(values[:, i], dtype) for", "columns = {i: values[:, i] for", "tests/cli/test_files.py"),
    Mutant("a seed that is not used", "cli/main.py", "test_passes=passes, random_state=seed,", "test_passes=passes, random_state=0,", "tests/cli/test_cli.py"),
    Mutant("an output that replaces what is the user's", "cli/outputs.py", "if not (target / _MARK).exists():", "if False:", "tests/cli/test_outputs.py"),
    Mutant("a header of numbers", "cli/readers.py", "if all(map(_is_number, names)):", "if False:", "tests/cli/test_files.py"),
    Mutant("samples without the columns' names", "cli/samples.py", 'getattr(estimator, "feature_names_in_",', 'getattr(estimator, "no_names_",', "tests/cli/test_cli.py"),
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
            *mutant.where,
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
