"""PyTorch's and ONNX's ways to write a transposed convolution, as workloads with their filters.

Neither framework is imported: whoever has one of its objects has imported it.
"""

from tvm_conv3dt.forms.conv_transpose import ConvTranspose
from tvm_conv3dt.forms.onnx_node import from_onnx
from tvm_conv3dt.forms.pytorch import from_torch, from_torch_functional

__all__ = ["ConvTranspose", "from_onnx", "from_torch", "from_torch_functional"]
