"""Typed, validated notebook parameters and the run ids made from them.

Every notebook has one cell of parameters; the next cell hands its namespace to
`from_notebook`. What papermill only warns about is an error here.
"""

import ast
import difflib
import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

import pandas as pd
import pydantic
from pydantic import Field

from lib import files
from lib.models import SYSTEMS, Share
from lib.protocols import PROTOCOLS

Features = Literal[
    "", "timnet", "timnet_paper", "lightsernet", "cktim", "egemaps", "timnet_official"
]
Loss = Literal["cross_entropy", "focal", "margin"]
Model = Literal[*SYSTEMS]
Protocol = Literal["", *PROTOCOLS]
Schedule = Literal["constant", "step", "plateau", "cosine"]
Options = dict[str, Any]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Number = Annotated[int, Field(ge=0, le=100_000)]
Augmentation = Literal["none", "waveform", "cepstrum"]
Normalisation = Literal["none", "train", "clip", "speaker"]
Validation = Literal["speakers", "none", "refit"]
ClassWeights = Literal["none", "balanced"]
Positive = Annotated[float, Field(gt=0, le=1)]


class Study(pydantic.BaseModel):
    """What is trained and tested, and on which clips."""

    corpus: str = Field("DEMO", pattern="^[A-Za-z0-9_]+$", description="corpus to use")
    features: Features = Field("", description="feature preset; empty for the model's")
    feature_options: Options = Field({}, description="values that override the preset")
    model: Model = Field("timnet", description="system to train")
    model_options: Options = Field({}, description="options of the system")
    protocol: Protocol = Field("", description="who tests; empty for unseen speakers")
    folds: int = Field(0, ge=0, le=1000, description="0: default of the protocol")
    fold_file: str = Field("", description="CSV file of the folds, for 'listed'")
    validation: Validation = Field("speakers", description="clips to choose the epoch")
    seed: Seed = Field(46, description="seed of folds and weights")
    normalisation: Normalisation = Field("none", description="how features are scaled")
    class_weights: ClassWeights = Field("none", description="weight of rare classes")
    augmentation: Augmentation = Field("none", description="altered training clips")
    augmentation_options: Options = Field({}, description="options of augmentation")


class Training(pydantic.BaseModel):
    """How a network is trained; a system without epochs has no use for it."""

    epochs: Number = Field(0, description="passes; 0: 500 (DEMO 12, 8 in 06, 20 in 08)")
    batch_size: Number = Field(0, description="clips per step; 0: 64 (DEMO 8)")
    learning_rate: Positive = Field(1e-3, description="Adam's step size")
    beta_1: Share = Field(0.93, description="Adam's first decay")
    beta_2: Share = Field(0.98, description="Adam's second decay")
    epsilon: Positive = Field(1e-8, description="Adam's epsilon, avoids division by 0")
    schedule: Schedule = Field("constant", description="how the step size changes")
    schedule_options: Options = Field({}, description="options of the schedule")
    early_stopping: Number = Field(0, description="epochs without gain before a stop")
    weight_average: Share = Field(0.0, description="decay of averaged weights; 0: off")
    label_smoothing: Share = Field(0.1, description="share of a label spread over all")
    loss: Loss = Field("cross_entropy", description="what training minimises")
    loss_options: Options = Field({}, description="options of the loss")


class Parameters(Training, Study, extra="forbid", frozen=True, strict=True):
    """All parameters of all notebooks; each notebook shows the ones it uses."""

    workspace: str = Field("", description="folder of MFCC, Models, logs, Results")
    datasets_dir: str = Field("", description="folder of the corpora")
    official_features: str = Field("", description="the authors' file to import")
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="where to run")
    fold_parallel: Literal["auto", "off"] = Field("auto", description="parallel folds")
    more_seeds: list[Seed] = Field([], description="seeds of more runs, on JAX at once")
    overwrite: bool = Field(False, description="recompute existing results")
    ignore_problems: bool = Field(False, description="continue even if a check failed")
    verbose: int = Field(1, ge=0, le=2, description="0 silent, 1 bars, 2 plain lines")
    run_id: str = Field("", pattern=r"^[A-Za-z0-9_.-]*$", description="run to use")
    study: str = Field("", pattern=r"^[\w-]*$", description="study to show, by name")
    weights_dir: str = Field("", description="folder of official TIM-Net weights")
    weights_format: Literal["", "timnet_hdf5"] = Field("", description="file format")

    @property
    def given(self) -> set[str]:
        """Names of the parameters that the user has set."""
        return self.model_fields_set

    @property
    def folders(self) -> files.Workspace:
        """The workspace that `workspace` and `datasets_dir` describe."""
        return files.Workspace(self.workspace, self.datasets_dir)

    @property
    def feature_preset(self) -> str:
        """The feature preset in force: the one given, or the model's own."""
        return self.features or SYSTEMS[self.model].features

    @property
    def epochs_in_force(self) -> int:
        """The number of epochs: the one given, else the paper's; fewer for DEMO."""
        return self.epochs or (12 if self.corpus == "DEMO" else 500)

    @property
    def batch_size_in_force(self) -> int:
        """Clips per step: the number given, else the paper's; fewer for DEMO."""
        return self.batch_size or (8 if self.corpus == "DEMO" else 64)

    @property
    def protocol_in_force(self) -> str:
        """The protocol: the one given; official weights belong to random folds."""
        return self.protocol or ("paper" if self.weights_dir else "speaker")

    def table(self, *names: str) -> pd.DataFrame:
        """Return parameters, or all of them, as a table: name, value, meaning."""
        fields = type(self).model_fields
        rows = [(n, getattr(self, n), fields[n].description) for n in names or fields]
        columns = ["parameter", "value", "meaning"]
        return pd.DataFrame(rows, columns=columns).set_index("parameter")


