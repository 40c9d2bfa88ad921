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
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

import pandas as pd
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)

from lib import files
from lib.systems import SYSTEMS

Model = Literal[*SYSTEMS]
Protocol = Literal[
    "",
    "paper",
    "paper_best",
    "stratified",
    "speaker",
    "text",
    "holdout",
    "repeated_holdout",
]
Features = Literal[
    "", "timnet", "timnet_paper", "lightsernet", "cktim", "egemaps", "timnet_official"
]
# Full studies follow the paper; DEMO has to finish while a class is watching.
OWN_EPOCHS, OWN_BATCH_SIZE = 500, 64
OWN_EPOCHS_DEMO, OWN_BATCH_SIZE_DEMO = 20, 16
# Official weights were trained and have to be tested on random folds.
OWN_PROTOCOL, OWN_PROTOCOL_OF_WEIGHTS = "speaker", "paper"
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
DECIDE_A_RUN = frozenset(
    (
        *("corpus", "features", "feature_options", "model", "model_options"),
        *("protocol", "folds", "seed", "augmentation", "augmentation_options"),
        *TRAINING,
    )
)
# How papermill writes numbers that JSON lacks.
_NO_NUMBERS = ("float('nan')", "float('inf')", "float('-inf')")


def _no_switch(value: Any) -> Any:
    """Refuse True and False, which equal 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("input should be 0, 1 or 2")
    return value


class Parameters(BaseModel):
    """All parameters of all notebooks; each notebook shows the ones it uses.

    The field descriptions are the documentation; `table()` prints them.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, protected_namespaces=()
    )

    workspace: str = Field("", description="folder of MFCC, Models, logs, Results")
    datasets_dir: str = Field("", description="folder of the corpora")
    corpus: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")] = Field(
        "DEMO", description="corpus to work on"
    )
    features: Features = Field(
        "", description="feature preset; empty for the model's own"
    )
    feature_options: dict[str, Any] = Field(
        default_factory=dict, description="values that override the preset"
    )
    official_features: str = Field(
        "", description="the authors' feature file to import instead of audio"
    )
    model: Model = Field("timnet", description="system to train")
    model_options: dict[str, Any] = Field(
        default_factory=dict, description="options of the system"
    )
    protocol: Protocol = Field(
        "", description="who trains and who tests; empty for unseen speakers"
    )
    folds: int = Field(0, ge=0, le=1000, description="0 for the protocol's own")
    seed: int = Field(46, ge=0, le=2**31 - 1, description="seed of folds and weights")
    epochs: int = Field(0, ge=0, le=100_000, description="0 for the recipe's own")
    batch_size: int = Field(
        0, ge=0, le=65_536, description="clips per step; 0 for the recipe's own"
    )
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Adam's step size")
    beta_1: float = Field(0.93, ge=0, lt=1, description="Adam's first decay")
    beta_2: float = Field(0.98, ge=0, lt=1, description="Adam's second decay")
    epsilon: float = Field(
        1e-8, gt=0, le=1, description="Adam's guard against a division by zero"
    )
    schedule: Literal["constant", "step", "exponential", "plateau", "cosine"] = Field(
        "constant", description="how the step size changes from epoch to epoch"
    )
    schedule_options: dict[str, Any] = Field(
        default_factory=dict, description="options of the schedule"
    )
    early_stopping: int = Field(
        0,
        ge=0,
        le=100_000,
        description="epochs without a better validation that end a fold; 0 for never",
    )
    weight_average: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the averaged weights kept at each step; 0 for none",
    )
    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="share of a training label spread over classes"
    )
    loss: Literal["cross_entropy", "focal", "margin"] = Field(
        "cross_entropy", description="what training minimises"
    )
    loss_options: dict[str, Any] = Field(
        default_factory=dict, description="options of the loss"
    )
    augmentation: Literal["none", "waveform", "cepstrum"] = Field(
        "none", description="altered copies of the training clips"
    )
    augmentation_options: dict[str, Any] = Field(
        default_factory=dict, description="options of the augmentation"
    )
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="where to run")
    fold_parallel: Literal["auto", "off"] = Field(
        "auto", description="folds at once where the backend can, or off"
    )
    overwrite: bool = Field(False, description="make again what is already there")
    ignore_problems: bool = Field(
        False, description="go on although the doctor found errors"
    )
    verbose: Annotated[Literal[0, 1, 2], BeforeValidator(_no_switch)] = Field(
        1, description="0 silent, 1 progress bars, 2 plain lines"
    )
    run_id: str = Field("", pattern=r"^[A-Za-z0-9_.-]*$", description="run to use")
    weights_dir: str = Field("", description="folder of official TIM-Net weights")
    weights_format: Literal["", "timnet_hdf5"] = Field(
        "", description="layout of the files in weights_dir"
    )

    _given: frozenset[str] = PrivateAttr(frozenset())

    @property
    def given(self) -> frozenset[str]:
        """Names of the parameters that the user has set."""
        return self._given

    def with_given(self, names: Iterable[str]) -> Parameters:
        """Return the same parameters, these of them set by the user."""
        copy = self.model_copy()
        copy._given = frozenset(names)
        return copy

    def arguments(self, *names: str) -> str:
        """Return the given parameters among some as papermill takes them."""
        words = []
        for name in names:
            value = getattr(self, name)
            if name not in self.given and name != "corpus":
                continue
            if isinstance(value, str):
                words += ["-r", name, value]
            elif isinstance(value, Mapping):
                words += ["-y", json.dumps({name: value})]
            else:
                words += ["-p", name, str(value)]
        return shlex.join(words)

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
        """The number of epochs: the one given, or the recipe's own."""
        if self.epochs:
            return self.epochs
        return OWN_EPOCHS_DEMO if self.corpus == "DEMO" else OWN_EPOCHS

    @property
    def batch_size_in_force(self) -> int:
        """The number of clips per step: the one given, or the recipe's own."""
        if self.batch_size:
            return self.batch_size
        return OWN_BATCH_SIZE_DEMO if self.corpus == "DEMO" else OWN_BATCH_SIZE

    @property
    def protocol_in_force(self) -> str:
        """The protocol: the one given; else the workbook's, or the weights' own."""
        own = OWN_PROTOCOL_OF_WEIGHTS if self.weights_dir else OWN_PROTOCOL
        return self.protocol or own

    @property
    def folds_side_by_side(self) -> bool:
        """Whether several folds may be trained at once."""
        several = self.protocol_in_force != "holdout" and self.folds != 1
        return self.fold_parallel == "auto" and several

    def table(self, *names: str) -> pd.DataFrame:
        """Return the parameters as a table: name, value, meaning.

        Args:
            *names: The parameters to show; all of them if none is named.
        """
        shown = names or tuple(type(self).model_fields)
        rows = [
            (name, getattr(self, name), type(self).model_fields[name].description)
            for name in shown
        ]
        return pd.DataFrame(rows, columns=["parameter", "value", "meaning"]).set_index(
            "parameter"
        )


