"""Typed, validated notebook parameters and the run ids made from them.

Every notebook has one cell of parameters; the next cell hands its namespace to
`from_notebook`. Papermill only warns about a parameter that no notebook knows;
here it is an error with the nearest known name.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

import pandas as pd
import pydantic
from pydantic import BeforeValidator, Field

from lib import files
from lib.models import SYSTEMS
from lib.protocols import PROTOCOLS

Features = Literal[
    "", "timnet", "timnet_paper", "lightsernet", "cktim", "egemaps", "timnet_official"
]
Loss = Literal["cross_entropy", "focal", "margin"]
Model = Literal[*SYSTEMS]
Protocol = Literal["", *PROTOCOLS]
Schedule = Literal["constant", "step", "exponential", "plateau", "cosine"]
Options = dict[str, Any]
Number = Annotated[int, Field(ge=0, le=100_000)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, le=1)]
# What decides how a network is trained; a system without epochs has none of it.
TRAINING = (
    "epochs",
    "batch_size",
    "learning_rate",
    "beta_1",
    "beta_2",
    "epsilon",
    "schedule",
    "schedule_options",
    "early_stopping",
    "weight_average",
    "label_smoothing",
    "loss",
    "loss_options",
)
DECIDE_A_RUN = frozenset(TRAINING).union(
    ("corpus", "features", "feature_options", "model", "model_options"),
    ("protocol", "folds", "seed", "augmentation", "augmentation_options"),
)


def _not_a_switch(value: Any) -> Any:
    """Refuse True and False, which equal 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("input should be 0, 1 or 2")
    return value


class Parameters(pydantic.BaseModel):
    """All parameters of all notebooks; each notebook shows the ones it uses.

    The field descriptions are the documentation; `table()` shows them.
    """

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, strict=True, protected_namespaces=()
    )

    workspace: str = Field("", description="folder of MFCC, Models, logs, Results")
    datasets_dir: str = Field("", description="folder of the corpora")
    corpus: str = Field(
        "DEMO", pattern=r"^[A-Za-z0-9_]+$", description="corpus to work on"
    )
    features: Features = Field("", description="feature preset; empty for the model's")
    feature_options: Options = Field({}, description="values that override the preset")
    official_features: str = Field("", description="the authors' file to import")
    model: Model = Field("timnet", description="system to train")
    model_options: Options = Field({}, description="options of the system")
    protocol: Protocol = Field("", description="who tests; empty for unseen speakers")
    folds: int = Field(0, ge=0, le=1000, description="0 for the protocol's own")
    seed: int = Field(46, ge=0, le=2**31 - 1, description="seed of folds and weights")
    epochs: Number = Field(0, description="0 for the recipe's own")
    batch_size: Number = Field(0, description="clips per step; 0 for the recipe's own")
    learning_rate: Positive = Field(1e-3, description="Adam's step size")
    beta_1: Share = Field(0.93, description="Adam's first decay")
    beta_2: Share = Field(0.98, description="Adam's second decay")
    epsilon: Positive = Field(1e-8, description="Adam's guard against division by 0")
    schedule: Schedule = Field("constant", description="how the step size changes")
    schedule_options: Options = Field({}, description="options of the schedule")
    early_stopping: Number = Field(0, description="epochs to wait for a better one")
    weight_average: Share = Field(0.0, description="decay of the weights' average")
    label_smoothing: Share = Field(0.1, description="share of a label spread over all")
    loss: Loss = Field("cross_entropy", description="what training minimises")
    loss_options: Options = Field({}, description="options of the loss")
    augmentation: Literal["none", "waveform", "cepstrum"] = Field(
        "none", description="altered copies of the training clips"
    )
    augmentation_options: Options = Field({}, description="options of augmentation")
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="where to run")
    fold_parallel: Literal["auto", "off"] = Field("auto", description="folds at once")
    overwrite: bool = Field(False, description="make again what is already there")
    ignore_problems: bool = Field(False, description="go on although a check failed")
    verbose: Annotated[Literal[0, 1, 2], BeforeValidator(_not_a_switch)] = Field(
        1, description="0 silent, 1 progress bars, 2 plain lines"
    )
    run_id: str = Field("", pattern=r"^[A-Za-z0-9_.-]*$", description="run to use")
    weights_dir: str = Field("", description="folder of official TIM-Net weights")
    weights_format: Literal["", "timnet_hdf5"] = Field("", description="their layout")

    _given: frozenset[str] = pydantic.PrivateAttr(frozenset())

    @property
    def given(self) -> frozenset[str]:
        """Names of the parameters that the user has set."""
        return self._given

    def with_given(self, names: Iterable[str]) -> Parameters:
        """Return the same parameters, these of them set by the user."""
        copy = self.model_copy()
        copy._given = frozenset(names)
        return copy

    @property
    def folders(self) -> files.Workspace:
        """The workspace that `workspace` and `datasets_dir` describe."""
        return files.find_workspace(self.workspace, self.datasets_dir)

    @property
    def feature_preset(self) -> str:
        """The feature preset in force: the one given, or the model's own."""
        return self.features or SYSTEMS[self.model].features

    @property
    def epochs_in_force(self) -> int:
        """The number of epochs: the one given, else the paper's; fewer for DEMO."""
        return self.epochs or (20 if self.corpus == "DEMO" else 500)

    @property
    def batch_size_in_force(self) -> int:
        """Clips per step: the number given, else the paper's; fewer for DEMO."""
        return self.batch_size or (16 if self.corpus == "DEMO" else 64)

    @property
    def protocol_in_force(self) -> str:
        """The protocol: the one given; official weights belong to random folds."""
        return self.protocol or ("paper" if self.weights_dir else "speaker")

    def table(self, *names: str) -> pd.DataFrame:
        """Return parameters, or all of them, as a table: name, value, meaning."""
        fields = type(self).model_fields
        rows = [
            (name, getattr(self, name), fields[name].description)
            for name in names or fields
        ]
        table = pd.DataFrame(rows, columns=["parameter", "value", "meaning"])
        return table.set_index("parameter")


