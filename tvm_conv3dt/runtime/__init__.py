"""Loads bundles and runs their operators, with NumPy and tvm-ffi alone: the compiler is never imported."""

from tvm_conv3dt.runtime.bundle import Bundle, load
from tvm_conv3dt.runtime.grouped import GroupedOperator
from tvm_conv3dt.runtime.operator import Operator
from tvm_conv3dt.runtime.thread_pool import get_num_threads, set_num_threads

__all__ = ["Bundle", "GroupedOperator", "Operator", "get_num_threads", "load", "set_num_threads"]