TRAINING = tuple(Training.model_fields)
DECIDE_A_RUN = frozenset(Study.model_fields).union(TRAINING)


def validated(values: Mapping[str, Any]) -> Parameters:
    """Return the parameters, these given, or say all that is wrong (ValueError)."""
    try:
        parameters = Parameters(**values)
    except pydantic.ValidationError as error:
        raise ValueError(_explained(error, "parameter ")) from None
    front_end = parameters.features not in ("", "timnet_official")
    if parameters.official_features and (front_end or parameters.feature_options):
        raise ValueError("official_features given: leave features, feature_options out")
    return parameters


def _explained(error: pydantic.ValidationError, what: str) -> str:
    """Return what pydantic found wrong, a line for each value."""
    lines, known = [], Parameters.model_fields
    for fault in error.errors():
        name, given = str(fault["loc"][0]), fault["input"]
        message = fault["msg"].replace("Input should", "input should")
        line = f"{what}{name} is {given!r}; {message}"
        if fault["type"] == "extra_forbidden":
            line = f"unknown {what}'{name}'{did_you_mean(name, known, 'there are')}"
        if fault["type"] == "literal_error":
            allowed = re.findall("'(.*?)'", fault["ctx"]["expected"])
            line += did_you_mean(str(given), allowed)
        if fault["type"] == "string_type":
            line += " (papermill: pass text that looks like a number with -r)"
        lines.append(line)
    return "\n".join(lines)


def did_you_mean(name: str, known: Iterable[str], told: str = "") -> str:
    """Return " – did you mean 'x'?" for the nearest known name, else `told` and all."""
    lowered = {one.lower(): one for one in map(str, known) if one != name}
    nearest = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    every = told and f"; {told} {', '.join(lowered.values()) or 'none'}"
    return f" – did you mean '{lowered[nearest[0]]}'?" if nearest else every


def with_defaults(
    what: str, function: Callable[..., Any], chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a function, chosen or default; `what` is for errors.

    ValueError for an unknown one, or one that `pydantic.validate_call` refuses.
    """
    signature = inspect.signature(function).parameters
    known = {name: parameter.default for name, parameter in signature.items()}
    for name in set(chosen) - set(known):
        hint = did_you_mean(name, known, "there are")
        raise ValueError(f"{what} has no option '{name}'{hint}")
    options = known | {name: as_default(known[name], chosen[name]) for name in chosen}
    try:
        function(**options)
    except pydantic.ValidationError as error:
        raise ValueError(_explained(error, f"{what}: ")) from None
    return options


def as_default(default: Any, value: Any) -> Any:
    """Return a whole number as a real one where the default is real: 1 is 1.0."""
    return float(value) if type(default) is float and type(value) is int else value


def from_notebook(
    namespace: Mapping[str, Any], *, selects_a_run: bool = False
) -> Parameters:
    """Validate the parameters of a notebook from its `globals()`.

    They are read from the cells that were run, not from variables, so that this can
    be run again at any time. A parameter is given if papermill has set it, or if it
    is no longer the default. With `selects_a_run` those that decide a run may be
    given too, to choose among the finished ones.
    """
    own, by_papermill = "", ""
    for source in namespace["In"]:
        declared = re.findall(r"^(\w+) *: *\w+ *=", source, re.MULTILINE)
        if Parameters.model_fields.keys() & set(declared):
            own, by_papermill = source, ""
        elif source.startswith("# Parameters\n"):
            by_papermill = source
    shown, injected = _plain_values(own), _plain_values(by_papermill)
    if not shown:
        raise ValueError("run the cell of parameters first, then this one")
    values = shown | injected
    changed = validated(values).model_dump(exclude_defaults=True)
    for name, value in values.items():
        now = namespace.get(name, value)
        if isinstance(now, str | int | float | list | dict) and now != value:
            fault = f"the variable {name} is {now!r}, but the cells say {value!r}: set "
            raise ValueError(f"{fault}it in the cell of parameters alone")
    given = {*changed, *injected}
    usable = {*shown, *DECIDE_A_RUN} if selects_a_run else {*shown}
    if useless := sorted(given - usable):
        fault = f"this notebook has no use for {', '.join(useless)}; it takes "
        raise ValueError(fault + ", ".join(sorted(usable)))
    return validated({name: values[name] for name in given})


def _plain_values(source: str) -> dict[str, Any]:
    """Return the names and values that a cell of parameters sets."""
    values = {}
    for statement in ast.parse(source).body:
        written = ast.unparse(statement)
        assignment = re.fullmatch(r"(\w+)(?:: \w+)? = (.+)", written)
        try:
            values[assignment[1]] = ast.literal_eval(assignment[2])
            # JSON would make a list of a tuple, and has no sets or bytes.
            plain = json.loads(json.dumps(values, allow_nan=False)) == values
        except (TypeError, ValueError, SyntaxError):
            plain = False
        if not plain:
            fault = f"`{written}` is not `name: type = value` with a plain value"
            raise ValueError(f"{fault}; put calls and imports into another cell")
    return values


def digest(value: Any, length: int = 8) -> str:
    """Return the first hexadecimal digits of the SHA-256 of a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def make_run_id(settings: Mapping[str, Any]) -> str:
    """Return `<corpus>-<model>-<protocol>-s<seed>-<8 hex digits>` of settings."""
    head = "{corpus}-{model}-{protocol}-s{seed}".format(**settings)
    return f"{head}-{digest(dict(settings))}"
