// Runs the blocks of a launch; it follows the generated source.
#pragma once
#include <sys/mman.h>
#include <ucontext.h>
#undef alignas
#undef __shared__

extern "C" {
extern char __start_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_cuda_shared[] __attribute__((weak, visibility("hidden")));
}

namespace emulation {

struct Launch {
  dim3 grid, block;
  unsigned long long first, step;  // of the blocks that this call runs
  int reversed;                    // run a block's threads from the last to the first
};

static void (*body)(void** arguments);
static void** body_arguments;
static unsigned prepared;  // threads whose fiber is there

const size_t STACK = 256 << 10, PAGE = 4096;

// What each fiber does: run the kernel once for every block.
static void live() {
  for (;;) {
    current->waits_at = 0;
    if (!_setjmp(current->at)) leave();
    __asm__ volatile("" ::: "memory");
    body(body_arguments);
  }
}

static bool prepare(unsigned count) {
  static ucontext_t context;
  static volatile unsigned each;
  for (each = prepared; each < count; ++each) {
    Thread& thread = threads[each];
    // The page below catches a stack that is too small; one page more, and tops that differ, keep stacks from
    // meeting in the same lines of the caches.
    if (!thread.stack) {
      void* memory = mmap(nullptr, STACK + 2 * PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED || mprotect(memory, PAGE, PROT_NONE)) return false;
      thread.stack = (char*)memory + PAGE;
    }
    getcontext(&context);
    context.uc_stack.ss_sp = thread.stack;
    context.uc_stack.ss_size = STACK + each * 832 % PAGE / 64 * 64;
    context.uc_link = nullptr;
    makecontext(&context, live, 0);
    thread.number = each;
    current = &thread;
    if (!_setjmp(scheduler)) setcontext(&context);
  }
  prepared = count > prepared ? count : prepared;
  return true;
}

// A process has a limit to its mappings, and tests load hundreds of libraries: none keeps its stacks.
static void release() {
  for (unsigned each = 0; each < MAX_THREADS; ++each) {
    Thread& thread = threads[each];
    if (thread.stack) munmap(thread.stack - PAGE, STACK + 2 * PAGE);
    thread.stack = nullptr;
  }
  prepared = 0;
}

__attribute__((noinline)) static void resume(Thread& thread) {
  current = &thread;
  threadIdx = thread.index;
  if (!_setjmp(scheduler)) _longjmp(thread.at, 1);
  __asm__ volatile("" ::: "memory");
}

// All threads have come to a barrier, or to their end: it must be the same one.
static void compare(unsigned count) {
  for (unsigned each = 0; each < count; ++each) {
    Thread& thread = threads[each];
    Thread& lane = threads[each / 32 * 32];
    threadIdx = thread.index;
    if (thread.waits_at != threads[0].waits_at) {
      char what[160], places[2][24];
      const int lines[] = {threads[0].waits_at, thread.waits_at};
      for (int i = 0; i < 2; ++i) snprintf(places[i], sizeof places[i], lines[i] ? "line %d" : "the end", lines[i]);
      snprintf(what, sizeof what, "a barrier is not reached by all threads: the first came to %s, this one to %s",
               places[0], places[1]);
      if (!_setjmp(scheduler)) fail(what);
      return;
    }
    if (thread.warp_operations != lane.warp_operations) {
      if (!_setjmp(scheduler)) fail("an operation of a warp is not reached by all of its lanes");
      return;
    }
  }
  for (unsigned each = 0; each < count; ++each) threads[each].warp_operations = 0;
}

static const char* run_blocks(const Launch& launch, void (*kernel)(void**), void** arguments) {
  error[0] = 0;
  gridDim = launch.grid;
  blockDim = launch.block;
  const unsigned count = blockDim.x * blockDim.y * blockDim.z;
  if (count > MAX_THREADS) return "a block has more than 1024 threads";
  if (!prepare(count)) return "no memory for the threads' stacks";
  body = kernel;
  body_arguments = arguments;
  for (unsigned each = 0; each < count; ++each) {
    threads[each].index = {each % blockDim.x, each / blockDim.x % blockDim.y, each / blockDim.x / blockDim.y};
    threads[each].warp_operations = 0;
  }
  const unsigned long long blocks = 1ull * gridDim.x * gridDim.y * gridDim.z;
  for (unsigned long long block = launch.first; block < blocks; block += launch.step) {
    blockIdx = {(unsigned)(block % gridDim.x), (unsigned)(block / gridDim.x % gridDim.y),
                (unsigned)(block / gridDim.x / gridDim.y)};
    if (__start_cuda_shared) memset(__start_cuda_shared, 0xFF, __stop_cuda_shared - __start_cuda_shared);
    do {
      for (unsigned each = 0; each < count && !error[0]; ++each)
        resume(threads[launch.reversed ? count - 1 - each : each]);
      if (!error[0]) compare(count);
      if (error[0]) return error;
    } while (threads[0].waits_at);
  }
  return nullptr;
}

static const char* run(const Launch& launch, void (*kernel)(void**), void** arguments) {
  const char* problem = run_blocks(launch, kernel, arguments);
  release();
  return problem;
}

template <int... I> struct Indices {};
template <int N, int... I> struct UpTo : UpTo<N - 1, N - 1, I...> {};
template <int... I> struct UpTo<0, I...> { typedef Indices<I...> type; };

// Calls a kernel with arguments at the addresses of an array, as cuLaunchKernel takes them.
template <class... Parameters, int... I>
__forceinline__ void call(void (*kernel)(Parameters...), void** arguments, Indices<I...>) {
  kernel(*(Parameters*)arguments[I]...);
}
template <class... Parameters>
__forceinline__ void call(void (*kernel)(Parameters...), void** arguments) {
  call(kernel, arguments, typename UpTo<sizeof...(Parameters)>::type());
}

}  // namespace emulation

// `launch_<kernel>` returns what went wrong, or null.
#define EMULATED_KERNEL(kernel)                                                             \
  static void call_##kernel(void** arguments) { emulation::call(kernel, arguments); }       \
  extern "C" __attribute__((visibility("default"))) const char* launch_##kernel(            \
      const emulation::Launch* launch, void** arguments) {                                  \
    return emulation::run(*launch, call_##kernel, arguments);                               \
  }
