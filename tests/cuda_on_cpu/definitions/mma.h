// Tensor cores as nvcuda::wmma shows them: halves in, sums in float (or rounded to half after each operation).
//
// An operation is one of a whole warp. Here the first lane of a warp holds the whole of each fragment and does all the
// work; the other lanes' fragments are never touched. So lanes are in step only at barriers: what a warp stores and
// its lanes read without a barrier between is right in one order of the threads and wrong in the other.
#pragma once
#include "cuda_fp16.h"

namespace nvcuda {
namespace wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K> struct Extent;
template <int M, int N, int K> struct Extent<matrix_a, M, N, K> { enum { rows = M, columns = K }; };
template <int M, int N, int K> struct Extent<matrix_b, M, N, K> { enum { rows = K, columns = N }; };
template <int M, int N, int K> struct Extent<accumulator, M, N, K> { enum { rows = M, columns = N }; };

template <class Use, int M, int N, int K, class Element, class Layout = void>
struct fragment {
  enum { rows = Extent<Use, M, N, K>::rows, columns = Extent<Use, M, N, K>::columns };
  static_assert(M * N == 256 && K == 16, "16x16x16, 32x8x16 and 8x32x16");

  __attribute__((aligned(64))) float values[rows][columns];

  // NaN until it is filled.
  fragment() {
    if (emulation::current->number % 32 == 0) memset(values, 0xFF, sizeof values);
  }
};

// What the hardware asks of an address and of the distance of rows.
template <class Element>
inline void require_aligned(const Element* address, unsigned stride) {
  if ((uintptr_t)address % 32) emulation::fail("an address of a fragment is not a multiple of 32 bytes");
  if (stride * sizeof(Element) % 16) emulation::fail("rows of a fragment are not multiples of 16 bytes apart");
}

template <class Use, int M, int N, int K, class Element, class Layout, class Value>
inline void fill_fragment(fragment<Use, M, N, K, Element, Layout>& to, Value value) {
  if (!emulation::first_lane()) return;
  for (auto& row : to.values)
    for (float& each : row) each = (float)(Element)value;
}

template <class Fragment, class Element>
inline void load(Fragment& to, const Element* from, unsigned stride, bool by_rows) {
  if (!emulation::first_lane()) return;
  require_aligned(from, stride);
  if (by_rows)
    for (int i = 0; i < Fragment::rows; ++i)
      for (int j = 0; j < Fragment::columns; ++j) to.values[i][j] = (float)from[i * stride + j];
  else
    for (int i = 0; i < Fragment::rows; ++i)
      for (int j = 0; j < Fragment::columns; ++j) to.values[i][j] = (float)from[j * stride + i];
}

template <class Use, int M, int N, int K, class Element>
inline void load_matrix_sync(fragment<Use, M, N, K, Element, row_major>& to, const Element* from, unsigned stride) {
  load(to, from, stride, true);
}

template <class Use, int M, int N, int K, class Element>
inline void load_matrix_sync(fragment<Use, M, N, K, Element, col_major>& to, const Element* from, unsigned stride) {
  load(to, from, stride, false);
}

template <int M, int N, int K, class Element>
inline void load_matrix_sync(fragment<accumulator, M, N, K, Element>& to, const Element* from, unsigned stride,
                             layout_t layout) {
  load(to, from, stride, layout == mem_row_major);
}

template <int M, int N, int K, class Element>
inline void store_matrix_sync(Element* to, const fragment<accumulator, M, N, K, Element>& from, unsigned stride,
                              layout_t layout) {
  if (!emulation::first_lane()) return;
  require_aligned(to, stride);
  for (int i = 0; i < M; ++i)
    for (int j = 0; j < N; ++j)
      to[layout == mem_row_major ? i * stride + j : j * stride + i] = (Element)from.values[i][j];
}

template <int M, int N, int K, class Element, class LayoutA, class LayoutB>
inline void mma_sync(fragment<accumulator, M, N, K, Element>& to, const fragment<matrix_a, M, N, K, half, LayoutA>& a,
                     const fragment<matrix_b, M, N, K, half, LayoutB>& b,
                     const fragment<accumulator, M, N, K, Element>& c) {
  if (!emulation::first_lane()) return;
  // Eight sums are one value: GCC does not keep arrays in registers.
  typedef float Eight __attribute__((vector_size(32)));
  for (int i = 0; i < M; ++i)
    for (int j = 0; j < N; j += 8) {
      Eight sums = *(const Eight*)&c.values[i][j];
      for (int k = 0; k < K; ++k) sums += a.values[i][k] * *(const Eight*)&b.values[k][j];
      for (int each = 0; each < 8; ++each) to.values[i][j + each] = (float)(Element)sums[each];
    }
}

}  // namespace wmma
}  // namespace nvcuda
