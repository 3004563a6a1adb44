# A toolchain where the machine has no C++ compiler, or for another machine: the Python package ziglang.
#
#   cmake -G Ninja -DCMAKE_TOOLCHAIN_FILE="$PWD/examples/cpp/zig.cmake" -DZIG_TARGET=aarch64-linux-gnu.2.28 …
#
# ZIG_TARGET is architecture, system and the oldest glibc to run with; without it, this machine's.
set(ZIG_TARGET "" CACHE STRING "such as aarch64-linux-gnu.2.28")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ZIG_TARGET Python_EXECUTABLE)
if(ZIG_TARGET)
  set(CMAKE_SYSTEM_NAME Linux)
  string(REGEX REPLACE "-.*" "" CMAKE_SYSTEM_PROCESSOR "${ZIG_TARGET}")
  set(zig_target -target "${ZIG_TARGET}")
endif()
if(NOT Python_EXECUTABLE)
  find_program(Python_EXECUTABLE NAMES python3 python REQUIRED)
endif()
# zig compiles its C++ library for each way of optimising, which takes a minute: CMake's checks of the compiler are to take the release's.
if(NOT CMAKE_BUILD_TYPE OR CMAKE_BUILD_TYPE STREQUAL "Release")
  set(zig_mode -O2 -s)
endif()
set(CMAKE_C_COMPILER "${Python_EXECUTABLE}" -m ziglang cc ${zig_target})
set(CMAKE_CXX_COMPILER "${Python_EXECUTABLE}" -m ziglang c++ ${zig_target} ${zig_mode})
