"""How the tools start the kernels that run notebooks."""

from traitlets.config import Config

# A kernel listens on a local port, which other users of a shared machine could
# listen to; "auto" encrypts wherever kernel and libraries can.
CONFIG = Config({"KernelManager": {"transport_encryption": "auto"}})
