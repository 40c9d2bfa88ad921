"""The drawings of the systems, as tables of boxes and arrows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib.plots.schematics import Box, Diagram

BLOCKS = ("block\ndilation 1", "block\ndilation 2", "…", "block\ndilation 2ⁿ⁻¹")


def _branches(names: Sequence[str], kinds: Sequence[str]) -> dict[str, Box]:
    """Return the boxes of a TIM-Net with so many branches, up to the means."""
    middle = (len(names) - 1) / 2
    boxes = {"clip": Box(0, middle, "data", "clip\n(t × 39)")}
    for row, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        boxes[f"read{row}"] = Box(1, row, kind, name)
        boxes[f"in{row}"] = Box(2, row, "learned", "1 × 1\nconvolution")
        for place, text in enumerate(BLOCKS):
            colour = "data" if text == "…" else "learned"
            boxes[f"b{row}{place}"] = Box(3 + place, row, colour, text)
    text = "average over time, sum over the branches: levels g₁, g₂, … gₙ"
    boxes["levels"] = Box(4.5, len(names), "fixed", text, columns=4)
    return boxes


def _chains(branches: int) -> list[str]:
    rows = range(branches)
    chains = [f"clip > read{r} > in{r} > b{r}0 > b{r}1 > b{r}2 > b{r}3" for r in rows]
    return chains + [f"b0{place} > levels" for place in (0, 1, 3)]


def _timnet() -> Diagram:
    boxes = _branches(("read\nforwards", "read\nbackwards"), ("fixed", "idea"))
    boxes |= {
        f"b{row}{place}": Box(3 + place, row, "idea", BLOCKS[place])
        for row in range(2)
        for place in (0, 1, 3)
    }
    boxes["fusion"] = Box(7, 2, "idea", "fusion\nΣ wⱼ gⱼ")
    boxes["answer"] = Box(8, 2, "learned", "softmax\nclassifier")
    return Diagram(boxes, [*_chains(2), "levels > fusion > answer"])


def _modified() -> Diagram:
    names = ("read\nforwards", "read\nbackwards", "read\nshuffled")
    boxes = _branches(names, ("fixed", "fixed", "idea"))
    boxes["clip"] = Box(0, 0, "data", "clip\n(t × 39)")
    boxes["drop"] = Box(0, 1, "idea", "input\ndropout")
    boxes["fusion"] = Box(7, 3, "idea", "attention\nq · gⱼ")
    boxes["hidden"] = Box(7, 2, "idea", "hidden\nlayer")
    boxes["answer"] = Box(7, 1, "learned", "softmax\nclassifier")
    chains = [chain.replace("clip", "drop") for chain in _chains(3)]
    chains += ["clip > drop", "levels > fusion > hidden > answer"]
    return Diagram(boxes, chains)


def _chain(*texts: tuple[str, str], row: float = 0, first: float = 0) -> dict[str, Box]:
    """Return boxes in a row, named 0, 1, ..."""
    return {
        str(place): Box(first + place, row, kind, text)
        for place, (kind, text) in enumerate(texts)
    }


def _arrows(count: int) -> str:
    return " > ".join(map(str, range(count)))


def _block(convolution: str, kind: str) -> Diagram:
    boxes = _chain(
        ("data", "Fⱼ₋₁"),
        (kind, convolution),
        ("learned", "batch norm,\nReLU, drop"),
        (kind, convolution),
        ("learned", "batch norm,\nReLU, drop"),
        ("idea", "sigmoid\n(the gate)"),
        ("fixed", "multiply"),
        ("data", "Fⱼ"),
    )
    return Diagram(boxes, [_arrows(8), "0 ^ 6"])


def _generator() -> Diagram:
    boxes = _chain(
        ("data", "position\n−1 … 1"),
        ("learned", "linear"),
        ("idea", "× ω₀"),
        ("learned", "batch\nnorm"),
        ("idea", "sine"),
        ("learned", "linear, × ω₀,\nnorm, sine"),
        ("learned", "linear"),
        ("data", "kernel\n39 × 39 × t"),
    )
    return Diagram(boxes, [_arrows(8)])


def _light_sernet() -> Diagram:
    kernels = ("11 × 1\nalong time", "1 × 9 along\ncoefficients", "3 × 3\nboth")
    boxes = {"clip": Box(0, 1, "data", "clip as a\npicture")}
    for row, text in enumerate(kernels):
        boxes[f"path{row}"] = Box(1, row, "idea", text)
    body = ("joined:\n3 × 3 to 64", "3 × 3\nto 96", "3 × 3\nto 128", "3 × 3\nto 160")
    body += ("1 × 1\nto 320", "average", "softmax\nclassifier")
    for place, text in enumerate(body):
        kind = "fixed" if text == "average" else "learned"
        boxes[f"b{place}"] = Box(2 + place, 1, kind, text)
    paths = [f"clip > path{row} > b0" for row in range(3)]
    return Diagram(boxes, [*paths, " > ".join(f"b{place}" for place in range(7))])


def _gm_tcnet() -> Diagram:
    boxes = {
        "clip": Box(0, 0, "data", "clip\n(t × 39)"),
        "in": Box(1, 0, "learned", "1 × 1\nconvolution"),
        "b1": Box(2, 0, "idea", "levels\n1 and 2"),
        "s1": Box(3, 0, "fixed", "add"),
        "b2": Box(4, 0, "idea", "levels\n2 and 4"),
        "s2": Box(5, 0, "fixed", "add"),
        "more": Box(5.75, 0, "data", "…", columns=0.3),
        "bn": Box(6.5, 0, "idea", "levels\n2ⁿ⁻¹ and 2ⁿ"),
        "sum": Box(4.25, 1, "fixed", "sum of all blocks", columns=5.5),
        "act": Box(7.6, 1, "fixed", "leaky ReLU,\naverage"),
        "answer": Box(7.6, 0, "learned", "softmax\nclassifier"),
    }
    chains = ["clip > in > b1 > s1 > b2 > s2 > more > bn", "in ^ s1 ^ s2"]
    chains += ["b1 > sum", "b2 > sum", "bn > sum", "sum > act > answer"]
    return Diagram(boxes, chains)


def _gm_level() -> Diagram:
    boxes = {
        "in": Box(0, 0.5, "data", "signal"),
        "a": Box(1.2, 0, "learned", "convolution,\nReLU"),
        "b": Box(1.2, 1, "learned", "convolution,\nReLU"),
        "gate": Box(2.3, 1, "idea", "sigmoid\n(the gate)"),
        "times": Box(3.4, 0.5, "fixed", "multiply"),
        "mean": Box(4.5, 0.5, "idea", "average of\n3 such pairs"),
        "out": Box(5.6, 0.5, "data", "level"),
    }
    chains = ["in > a > times", "in > b > gate > times > mean > out"]
    return Diagram(boxes, chains)


def _cpac() -> Diagram:
    boxes = _chain(
        ("data", "clip as a\npicture"),
        ("learned", "three times: 3 × 3\nconvolution, pool, drop"),
        ("learned", "3 × 3 conv.,\ncapsules"),
        ("idea", "attention\nto the others"),
        ("fixed", "multiply"),
        ("idea", "routing into\n6 capsules"),
        ("fixed", "average"),
        ("learned", "softmax\nclassifier"),
    )
    for name, box in boxes.items():
        wide, place = name == "1", box.column + (0.35, 0.7)[name > "1"] * (name > "0")
        boxes[name] = Box(place, 0, box.kind, box.text, 1.7 if wide else 1)
    return Diagram(boxes, [_arrows(8), "2 ^ 4"])


def _cnn() -> Diagram:
    convolution = ("learned", "convolution,\nnorm, ReLU")
    pool = ("fixed", "halve time")
    boxes = _chain(
        ("data", "clip"),
        convolution,
        pool,
        convolution,
        pool,
        convolution,
        ("fixed", "average"),
        ("learned", "softmax\nclassifier"),
    )
    return Diagram(boxes, [_arrows(8)])


def _gru() -> Diagram:
    boxes = {
        "clip": Box(0, 0.5, "data", "clip"),
        "f": Box(1.2, 0, "learned", "GRU\nforwards"),
        "b": Box(1.2, 1, "learned", "GRU\nbackwards"),
        "join": Box(2.4, 0.5, "fixed", "join"),
        "mean": Box(3.5, 0.5, "fixed", "average"),
        "answer": Box(4.6, 0.5, "learned", "softmax\nclassifier"),
    }
    return Diagram(boxes, ["clip > f > join", "clip > b > join > mean > answer"])


def _statistics() -> Diagram:
    boxes = _chain(
        ("data", "clip"),
        ("fixed", "means and\nspreads"),
        ("learned", "standardise"),
        ("learned", "line or SVM\nper emotion"),
        ("fixed", "softmax"),
    )
    return Diagram(boxes, [_arrows(5)])


DIAGRAMS: Mapping[str, Diagram] = {
    "timnet": _timnet(),
    "block": _block("dilated\nconvolution", "learned"),
    "modified_timnet": _modified(),
    "cktim": _block("clip-long\nconvolution", "idea"),
    "kernel_generator": _generator(),
    "light_sernet": _light_sernet(),
    "gm_tcnet": _gm_tcnet(),
    "gated_level": _gm_level(),
    "cpac": _cpac(),
    "cnn": _cnn(),
    "gru": _gru(),
    "statistics": _statistics(),
}
