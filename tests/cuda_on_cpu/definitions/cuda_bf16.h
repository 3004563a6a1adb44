// CUDA's bfloat16: the upper half of a float.
#pragma once
#include "small_float.h"

namespace emulation {
struct Bfloat16 {
  typedef unsigned short Bits;

  static Bits narrow(float x) {
    const unsigned bits = __builtin_bit_cast(unsigned, x);
    if (x != x) return 0x7FFF;
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  }

  static Bits narrow(double x) {
    // First to the float towards zero whose last bit says whether there is more.
    const float nearest = (float)x;
    unsigned bits = __builtin_bit_cast(unsigned, nearest);
    if (x == x && (double)nearest != x) {
      if (fabs((double)nearest) > fabs(x)) --bits;
      bits |= 1;
    }
    return narrow(__builtin_bit_cast(float, bits));
  }

  static float widen(Bits x) { return __builtin_bit_cast(float, (unsigned)x << 16); }
};
}  // namespace emulation

typedef emulation::SmallFloat<emulation::Bfloat16> __nv_bfloat16;
typedef __nv_bfloat16 nv_bfloat16;

struct __attribute__((aligned(4))) __nv_bfloat162 {
  __nv_bfloat16 x, y;

  __nv_bfloat162() = default;
  __nv_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) : x(x), y(y) {}
};
typedef __nv_bfloat162 nv_bfloat162;

inline __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16(x); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __nv_bfloat16(x); }
inline float __bfloat162float(__nv_bfloat16 x) { return (float)x; }
