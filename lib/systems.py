"""The systems of the workbook: one line each, readable without a network library.

To add one, write `lib/models/<name>.py` with its builder and a line here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class System:
    """What the rest of the workbook has to know of a system.

    Attributes:
        title: Its name as it is written in prose.
        builder: "module:function" that builds it.
        features: The front end it was published with.
        fit: "module:function" that fits it in one go, without epochs; "" for a
            network that is trained.
        fused: True if TensorFlow compiles its training step by XLA; False where
            its own kernels are faster, as for 2-D convolutions, or for layers whose
            gradient is written out.
    """

    title: str
    builder: str
    features: str = "timnet"
    fit: str = ""
    fused: bool = True


SYSTEMS: Mapping[str, System] = {
    "timnet": System("TIM-Net", "lib.models.timnet:build_timnet", fused=False),
    "modified_timnet": System(
        "modified TIM-Net",
        "lib.models.modified_timnet:build_modified_timnet",
        fused=False,
    ),
    "cktim": System("CkTIM-net", "lib.models.cktim:build_cktim"),
    "light_sernet": System(
        "Light-SERNet",
        "lib.models.light_sernet:build_light_sernet",
        features="lightsernet",
        fused=False,
    ),
    "gm_tcnet": System("GM-TCNet", "lib.models.gm_tcnet:build_gm_tcnet", fused=False),
    "cpac": System("CPAC", "lib.models.cpac:build_cpac", fused=False),
    "majority": System(
        "majority class",
        "lib.models.classic:build_majority",
        fit="lib.models.classic:fit_majority",
    ),
    "logistic": System(
        "logistic regression",
        "lib.models.classic:build_logistic",
        fit="lib.models.classic:fit_logistic",
    ),
    "svm": System(
        "support vector machine",
        "lib.models.classic:build_svm",
        fit="lib.models.classic:fit_svm",
    ),
    "cnn": System("small CNN", "lib.models.small:build_cnn", fused=False),
    "gru": System("small GRU", "lib.models.small:build_gru", fused=False),
}
