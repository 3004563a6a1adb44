// A block of CUDA threads as fibers of one CPU thread: indices, barriers, shared memory, and what goes wrong.
//
// The fibers of a block run one after the other, each until it reaches a barrier or its end.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __inline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
// A macro, for `__shared__ alignas(64) float name[8]` is CUDA's order of words, and not that of C++.
#define alignas(bytes) __attribute__((aligned(bytes)))
// All shared memory lies in one section, which is poisoned before each block.
#define __shared__ static __attribute__((section("cuda_shared")))
// The line tells one barrier from another.
#define __syncthreads() emulation::wait_at(__LINE__)

struct dim3 {
  unsigned x, y, z;
};

static dim3 threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;

namespace emulation {

const unsigned MAX_THREADS = 1024;

struct Thread {
  jmp_buf at;
  char* stack;
  dim3 index;
  unsigned number;
  int waits_at;            // the line of a barrier, or 0 at the end
  unsigned warp_operations;  // since the barrier before
};

static Thread threads[MAX_THREADS];
static Thread* current;
static jmp_buf scheduler;
static char error[400];

// Back to whoever resumed the current thread.
__attribute__((noreturn)) static void leave() { _longjmp(scheduler, 1); }

// Give up the launch; the first error is kept.
__attribute__((noreturn, noinline, cold)) static void fail(const char* what) {
  if (!error[0])
    snprintf(error, sizeof error, "%s, in thread (%u, %u, %u) of block (%u, %u, %u)", what,
             threadIdx.x, threadIdx.y, threadIdx.z, blockIdx.x, blockIdx.y, blockIdx.z);
  leave();
}

__attribute__((noinline)) static void wait_at(int line) {
  current->waits_at = line;
  if (!_setjmp(current->at)) leave();
  __asm__ volatile("" ::: "memory");
}

// Begin an operation of a whole warp; the first lane does the work of all of them.
inline bool first_lane() {
  ++current->warp_operations;
  return current->number % 32 == 0;
}

// The vector at an address, which a GPU reads only where it is aligned to its size.
template <class Vector>
__forceinline__ Vector& at(const void* address) {
  // Three elements are read one by one.
  const size_t alignment = sizeof(Vector) % 3 ? sizeof(Vector) : sizeof(Vector) / 3;
  if ((uintptr_t)address % (alignment < 16 ? alignment : 16)) fail("an address of a vector is not aligned");
  return *(Vector*)address;
}

}  // namespace emulation
