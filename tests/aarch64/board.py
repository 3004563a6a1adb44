"""The board's side of the proof: runs a bundle's layers on arrays that it is given, through the runtime alone.

It is started with a bundle's folder, reads one request from a line of its input, the name of a layer and a folder with
arrays, and answers each with a line once the result lies there.
"""

import json
import platform
import sys
from pathlib import Path

import numpy as np


def main() -> None:
    bundle_folder = Path(sys.argv[1])
    sys.path.insert(0, str(bundle_folder / "conv3dt.pyz"))
    from tvm_conv3dt import runtime

    if "tvm" in sys.modules:
        raise SystemExit("the compiler was imported")
    runtime.set_num_threads(2)
    bundle = runtime.load(bundle_folder)
    print(json.dumps({"level": bundle.level.device, "machine": platform.machine()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        folder, workload = Path(request["folder"]), bundle.workloads[request["layer"]]

        def read(name, folder=folder, dtype=workload.numpy_dtype):
            # Files of bfloat16 say no more than how wide it is.
            return np.load(folder / f"{name}.npy").view(dtype)

        bias = read("bias") if workload.bias else None
        op = bundle.operator(request["layer"], read("filters"), bias)
        out = read("out")
        op(read("x"), out=out)
        np.save(folder / "out.npy", out)
        print(json.dumps({"layer": request["layer"]}), flush=True)


if __name__ == "__main__":
    main()
