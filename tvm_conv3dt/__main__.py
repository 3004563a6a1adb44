"""`python -m tvm_conv3dt`, the same as `tvm-conv3dt`."""

from tvm_conv3dt.cli import main

main()