_NAMES = frozenset(Parameters.model_fields)


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
    except ValidationError as error:
        lines = [_explain(fault) for fault in error.errors()]
        raise ValueError("\n".join(lines)) from None
    if parameters.official_features and (
        parameters.feature_options or parameters.features not in ("", "timnet_official")
    ):
        raise ValueError(
            "official_features is the authors' file, which is imported as it is; leave "
            "features and feature_options out"
        )
    return parameters


def _explain(fault: Mapping[str, Any]) -> str:
    name = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        return (
            f"unknown parameter '{name}'{did_you_mean(name, Parameters.model_fields)}"
        )
    given = fault["input"]
    message = fault["msg"][0].lower() + fault["msg"][1:]
    hint = ""
    if fault["type"] == "literal_error" and isinstance(given, str):
        allowed = [str(value) for value in _allowed(name)]
        message = "should be one of " + ", ".join(repr(value) for value in allowed)
        hint = did_you_mean(given, allowed)
    if fault["type"] == "string_type":
        hint = " (papermill: pass text that looks like a number with -r)"
    return f"parameter '{name}': {given!r} is not allowed; {message}{hint}"


def _allowed(name: str) -> tuple[Any, ...]:
    return get_args(Parameters.model_fields[name].annotation)


def did_you_mean(name: str, known: Any) -> str:
    """Return " – did you mean 'x'?" for the nearest known name, or ""."""
    lowered = {str(candidate).lower(): str(candidate) for candidate in known}
    nearest = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.5)
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
        ValueError: If the function has no such argument; with the nearest one.
    """
    known = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
    }
    for name in chosen:
        if name not in known:
            raise ValueError(
                f"{what} has no option '{name}'{did_you_mean(name, known)}"
            )
    return known | {name: as_default(known[name], chosen[name]) for name in chosen}


def as_default(default: Any, value: Any) -> Any:
    """Return a whole number as a real one where the default is real: 1 is 1.0."""
    return float(value) if type(default) is float and type(value) is int else value


def from_notebook(
    namespace: Mapping[str, Any], *, selects_a_run: bool = False
) -> Parameters:
    """Validate the parameters of a notebook.

    They are read from the cells that were run, not from variables, which later cells
    may use for other things, so that this can be run again at any time. A parameter
    is given if papermill has set it, or if it is no longer the default of the cell.

    Args:
        namespace: The notebook's `globals()`, with IPython's history `In`. Without
            a history, every public name with a plain value counts as given.
        selects_a_run: Whether the notebook also takes the parameters that decide
            a run, to choose among the finished ones.

    Returns:
        The validated parameters; those the notebook leaves out have defaults.

    Raises:
        ValueError: As `validated`; if a cell sets a parameter to anything but a
            plain value; or for a parameter that this notebook has no use for.
    """
    if not isinstance(namespace.get("In"), list):
        plain = (str, int, float, list, dict, tuple, type(None))
        return validated(
            {
                name: value
                for name, value in namespace.items()
                if not name.startswith("_") and isinstance(value, plain)
            }
        )
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
    given = injected | {
        name for name in values if values[name] != getattr(defaults, name)
    }
    usable = shown | DECIDE_A_RUN if selects_a_run else shown
    if useless := sorted(given - usable):
        raise ValueError(
            f"this notebook has no use for {', '.join(useless)}; it takes "
            f"{', '.join(sorted(usable))}"
        )
    return parameters.with_given(given)


def _read_cells(cells: Sequence[str]) -> tuple[set[str], dict[str, Any], set[str]]:
    """Read the parameters from the cells that were run, in their order.

    The cell of parameters has their types; a cell by papermill has its heading; any
    other cell may set a parameter too. What is set later counts.

    Returns:
        The notebook's own parameters, the values, and the names set by papermill.
    """
    shown: set[str] = set()
    values: dict[str, Any] = {}
    injected: set[str] = set()
    unreadable: dict[str, str] = {}
    for source in cells:
        statements = _statements(source)
        own = any(
            isinstance(item, ast.AnnAssign) and _assigned(item) & _NAMES
            for item in statements
        )
        by_papermill = source.split("\n")[0].strip() == "# Parameters"
        if own:
            shown, values, injected, unreadable = set(), {}, set(), {}
        here: set[str] = set()
        for statement in statements:
            names = _assigned(statement)
            if not (own or by_papermill or names & _NAMES) or _is_text(statement):
                continue
            shown |= names if own else set()
            injected |= names if by_papermill else set()
            found = _literal(statement)
            values |= found
            written = ast.unparse(statement)
            for name in names or {written}:
                if name not in here:
                    unreadable.pop(name, None)
                if not found:
                    here.add(name)
                    unreadable[name] = written
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
    if len(statements) == 1 and isinstance(statements[0], ast.Expr):
        call = statements[0].value
        if "run_cell_magic" in ast.unparse(call) and isinstance(call, ast.Call):
            magic, _, body = (getattr(part, "value", "") for part in call.args)
            return _statements(body) if magic in ("time", "capture") else []
    return statements


def _is_text(statement: ast.stmt) -> bool:
    """Tell whether a statement is a text that explains."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _assigned(statement: ast.stmt) -> set[str]:
    """Return the names that a statement assigns, also inside an if or a with."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return set()
    kinds = (ast.Assign, ast.AnnAssign, ast.AugAssign)
    assignments = [item for item in ast.walk(statement) if isinstance(item, kinds)]
    targets = [
        target
        for item in assignments
        for target in getattr(item, "targets", [getattr(item, "target", None)])
    ]
    parts = (part for target in targets for part in ast.walk(target))
    return {
        part.id
        for part in parts
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
    }


def _literal(statement: ast.stmt) -> dict[str, Any]:
    """Return name and value of an assignment of a plain value, else nothing."""
    target = written = None
    if isinstance(statement, ast.AnnAssign):
        target, written = statement.target, statement.value
    elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, written = statement.targets[0], statement.value
    if written is None or not isinstance(target, ast.Name):
        return {}
    if ast.unparse(written) in _NO_NUMBERS:
        return {target.id: float(ast.literal_eval(written.args[0]))}
    try:
        value = ast.literal_eval(written)
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError):
        return {}
    # JSON would make a list of it.
    has_tuple = any(isinstance(part, ast.Tuple) for part in ast.walk(written))
    return {} if has_tuple else {target.id: value}


def digest(value: Any, length: int = 8) -> str:
    """Return the first hexadecimal digits of the SHA-256 of a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def make_run_id(configuration: Mapping[str, Any]) -> str:
    """Return `<corpus>-<model>-<protocol>-s<seed>-<8 hex digits>`.

    Args:
        configuration: Everything that decides the result of a run, resolved
            (no "own" or "auto" left in it), as JSON values.

    Returns:
        The id; the same configuration always has the same one.
    """
    head = "{corpus}-{model}-{protocol}-s{seed}".format(**configuration)
    return f"{head}-{digest(dict(configuration))}"