def validated(values: Mapping[str, Any]) -> Parameters:
    """Return the parameters, or say everything that is wrong with them.

    Args:
        values: Parameter names and values, which count as given; missing ones take
            their defaults.

    Raises:
        ValueError: For a wrong type, a value out of range or an unknown name.
            The message names each parameter, what was given, what is allowed
            and, for an unknown name, the nearest known one.
    """
    try:
        parameters = Parameters(**values).with_given(values)
    except pydantic.ValidationError as error:
        lines = [_explained(fault) for fault in error.errors()]
        raise ValueError("\n".join(lines)) from None
    if parameters.official_features and (
        parameters.feature_options or parameters.features not in ("", "timnet_official")
    ):
        raise ValueError(
            "official_features is the authors' file, which is imported as it is; leave "
            "features and feature_options out"
        )
    return parameters


def _explained(fault: Mapping[str, Any]) -> str:
    name, given = str(fault["loc"][0]), fault["input"]
    fields = Parameters.model_fields
    if fault["type"] == "extra_forbidden":
        return f"unknown parameter '{name}'{did_you_mean(name, fields)}"
    message = fault["msg"][0].lower() + fault["msg"][1:]
    hint = ""
    if fault["type"] == "literal_error" and isinstance(given, str):
        allowed = get_args(fields[name].annotation)
        message = "should be one of " + ", ".join(repr(value) for value in allowed)
        hint = did_you_mean(given, allowed)
    if fault["type"] == "string_type":
        hint = " (papermill: pass text that looks like a number with -r)"
    return f"parameter '{name}': {given!r} is not allowed; {message}{hint}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " – did you mean 'x'?" for the nearest known name, or ""."""
    lowered = {candidate.lower(): candidate for candidate in map(str, known)}
    nearest = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return f" – did you mean '{lowered[nearest[0]]}'?" if nearest else ""


