"""What only developers of the workbook use."""

from traitlets.config import Config

# How the tools start the kernels that run notebooks.
KERNEL_OPTIONS = {
    # A kernel listens on a local port, which other users of a shared machine could
    # listen to; "auto" encrypts wherever kernel and libraries can.
    "config": Config({"KernelManager": {"transport_encryption": "auto"}}),
    # A kernel that is told to stop while it is idle calls that an error.
    "extra_arguments": ["--IPKernelApp.log_level=CRITICAL"],
}
