"""Studies: what a file in notebooks/sweeps asks for, and how far it is.

All state is on disk. The plan has one shell command for each run, which any worker, job
array or person can give; `lib.batch` does it for all of them.
"""

import csv
import itertools
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Annotated, Any, NamedTuple

import pandas as pd
import pydantic
import yaml
from pydantic import Field, NonNegativeInt

from lib import config, files, runs
from lib.runs import RunFolders

SWEEPS = files.REPOSITORY / "notebooks" / "sweeps"
RECIPES = files.REPOSITORY / "notebooks" / "recipes"
SCRIPTS = Path(__file__).parent / "data" / "scripts"
QUEUES = ("slurm.sh", "pbs.sh", "kubernetes.yaml")
# "clips" pass in training, in all epochs and folds: what the time of a run grows with.
COLUMNS = "id state variant corpus protocol seed clips command".split()
CELL = ["variant", "corpus", "protocol"]
TSV = {"sep": "\t", "quoting": csv.QUOTE_NONE}
TESTED, FAILED = "03_test.ipynb", "failed.txt"  # in the folder of a run
LEFT = ("planned", "interrupted", "failed")  # the states that have to be worked on
# An estimate is made from so many finished runs; two notebooks take so long to start.
MEASURED, START = 200, 20.0  # seconds

Values = dict[str, Any]
Several = Field(min_length=1)
# What `base` and variants may set: the rest of what decides a run, and how it runs.
FREE = config.DECIDE_A_RUN - {"corpus", "protocol", "seed"}
FREE |= {"device", "fold_parallel", "ignore_problems", "verbose"}


def _free(values: Values) -> Values:
    """Refuse a parameter that the study says elsewhere, or that is the command's."""
    if taken := sorted(config.Parameters.model_fields.keys() & values.keys() - FREE):
        fault = f"a variant may not set {', '.join(taken)}"
        raise ValueError(f"{fault}; corpora, protocols, seeds are fields")
    return values


def _plain(name: str) -> str:
    """Refuse a name that a table or a spreadsheet would not keep as it is."""
    if not name.isprintable() or name != name.strip() or name[:1] in ("", "="):
        raise ValueError("a name is one printable line, without = or blanks in front")
    return name


Changes = Annotated[Values, pydantic.AfterValidator(_free)]
Name = Annotated[str, pydantic.AfterValidator(_plain)]


class Sweep(pydantic.BaseModel, extra="forbid", strict=True):
    """What a study file says: every variant on every corpus, protocol and seed."""

    title: str
    base: Changes  # parameters of 02_train; "recipe" names the file to begin with
    reference: str  # the variant that the others are compared with
    variants: Annotated[dict[Name, Changes], Several]  # changes of the base
    corpora: Annotated[list[str], Several]
    protocols: Annotated[list[str], Several]
    seeds: Annotated[list[NonNegativeInt], Several]
    joined: dict[str, list[str]] = {}  # corpora to make by `corpora.join`
    labels: list[str] = []  # of the joined ones; none: all that they share


class _EachNameOnce(yaml.SafeLoader):
    """Reads YAML; a name that is there twice is refused, the last would be taken."""

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value]
        if len(set(names)) < len(names):
            raise ValueError(f"{names} has one of them twice")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, kind: type[pydantic.BaseModel]) -> Any:
    """Read a file of YAML; ValueError says what is wrong with it."""
    try:
        return kind.model_validate(yaml.load(path.read_text("utf-8"), _EachNameOnce))
    except pydantic.ValidationError as error:
        faults = error.errors()
        lines = [": ".join([*map(str, one["loc"]), one["msg"]]) for one in faults]
        raise ValueError("\n".join([f"{path}:", *lines])) from None
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from None