def with_defaults(
    what: str, function: Callable[..., Any], chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a function that has a default for each.

    Args:
        what: What the arguments are options of, for the error.
        function: The function.
        chosen: Arguments that replace a default.

    Raises:
        ValueError: If the function has no such argument, with the nearest one; or if
            its own checks refuse a value (`pydantic.validate_call`).
    """
    signature = inspect.signature(function).parameters
    known = {name: parameter.default for name, parameter in signature.items()}
    for name in chosen:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"{what} has no option '{name}'{hint}")
    options = known | {name: as_default(known[name], chosen[name]) for name in chosen}
    try:
        function(**options)
    except pydantic.ValidationError as error:
        fault = error.errors()[0]
        message = fault["msg"][0].lower() + fault["msg"][1:]
        raise ValueError(
            f"{what}: {fault['loc'][0]} is {fault['input']!r}; {message}"
        ) from None
    return options


def as_default(default: Any, value: Any) -> Any:
    """Return a whole number as a real one where the default is real: 1 is 1.0."""
    return float(value) if type(default) is float and type(value) is int else value


def from_notebook(
    namespace: Mapping[str, Any], *, selects_a_run: bool = False
) -> Parameters:
    """Validate the parameters of a notebook.

    They are read from the cells that were run, not from variables, so that this can
    be run again at any time. A parameter is given if papermill has set it, or if it
    is no longer the default.

    Args:
        namespace: The notebook's `globals()`, with IPython's history `In`.
        selects_a_run: Whether the notebook also takes the parameters that decide
            a run, to choose among the finished ones.

    Raises:
        ValueError: As `validated`; if a cell sets a parameter to anything but a
            plain value; or for a parameter that this notebook has no use for.
    """
    shown, values, injected = _read_cells(namespace["In"])
    parameters = validated(values)
    for name, value in values.items():
        now = namespace.get(name, value)
        if isinstance(now, str | int | float | list | dict) and now != value:
            raise ValueError(
                f"the variable {name} is {now!r}, but the cells say {value!r}: set it "
                "in the cell of parameters, and use other names elsewhere"
            )
    defaults = Parameters()
    changed = {name for name in values if values[name] != getattr(defaults, name)}
    given = injected | changed
    usable = shown | DECIDE_A_RUN if selects_a_run else shown
    if useless := sorted(given - usable):
        raise ValueError(
            f"this notebook has no use for {', '.join(useless)}; it takes "
            f"{', '.join(sorted(usable))}"
        )
    return parameters.with_given(given)


def _read_cells(cells: Sequence[str]) -> tuple[set[str], dict[str, Any], set[str]]:
    """Return the notebook's own parameters, all values, and what papermill has set.

    The cell of parameters has their types; a cell by papermill has its heading; any
    other cell may set a parameter too. What is set later counts.
    """
    known = set(Parameters.model_fields)
    shown: set[str] = set()
    values: dict[str, Any] = {}
    injected: set[str] = set()
    unreadable: dict[str, str] = {}
    for source in cells:
        statements = _statements(source)
        typed = [item for item in statements if isinstance(item, ast.AnnAssign)]
        own = any(_assigned(item) & known for item in typed)
        by_papermill = source.split("\n")[0].strip() == "# Parameters"
        if own:  # run again: what was set before does not count any more
            shown, values, injected, unreadable = set(), {}, set(), {}
        for statement in statements:
            names = _assigned(statement)
            text = isinstance(statement, ast.Expr) and not names
            comment = text and isinstance(statement.value, ast.Constant)
            if comment or not (own or by_papermill or names & known):
                continue
            shown |= names if own else set()
            injected |= names if by_papermill else set()
            found = _literal(statement)
            values |= found
            for name in names or {""}:
                unreadable.pop(name, None)
                if not found:
                    unreadable[name] = ast.unparse(statement)
    if unreadable:
        raise ValueError(
            f"the parameters cannot be read: `{[*unreadable.values()][0]}` is not "
            "`name: type = value` with a plain value. Write the value itself (text, "
            "number, True, False, [...] or {...}), and put calls and imports into "
            "another cell, under names that are no parameters."
        )
    if not values:
        raise ValueError("run the cell of parameters first, then this one")
    return shown or set(values), values, injected


def _statements(source: str) -> list[ast.stmt]:
    """Return the statements of a cell, also of one that is timed or captured."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return []
    if len(statements) == 1 and "run_cell_magic" in ast.unparse(statements[0]):
        magic, _, body = (
            getattr(part, "value", "") for part in statements[0].value.args
        )
        return _statements(body) if magic in ("time", "capture") else []
    return statements


def _assigned(statement: ast.stmt) -> set[str]:
    """Return the names that a statement assigns, also inside an if or a with."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return set()
    kinds = ast.Assign | ast.AnnAssign | ast.AugAssign
    return {
        part.id
        for item in ast.walk(statement)
        if isinstance(item, kinds)
        for target in getattr(item, "targets", [getattr(item, "target", None)])
        for part in ast.walk(target)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
    }


def _literal(statement: ast.stmt) -> dict[str, Any]:
    """Return name and value of an assignment of a plain value, else nothing."""
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    written = getattr(statement, "value", None)
    if isinstance(statement, ast.AugAssign) or written is None:
        return {}
    if len(targets) != 1 or not isinstance(targets[0], ast.Name):
        return {}
    name = targets[0].id
    # How papermill writes numbers that JSON lacks.
    if ast.unparse(written) in ("float('nan')", "float('inf')", "float('-inf')"):
        return {name: float(written.args[0].value)}
    try:
        value = ast.literal_eval(written)
        # JSON would make a list of a tuple, and has no sets or bytes.
        same = json.loads(json.dumps(value, allow_nan=False)) == value
    except (ValueError, TypeError):
        return {}
    has_tuple = any(isinstance(part, ast.Tuple) for part in ast.walk(written))
    return {name: value} if same and not has_tuple else {}


def digest(value: Any, length: int = 8) -> str:
    """Return the first hexadecimal digits of the SHA-256 of a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def make_run_id(settings: Mapping[str, Any]) -> str:
    """Return `<corpus>-<model>-<protocol>-s<seed>-<8 hex digits>`.

    Args:
        settings: Everything that decides the result of a run, resolved (no "own" or
            "auto" left in it), as JSON values; the same settings have the same id.
    """
    head = "{corpus}-{model}-{protocol}-s{seed}".format(**settings)
    return f"{head}-{digest(dict(settings))}"
