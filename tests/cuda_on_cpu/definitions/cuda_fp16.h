// CUDA's half precision.
#pragma once
#include "small_float.h"

namespace emulation {
struct Half {
  typedef _Float16 Bits;
  static Bits narrow(float x) { return (_Float16)x; }
  static Bits narrow(double x) { return (_Float16)x; }
  static float widen(Bits x) { return (float)x; }
};
}  // namespace emulation

typedef emulation::SmallFloat<emulation::Half> __half;
typedef __half half;

struct __attribute__((aligned(4))) __half2 {
  __half x, y;
};
typedef __half2 half2;

inline __half2 make_half2(__half x, __half y) { return {x, y}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half __float2half(float x) { return __half(x); }
inline __half __float2half_rn(float x) { return __half(x); }
inline float __half2float(__half x) { return (float)x; }
inline __half __ushort_as_half(unsigned short x) { return __builtin_bit_cast(__half, x); }
inline unsigned short __half_as_ushort(__half x) { return __builtin_bit_cast(unsigned short, x); }