def merged(values: Values, changes: Values) -> Values:
    """Return parameters with changes; a recipe among these replaces the parameters."""
    changes = dict(changes)
    if recipe := changes.pop("recipe", ""):
        path = (RECIPES / recipe).with_suffix(".yaml")
        values = yaml.safe_load(path.read_text("utf-8"))
    result, default = dict(values), config.Parameters()
    # Options belong to a choice: another model, say, begins with its own defaults.
    for name in ("features", "model", "schedule", "loss", "augmentation"):
        before = values.get(name, getattr(default, name))
        if changes.get(name, before) != before:
            result.pop(f"{name.replace('features', 'feature')}_options", None)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = result[name] | value if both else value
    return result


class Cell(NamedTuple):
    """A variant on a corpus under a protocol: runs that differ in the seed alone."""

    variant: str
    corpus: str
    protocol: str
    params: config.Parameters
    features: tuple[str, str, str]  # corpus, preset, digest of what else decides them
    train: str  # the parameters of 02 without the seed, in YAML
    test: str  # and those of 03 without the run id

    def __str__(self) -> str:
        return ", ".join(self[:3])

    def runs(
        self, seeds: Sequence[int], data: files.FeatureSet, known: dict
    ) -> tuple[list[str], int]:
        """Return run ids by seed, clips that train; `known` keeps what others need."""
        from lib import models, planning

        folds = planning.make_folds(self.params, data)
        settings = planning.make_settings(self.params, data, folds)
        options = settings["model_options"]
        network = settings["model"], config.digest(options)
        if network not in known:  # its builder refuses what cannot be
            shape = data.x.shape[-2:], len(data.label_names)
            models.build_model(settings["model"], *shape, **options)
            known[network] = True
        found = []
        for seed in seeds:
            one = self.params.model_copy(update={"seed": seed})
            draw = self.protocol, one.folds, one.validation, one.fold_file, seed
            if draw not in known:
                known[draw] = planning.drawn(planning.make_folds(one, data), seed)
            found.append(config.make_run_id(settings | known[draw]))
        return found, (settings["epochs"] or 1) * sum(len(fold.train) for fold in folds)


def _flow(values: Values) -> str:
    """Return parameters as YAML in one line, without the braces around them."""
    plain = {"default_flow_style": True, "width": 1e9, "allow_unicode": True}
    return yaml.safe_dump(values, **plain).strip()[1:-1]


def command(run_id: str, cell: Cell, seed: int) -> str:
    """Return the shell command that trains and tests a run, wherever it is given."""
    folder = cell.params.folders.results / run_id
    told = f"{{seed: {seed}, {cell.train}}}", f"{{run_id: {run_id}, {cell.test}}}"
    words = ["sh", SCRIPTS / "run.sh", sys.executable, folder, *told]
    return shlex.join(map(str, words))


def state(folders: RunFolders) -> str:
    """Return done, running, failed, interrupted or planned, as a run's files say."""
    if (folders.results / TESTED).is_file():
        return "done"
    if not folders.results.is_dir():
        return "planned"
    if runs.is_locked(folders):
        return "running"
    return "failed" if (folders.results / FAILED).is_file() else "interrupted"


def reason(folders: RunFolders) -> str:
    """Return the last error that a failed run named, else its last line."""
    lines = (folders.results / FAILED).read_text("utf-8", "replace").strip().split("\n")
    at = [n for n, x in enumerate(lines) if re.match(r"[\w.]*(Error|Exception)\b", x)]
    last = at[-1] if at else len(lines) - 1
    return " ".join(lines[last : last + 1 + lines[last].endswith(":")])


def counts(table: pd.DataFrame) -> str:
    """Return how many runs there are, and how many in each state."""
    found = table["state"].value_counts().items()
    return f"{len(table)} runs: " + ", ".join(f"{n} {name}" for name, n in found)


