// What CUDA's half and bfloat16 have in common: each operation is one in float, rounded to 16 bits, to nearest even.
//
// Numbers in float are precise enough for that to be the result of one rounding: a sum, difference, product, quotient
// or root of two numbers of 11 bits or fewer.
#pragma once
#include "cuda.h"

namespace emulation {

// `Format` has the type `Bits` of 16 bits, widens it to float, and narrows float and double to it.
template <class Format>
struct SmallFloat {
  typename Format::Bits bits;

  SmallFloat() = default;
  SmallFloat(float x) : bits(Format::narrow(x)) {}
  template <class Number>
  SmallFloat(Number x) : bits(Format::narrow((double)x)) {}

  operator float() const { return Format::widen(bits); }

  // To integers: towards zero, and into the type's range; NaN becomes zero.
  template <class Number>
  explicit operator Number() const {
    const float x = Format::widen(bits);
    if constexpr ((Number)2 == (Number)1) {  // bool
      return x != 0;
    } else if constexpr ((Number)0.5f != 0) {
      return (Number)x;
    } else {
      constexpr bool is_signed = (Number)-1 < (Number)0;
      constexpr Number high = (Number)(~0ull >> (64 - 8 * sizeof(Number) + is_signed));
      constexpr Number low = is_signed ? (Number)(-high - 1) : 0;
      return x != x ? 0 : x <= (float)low ? low : x >= (float)high ? high : (Number)x;
    }
  }
};

#define SMALL_FLOAT_OPERATOR(operation, name)                                       \
  template <class F>                                                                \
  inline SmallFloat<F> operator operation(SmallFloat<F> a, SmallFloat<F> b) {       \
    return SmallFloat<F>((float)a operation(float) b);                              \
  }                                                                                 \
  template <class F>                                                                \
  inline SmallFloat<F>& operator operation##=(SmallFloat<F>& a, SmallFloat<F> b) {  \
    return a = a operation b;                                                       \
  }                                                                                 \
  template <class F>                                                                \
  inline SmallFloat<F> name(SmallFloat<F> a, SmallFloat<F> b) {                     \
    return a operation b;                                                           \
  }
SMALL_FLOAT_OPERATOR(+, __hadd)
SMALL_FLOAT_OPERATOR(-, __hsub)
SMALL_FLOAT_OPERATOR(*, __hmul)
SMALL_FLOAT_OPERATOR(/, __hdiv)
#undef SMALL_FLOAT_OPERATOR

#define SMALL_FLOAT_COMPARISON(operation, name)                     \
  template <class F>                                                \
  inline bool operator operation(SmallFloat<F> a, SmallFloat<F> b) { \
    return (float)a operation(float) b;                             \
  }                                                                 \
  template <class F>                                                \
  inline bool name(SmallFloat<F> a, SmallFloat<F> b) {              \
    return a operation b;                                           \
  }
SMALL_FLOAT_COMPARISON(==, __heq)
SMALL_FLOAT_COMPARISON(!=, __hne)
SMALL_FLOAT_COMPARISON(<, __hlt)
SMALL_FLOAT_COMPARISON(<=, __hle)
SMALL_FLOAT_COMPARISON(>, __hgt)
SMALL_FLOAT_COMPARISON(>=, __hge)
#undef SMALL_FLOAT_COMPARISON

#define SMALL_FLOAT_FUNCTION(name, function)    \
  template <class F>                            \
  inline SmallFloat<F> name(SmallFloat<F> a) {  \
    return SmallFloat<F>(function((float)a));   \
  }
SMALL_FLOAT_FUNCTION(operator-, -)
SMALL_FLOAT_FUNCTION(operator+, +)
SMALL_FLOAT_FUNCTION(__hneg, -)
SMALL_FLOAT_FUNCTION(__habs, fabsf)
SMALL_FLOAT_FUNCTION(hexp, expf)
SMALL_FLOAT_FUNCTION(hlog, logf)
SMALL_FLOAT_FUNCTION(hsqrt, sqrtf)
SMALL_FLOAT_FUNCTION(htanh, tanhf)
SMALL_FLOAT_FUNCTION(hfloor, floorf)
SMALL_FLOAT_FUNCTION(hceil, ceilf)
SMALL_FLOAT_FUNCTION(htrunc, truncf)
SMALL_FLOAT_FUNCTION(hrint, rintf)
#undef SMALL_FLOAT_FUNCTION

template <class F>
inline bool __hisnan(SmallFloat<F> a) {
  return a != a;
}
template <class F>
inline SmallFloat<F> __hmax(SmallFloat<F> a, SmallFloat<F> b) {
  return SmallFloat<F>(fmaxf((float)a, (float)b));
}
template <class F>
inline SmallFloat<F> __hmin(SmallFloat<F> a, SmallFloat<F> b) {
  return SmallFloat<F>(fminf((float)a, (float)b));
}
template <class F>
inline SmallFloat<F> __hfma(SmallFloat<F> a, SmallFloat<F> b, SmallFloat<F> c) {
  return SmallFloat<F>((double)(float)a * (double)(float)b + (double)(float)c);
}

}  // namespace emulation

