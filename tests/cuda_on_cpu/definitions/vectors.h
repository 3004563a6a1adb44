// CUDA's vector types, with its alignments.
#pragma once

#define CUDA_VECTORS(type, element, align2, align4)                        \
  struct type##1 {                                                         \
    element x;                                                             \
  };                                                                       \
  struct __attribute__((aligned(align2))) type##2 {                        \
    element x, y;                                                          \
  };                                                                       \
  struct type##3 {                                                         \
    element x, y, z;                                                       \
  };                                                                       \
  struct __attribute__((aligned(align4))) type##4 {                        \
    element x, y, z, w;                                                    \
  };                                                                       \
  inline type##1 make_##type##1(element x) { return {x}; }                 \
  inline type##2 make_##type##2(element x, element y) { return {x, y}; }   \
  inline type##3 make_##type##3(element x, element y, element z) {         \
    return {x, y, z};                                                      \
  }                                                                        \
  inline type##4 make_##type##4(element x, element y, element z, element w) { \
    return {x, y, z, w};                                                   \
  }

CUDA_VECTORS(char, signed char, 2, 4)
CUDA_VECTORS(uchar, unsigned char, 2, 4)
CUDA_VECTORS(short, short, 4, 8)
CUDA_VECTORS(ushort, unsigned short, 4, 8)
CUDA_VECTORS(int, int, 8, 16)
CUDA_VECTORS(uint, unsigned, 8, 16)
CUDA_VECTORS(longlong, long long, 16, 16)
CUDA_VECTORS(ulonglong, unsigned long long, 16, 16)
CUDA_VECTORS(float, float, 8, 16)
CUDA_VECTORS(double, double, 16, 16)
#undef CUDA_VECTORS