class Study:
    """A file of notebooks/sweeps, its plan, and the runs of it in a workspace."""

    def __init__(self, name: str, workspace: files.Workspace):
        self.name, self.workspace = name, workspace
        self.path = SWEEPS / f"{name}.yaml"
        self.folders = RunFolders(workspace, f"studies/{name}")
        self.stop = self.folders.logs / "stop"  # a file that ends its `run`
        if not self.path.is_file():
            known = sorted(one.stem for one in SWEEPS.glob("*.yaml"))
            hint = config.did_you_mean(name, known, f"{SWEEPS} has")
            raise FileNotFoundError(f"no study '{name}'{hint}")

    def sweep(self) -> Sweep:
        """Return what the file says; ValueError says what is wrong with it."""
        sweep = read_yaml(self.path, Sweep)
        if sweep.reference not in sweep.variants:
            hint = config.did_you_mean(sweep.reference, sweep.variants, "there are")
            fault = f"reference '{sweep.reference}' is not one of the variants{hint}"
            raise ValueError(f"{self.path}: {fault}")
        return sweep

    def cells(self, faults: dict[str, object]) -> list[Cell]:
        """Return the cells that are possible; the others go into `faults`."""
        sweep, found = self.sweep(), []
        own = {"workspace": str(self.workspace.root), "seed": sweep.seeds[0]}
        own["datasets_dir"] = str(self.workspace.datasets)
        axes = sweep.corpora, sweep.protocols, sweep.variants
        for corpus, protocol, variant in itertools.product(*axes):
            try:
                values = merged(merged({}, sweep.base), sweep.variants[variant])
                values = {"verbose": 2} | values | own
                values |= {"corpus": corpus, "protocol": protocol}
                params = config.validated(values)
            except (ValueError, OSError) as error:
                faults.setdefault(str(error), f"{variant}, {corpus}, {protocol}")
                continue
            asked = config.digest([params.feature_options, params.ignore_problems])
            of = corpus, params.feature_preset, asked
            names = {"workspace", "datasets_dir", "device", "verbose"} & values.keys()
            tested = _flow({name: values[name] for name in names})
            trained = _flow({name: values[name] for name in values.keys() - {"seed"}})
            place = variant, corpus, params.protocol_in_force
            found.append(Cell(*place, params, of, trained, tested))
        return found

    def plan(self) -> pd.DataFrame:
        """Make the features, write and return the plan; ValueError has all faults."""
        from lib import corpora, features  # much that reading a plan does without

        sweep, faults, found = self.sweep(), {}, {}
        for name, parts in sweep.joined.items():
            corpora.join(name, parts, self.workspace.datasets, sweep.labels)
        ordered = sorted(enumerate(self.cells(faults)), key=lambda c: c[1].features)
        for _, alike in itertools.groupby(ordered, lambda c: c[1].features):
            data, known = None, {}  # one set of features in memory at a time
            for place, cell in alike:
                try:
                    data = features.obtain(cell.params)[1] if data is None else data
                    run_ids, clips = cell.runs(sweep.seeds, data, known)
                except (ValueError, OSError, ModuleNotFoundError) as error:
                    faults.setdefault(str(error), cell)
                    continue
                for order, run_id in enumerate(run_ids):
                    entry = order, place, cell, clips
                    if found.setdefault(run_id, entry) is not entry:
                        same = f"is the same run as {found[run_id][2]}"
                        faults.setdefault(same, f"{cell}, seed {sweep.seeds[order]}")
        if faults:
            lines = [f"{cell}: {fault}" for fault, cell in faults.items()]
            raise ValueError("\n".join(["nothing was started:", *lines]))
        rows = []
        # The first seed of everything comes before the second of anything.
        for run_id, entry in sorted(found.items(), key=lambda item: item[1][:2]):
            order, _, cell, clips = entry
            line = command(run_id, cell, sweep.seeds[order])
            rows.append((run_id, "", *cell[:3], sweep.seeds[order], clips, line))
        table = self.write(pd.DataFrame(rows, columns=COLUMNS))
        files.write_text(self.folders.results / "study.yaml", self.asked())
        return table

    def asked(self) -> str:
        """Return the text of the file, a hash of all values, and of lists of folds."""
        told = self.sweep()
        values = [merged(merged({}, told.base), one) for one in told.variants.values()]
        names = sorted({one.get("fold_file") or "" for one in values})
        paths = [self.workspace.datasets / name for name in names]
        values += [files.sha256_file(path) for path in paths if path.is_file()]
        return f"{self.path.read_text('utf-8')}# {config.digest(values)}\n"

    def write(self, table: pd.DataFrame) -> pd.DataFrame:
        """Write plan.tsv with the states of now; return it."""
        table = self._with_states(table)
        with files.atomic_path(self.folders.results / "plan.tsv") as temporary:
            table.to_csv(temporary, header=False, index=False, **TSV)
        return table

    def read(self) -> pd.DataFrame:
        """Return the plan with the states of now.

        FileNotFoundError if there is none, ValueError if the study has changed since.
        """
        folder = self.folders.results
        if not (folder / "study.yaml").is_file():
            way = f"`make study STUDY={self.name}` makes and runs it"
            raise FileNotFoundError(f"no plan in {folder}; {way}")
        if (folder / "study.yaml").read_text("utf-8") != self.asked():
            way = f"`.venv/bin/python -m lib.batch plan {self.name}` keeps what is done"
            raise ValueError(f"{self.path}, recipe or fold file changed since; {way}")
        plain = {"names": COLUMNS, "keep_default_na": False, "dtype": {"variant": str}}
        return self._with_states(pd.read_csv(folder / "plan.tsv", **plain, **TSV))

    def _with_states(self, table: pd.DataFrame) -> pd.DataFrame:
        folders = (RunFolders(self.workspace, run_id) for run_id in table["id"])
        return table.assign(state=[*map(state, folders)])

    def estimate(self, table: pd.DataFrame, workers: int) -> str:
        """Return how long the rest takes, from the runs that are done."""
        model = table["id"].str.split("-").str[1]
        done = table[table["state"] == "done"].tail(MEASURED)
        folders = (RunFolders(self.workspace, run_id) for run_id in done["id"])
        told = [runs.read_manifest(one.manifest)["seconds"] for one in folders]
        seconds = START + pd.Series(told, done.index, dtype=float)
        pace = seconds.groupby(model).sum() / done["clips"].groupby(model).sum()
        left = table["clips"][table["state"].isin(LEFT)].groupby(model).sum()
        time = pd.Timedelta(round((left * pace).sum() / workers), "s")
        unknown = ", ".join(left.index.difference(pace.index))
        told = f"{time}, and unknown for {unknown}" if unknown else f"{time}"
        return told.removeprefix("0 days 00:00:00, and ")

    def status(self) -> str:
        """Return how far the study is: counts by variant, and why runs failed."""
        table = self.read()
        parts = [f"{self.name}: {counts(table)}"]
        parts += [f"Time left on one worker: {self.estimate(table, 1)}"]
        parts += [pd.crosstab(table["variant"], table["state"]).to_string()]
        for run_id in table["id"][table["state"] == "failed"]:
            parts.append(f"{run_id}: {reason(RunFolders(self.workspace, run_id))}")
        return "\n".join(parts)

    def script(self, queues: Sequence[str] = QUEUES) -> str:
        """Write a job array for each kind of queue, in which line N is run N."""
        table, folder = self.read(), self.folders.results
        name = self.name.replace("_", "-").lower()
        told = {"study": name, "short": name[:15], "runs": len(table)}
        told |= {"plan": shlex.quote(f"{folder / 'plan.tsv'}"), "field": len(COLUMNS)}
        for queue in queues:
            text = Template((SCRIPTS / queue).read_text("utf-8")).substitute(told)
            files.write_text(folder / queue, text)
        return f"{folder} has {', '.join(queues)}"
