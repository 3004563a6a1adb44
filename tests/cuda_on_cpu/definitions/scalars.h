// CUDA's functions of scalars that C's <math.h> lacks.
#pragma once

#define CUDA_EXTREMES(type)                                        \
  inline type max(type a, type b) { return a < b ? b : a; }        \
  inline type min(type a, type b) { return b < a ? b : a; }
CUDA_EXTREMES(int)
CUDA_EXTREMES(unsigned)
CUDA_EXTREMES(long)
CUDA_EXTREMES(unsigned long)
CUDA_EXTREMES(long long)
CUDA_EXTREMES(unsigned long long)
#undef CUDA_EXTREMES

// Of a number and NaN the number, as on a GPU.
inline float max(float a, float b) { return __builtin_fmaxf(a, b); }
inline float min(float a, float b) { return __builtin_fminf(a, b); }
inline double max(double a, double b) { return __builtin_fmax(a, b); }
inline double min(double a, double b) { return __builtin_fmin(a, b); }

template <class T>
inline T __ldg(const T* address) {
  return emulation::at<T>(address);
}

// The fast variants, exact here.
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline int __float_as_int(float x) { return __builtin_bit_cast(int, x); }
inline unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
inline float __int_as_float(int x) { return __builtin_bit_cast(float, x); }
inline float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }
