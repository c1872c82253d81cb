"""An ONNX model on one thread of the processor: a worker has one core, and the same sums in the same order on every machine like it."""

from pathlib import Path
from typing import Any

from kinema.errors import MissingExtraError


def onnx_session(path: Path) -> Any:
    """Raises MissingExtraError where onnxruntime is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "curate") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
