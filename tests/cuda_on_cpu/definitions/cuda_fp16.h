// CUDA's half precision: every operation is rounded to 16 bits, to nearest even.
#pragma once
#include "cuda.h"

struct __half {
  _Float16 value;

  __half() = default;
  __half(float x) : value((_Float16)x) {}
  __half(double x) : value((_Float16)x) {}
  __half(int x) : value((_Float16)(float)x) {}
  __half(unsigned x) : value((_Float16)(float)x) {}
  __half(long x) : value((_Float16)(float)x) {}
  __half(unsigned long x) : value((_Float16)(float)x) {}
  __half(long long x) : value((_Float16)(float)x) {}
  __half(unsigned long long x) : value((_Float16)(float)x) {}
  __half(short x) : value((_Float16)(float)x) {}
  __half(unsigned short x) : value((_Float16)(float)x) {}
  __half(signed char x) : value((_Float16)(float)x) {}
  __half(unsigned char x) : value((_Float16)(float)x) {}
  __half(char x) : value((_Float16)(float)x) {}
  __half(bool x) : value((_Float16)(float)x) {}

  operator float() const { return (float)value; }
  explicit operator bool() const { return value != 0; }

// Towards zero, into the type's range; NaN becomes zero.
#define CUDA_HALF_TO(type, low, high)                 \
  explicit operator type() const {                    \
    const float x = (float)value;                     \
    return x != x ? 0 : x <= (float)low ? low : x >= (float)high ? high : (type)x; \
  }
  CUDA_HALF_TO(signed char, -128, 127)
  CUDA_HALF_TO(char, -128, 127)
  CUDA_HALF_TO(unsigned char, 0, 255)
  CUDA_HALF_TO(short, -32768, 32767)
  CUDA_HALF_TO(unsigned short, 0, 65535)
  CUDA_HALF_TO(int, (-2147483647 - 1), 2147483647)
  CUDA_HALF_TO(unsigned, 0, 4294967295u)
  CUDA_HALF_TO(long, (-9223372036854775807L - 1), 9223372036854775807L)
  CUDA_HALF_TO(unsigned long, 0, 18446744073709551615ul)
  CUDA_HALF_TO(long long, (-9223372036854775807LL - 1), 9223372036854775807LL)
  CUDA_HALF_TO(unsigned long long, 0, 18446744073709551615ull)
#undef CUDA_HALF_TO
};
typedef __half half;

struct __attribute__((aligned(4))) __half2 {
  __half x, y;
};
typedef __half2 half2;

inline __half2 make_half2(__half x, __half y) { return {x, y}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half __low2half(__half2 v) { return v.x; }
inline __half __high2half(__half2 v) { return v.y; }
inline __half __float2half(float x) { return __half(x); }
inline __half __float2half_rn(float x) { return __half(x); }
inline float __half2float(__half x) { return (float)x; }
inline __half __ushort_as_half(unsigned short x) { return __builtin_bit_cast(__half, x); }
inline unsigned short __half_as_ushort(__half x) { return __builtin_bit_cast(unsigned short, x); }

// float holds every sum, difference, product and quotient of two halves well enough to round once more.
#define CUDA_HALF_OPERATOR(operation, name)                                                   \
  inline __half operator operation(__half a, __half b) { return __half((float)a operation(float) b); } \
  inline __half& operator operation##=(__half& a, __half b) { return a = a operation b; }     \
  inline __half name(__half a, __half b) { return a operation b; }
CUDA_HALF_OPERATOR(+, __hadd)
CUDA_HALF_OPERATOR(-, __hsub)
CUDA_HALF_OPERATOR(*, __hmul)
CUDA_HALF_OPERATOR(/, __hdiv)
#undef CUDA_HALF_OPERATOR

#define CUDA_HALF_COMPARISON(operation, name)                                                   \
  inline bool operator operation(__half a, __half b) { return (float)a operation(float) b; } \
  inline bool name(__half a, __half b) { return a operation b; }
CUDA_HALF_COMPARISON(==, __heq)
CUDA_HALF_COMPARISON(!=, __hne)
CUDA_HALF_COMPARISON(<, __hlt)
CUDA_HALF_COMPARISON(<=, __hle)
CUDA_HALF_COMPARISON(>, __hgt)
CUDA_HALF_COMPARISON(>=, __hge)
#undef CUDA_HALF_COMPARISON

inline __half operator-(__half a) { return __half(-(float)a); }
inline __half operator+(__half a) { return a; }
inline __half __hneg(__half a) { return -a; }
inline __half __habs(__half a) { return __half(__builtin_fabsf((float)a)); }
inline bool __hisnan(__half a) { return a != a; }
inline __half __hmax(__half a, __half b) { return __half(__builtin_fmaxf((float)a, (float)b)); }
inline __half __hmin(__half a, __half b) { return __half(__builtin_fminf((float)a, (float)b)); }
// double holds the product and the sum.
inline __half __hfma(__half a, __half b, __half c) {
  return __half((double)(float)a * (double)(float)b + (double)(float)c);
}

#define CUDA_HALF_FUNCTION(name, function) \
  inline __half name(__half a) { return __half(function((float)a)); }
CUDA_HALF_FUNCTION(hexp, expf)
CUDA_HALF_FUNCTION(hlog, logf)
CUDA_HALF_FUNCTION(hsqrt, sqrtf)
CUDA_HALF_FUNCTION(htanh, tanhf)
CUDA_HALF_FUNCTION(hfloor, floorf)
CUDA_HALF_FUNCTION(hceil, ceilf)
CUDA_HALF_FUNCTION(htrunc, truncf)
CUDA_HALF_FUNCTION(hrint, rintf)
#undef CUDA_HALF_FUNCTION
