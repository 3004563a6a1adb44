"""Build hook of the wheel: schedules and tuning logs become data of the package.

A hook, because a plain `force-include` would copy them for editable installs too, where the
checkout's own folders are used and the copies would only go stale.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WheelData(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the top-level data folders to `tvm_conv3dt/_data`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Extend what hatchling puts in the wheel; `version` is "editable" for editable installs."""
        if version == "standard":
            for folder in ("schedules", "tuning_logs"):
                build_data["force_include"][folder] = f"tvm_conv3dt/_data/{folder}"
